package gateway_test

import (
	"net/netip"
	"slices"
	"testing"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ruleset/rulesettest"
)

func addrs(texts ...string) []netip.Addr {
	var list []netip.Addr
	for _, s := range texts {
		list = append(list, netip.MustParseAddr(s))
	}
	return list
}

// testForward returns a forward with kernel tracking.
func testForward(listen, server string) forward.Resolved {
	return rulesettest.Forward("main", listen, server, forward.TrackingKernel)
}

// wantFindings compares the findings as an operator reads them; it marks warnings.
func wantFindings(t *testing.T, got []finding.Finding, want ...string) {
	t.Helper()
	var texts []string
	for _, f := range got {
		s := f.String()
		if !f.IsFault() {
			s = "warning: " + s
		}
		texts = append(texts, s)
	}
	if !slices.Equal(texts, want) {
		t.Errorf("got\n%swant\n%s", lines(texts), lines(want))
	}
}

func lines(texts []string) string {
	s := ""
	for _, t := range texts {
		s += "  " + t + "\n"
	}
	return s
}
