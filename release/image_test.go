package main

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestImageReproducible: the same program gives the same image, byte for byte. This test's own program stands
// for it; TestReproducible makes whole releases.
func TestImageReproducible(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var sums []string
	for range 2 {
		dir := t.TempDir()
		s := here(t, "0.2.0+git20261130142317")
		s.url = "https://example.com/ftpgate"
		if err := s.writeImages(dir, map[string]string{"amd64": program, "arm64": program},
			[]byte("the licenses\n")); err != nil {
			t.Fatal(err)
		}
		if err := writeChecksums(dir); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, string(text))
	}
	if sums[0] != sums[1] {
		t.Errorf("got the checksums\n%s\nthen\n%s\nwant the same twice", sums[0], sums[1])
	}
	for _, name := range []string{"ftpgate-0.2.0+git20261130142317-image/index.json",
		"ftpgate-0.2.0+git20261130142317-image-amd64.tar",
		"ftpgate-0.2.0+git20261130142317-image-arm64.tar"} {
		if !strings.Contains(sums[0], "  "+name+"\n") {
			t.Errorf("got the checksums\n%s\nwant %s among them", sums[0], name)
		}
	}
}

// TestAuthorities: the image trusts about as many authorities as browsers do.
func TestAuthorities(t *testing.T) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authorities()) {
		t.Fatal("got no certificates")
	}
	if got := strings.Count(string(authorities()), "BEGIN CERTIFICATE"); got < 80 {
		t.Errorf("got %d certificates; want 80 or more", got)
	}
}
