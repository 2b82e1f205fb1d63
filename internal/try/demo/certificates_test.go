package demo

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"ftpgate/internal/try/demo/scenario"
	"ftpgate/internal/try/testca"
)

// TestWithCertificates: they are there and fit together, nobody else may read them, and they go.
func TestWithCertificates(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	why, made := errors.New("used up"), ""
	err := withCertificates(func(_ *testca.Authority, dir string) error {
		made = dir
		for _, pair := range [][2]string{{serverFile, serverKeyFile}, {scenario.GatewayFile, scenario.GatewayKeyFile}} {
			if _, err := tls.LoadX509KeyPair(filepath.Join(dir, pair[0]), filepath.Join(dir, pair[1])); err != nil {
				t.Error(err)
			}
		}
		if mode, err := os.Stat(filepath.Join(dir, scenario.GatewayKeyFile)); err != nil || mode.Mode().Perm() != 0o600 {
			t.Errorf("got %v, %v; want 0600", mode, err)
		}
		return why
	})
	if !errors.Is(err, why) {
		t.Errorf("got %v; want %v", err, why)
	}
	if _, err := os.Stat(made); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: got %v; want it gone", made, err)
	}
}
