//go:build cgo

package system

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// In a program with cgo the error comes before any change.
func TestKeepCapabilitiesWithCgo(t *testing.T) {
	before, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = KeepCapabilities(unix.CAP_NET_ADMIN)
	if !errors.Is(err, unix.ENOTSUP) ||
		!strings.Contains(err.Error(), "built with cgo; build it with CGO_ENABLED=0") {
		t.Errorf("got %v; want to be told of cgo", err)
	}
	if after, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err != nil || after != before {
		t.Errorf("got no_new_privs %d, error %v; want it left at %d", after, err, before)
	}
}
