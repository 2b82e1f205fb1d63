// Package observe tests what ftpgate reports while it runs: sessions, metrics, logs of transfers,
// journal and service manager.
package observe

import (
	"testing"

	"ftpgate/internal/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
