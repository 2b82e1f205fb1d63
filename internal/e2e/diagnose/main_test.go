// Package diagnose tests how ftpgate doctor and ftpgate explain name what is wrong.
package diagnose

import (
	"testing"

	"ftpgate/internal/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
