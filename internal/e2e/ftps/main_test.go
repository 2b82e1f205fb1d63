// Package ftps tests sessions with TLS: refused, passed through, and ended at the gateway on either leg, with
// hostile and scripted peers. Package interop has the real ones.
package ftps

import (
	"testing"

	"ftpgate/internal/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
