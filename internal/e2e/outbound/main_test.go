package outbound

import (
	"testing"

	"ftpgate/internal/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
