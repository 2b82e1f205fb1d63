// Package proxy tests how ftpgate serves plain FTP with the tracking proxy: its data paths, limits, hostile
// peers, reload and stop.
package proxy

import (
	"testing"

	"ftpgate/internal/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
