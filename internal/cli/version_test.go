package cli

import (
	"strings"
	"testing"

	"ftpgate/internal/version"
)

func TestVersion(t *testing.T) {
	for _, flag := range []string{"-v", "--version"} {
		var stdout, stderr strings.Builder
		status := Main([]string{flag}, strings.NewReader(""), &stdout, &stderr)
		if want := "ftpgate " + version.String() + "\n"; status != 0 || stdout.String() != want {
			t.Errorf("%s: got exit status %d and %q, %q; want %q", flag, status, &stdout, &stderr, want)
		}
	}
}
