// Package interop tests every real client with every real server through the gateway, in every mode that both
// know: in clear, with TLS on either leg, and with TLS passed through. Its sessions run one after the other.
package interop

import (
	"testing"

	"ftpgate/internal/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
