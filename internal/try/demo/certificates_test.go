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

// TestWithCertificates checks that each certificate fits its key, that only the owner may read the keys, and
// that the directory is removed.
func TestWithCertificates(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	why, made := errors.New("used up"), ""
	err := withCertificates(func(_ *testca.Authority, dir string) error {
		made = dir
		for certificate, key := range map[string]string{
			serverFile:           serverKeyFile,
			scenario.GatewayFile: scenario.GatewayKeyFile,
		} {
			_, err := tls.LoadX509KeyPair(filepath.Join(dir, certificate), filepath.Join(dir, key))
			if err != nil {
				t.Error(err)
			}
		}
		mode, err := os.Stat(filepath.Join(dir, scenario.GatewayKeyFile))
		if err != nil || mode.Mode().Perm() != 0o600 {
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
