package main

import (
	"strings"
	"testing"
)

// TestManual: the head that man(1) wants, links that lead somewhere on the host, and nothing for bad pages.
func TestManual(t *testing.T) {
	e := edition{program: "ftpgate 0.2.0", date: "2026-11-30", documents: "/doc"}
	got, err := e.manual("# ftpgate(8)\n\n## Name\n\nftpgate - a gateway\n\n## See also\n\n" +
		"[ftpgate.toml(5)](ftpgate.toml.5.md), [limits](../limits.md#tls)\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		".TH \"FTPGATE\" \"8\" \"2026-11-30\" \"ftpgate 0.2.0\" \"System Administration\"\n",
		".SH NAME\nftpgate \\- a gateway\n", ".SH SEE ALSO\n", "\\fBftpgate.toml(5)\\fP, limits",
		"/doc/limits.md",
	} {
		if !strings.Contains(string(got), want) {
			t.Errorf("got\n%s\nwant %q in it", got, want)
		}
	}
	for _, bad := range []string{"", "# ftpgate\n", "# ftpgate(7)\n", "\n# ftpgate(8)\n"} {
		if got, err := e.manual(bad); err == nil {
			t.Errorf("%q: got %q; want an error", bad, got)
		}
	}
}
