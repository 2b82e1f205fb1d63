// Package docs tests the documents: their files, commands, examples, links and tables.
package docs

import (
	"testing"

	"ftpgate/internal/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
