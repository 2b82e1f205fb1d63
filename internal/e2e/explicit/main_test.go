// Package explicit tests the explicit proxy with real clients and their own proxy settings, and with clients
// that ask for what they may not reach.
package explicit

import (
	"testing"

	"ftpgate/internal/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
