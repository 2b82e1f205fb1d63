// Package differential holds ftpgate to its promise: what works directly works through the gateway. It runs a
// script of a client against a script of a server directly, over the kernel path and over the relay, and
// compares what both ends saw. Each difference is a fault, or a row of the table in docs/limits.md.
//
// The pairs are in testdata/pairs; more are drawn at random. Package script has the language, package play
// the two ends.
package differential

import (
	"testing"

	"ftpgate/internal/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
