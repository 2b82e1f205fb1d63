// Package observe tests what ftpgate reports while it runs: sessions, metrics, transfer logs,
// journal and service manager.
package observe

import (
	"testing"

	"ftpgate/internal/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
