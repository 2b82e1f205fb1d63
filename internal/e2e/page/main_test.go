// Package page tests the page at the admin address in a browser: what it shows, that no peer's text becomes
// markup or code there, and how it looks.
package page

import (
	"os"
	"testing"

	"ftpgate/internal/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// photos returns the directory for pictures of the page. Without it the test is skipped: a browser is large,
// and not everybody who tests ftpgate has one.
func photos(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("PAGE_PHOTOS")
	if dir == "" {
		t.Skip("PAGE_PHOTOS is not set: make test-page sets it")
	}
	return dir
}
