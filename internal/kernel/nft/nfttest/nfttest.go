// Package nfttest gives tests of the packages that use nftables a connection to the kernel, and the view of
// nft(8).
package nfttest

import (
	"encoding/json"
	"testing"

	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/kernel/nft"
	"ftpgate/internal/try/lab"
)

// Table is the name of the table in the tests.
const Table = ruleset.DefaultTable

// Open connects to the nftables of a host. The connection closes when the test ends.
func Open(tb testing.TB, h *lab.Host) *nft.Conn {
	tb.Helper()
	var c *nft.Conn
	if err := h.Do(func() (err error) { c, err = nft.Open(); return err }); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}

// Apply makes the kernel's table equal to table.
func Apply(tb testing.TB, c *nft.Conn, table ruleset.Table) {
	tb.Helper()
	if err := c.Apply(table); err != nil {
		tb.Fatal(err)
	}
}

// Run gives nft(8) a command.
func Run(tb testing.TB, h *lab.Host, args ...string) {
	tb.Helper()
	if out, err := h.Output(tb.Context(), "nft", args...); err != nil {
		tb.Fatalf("nft %q: %v\n%s", args, err, out)
	}
}

// List returns the ruleset as nft(8) prints it, without what ends with this process.
func List(tb testing.TB, h *lab.Host) string {
	tb.Helper()
	out, err := h.Output(tb.Context(), "nft", "list", "ruleset")
	if err != nil {
		tb.Fatal(err)
	}
	return string(out)
}

// ListJSON returns the whole ruleset as nft -j prints it: objects with one member, such as {"chain": ...}.
func ListJSON(tb testing.TB, h *lab.Host) []any {
	tb.Helper()
	out, err := h.Output(tb.Context(), "nft", "-j", "list", "ruleset")
	if err != nil {
		tb.Fatal(err)
	}
	var listed struct{ Nftables []any }
	if err := json.Unmarshal(out, &listed); err != nil {
		tb.Fatal(err)
	}
	return listed.Nftables
}
