// Package kernel tests forwards that the kernel serves alone, with the trackings kernel and none, and the
// program around them: how it starts, reloads, starts again, and stops.
package kernel

import (
	"testing"

	"ftpgate/internal/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
