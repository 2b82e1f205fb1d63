package harness

import (
	"fmt"
	"regexp"

	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/try/lab/labtest"
)

// AwaitNoPinholes waits until the kernel has no pinhole any more: one that no peer uses lives for
// pinhole.Lifetime.
func (s *Testbed) AwaitNoPinholes() {
	s.T.Helper()
	awaitFor(s.T, pinhole.Lifetime+Timeout, "no pinhole in the kernel",
		func() bool { return s.pinholes() == 0 })
}

// AwaitPinholes waits until as many pinholes are in the kernel.
func (s *Testbed) AwaitPinholes(want int, when string) {
	s.T.Helper()
	Await(s.T, fmt.Sprintf("%s: %d pinholes", when, want), func() bool { return s.pinholes() == want })
}

var tableInLog = regexp.MustCompile(`msg=ready.* table="inet ([^"]+)"`)

// pinholes returns how many pinholes nft finds in the kernel: the elements of the largest set or map.
// One that is in use counts as long as it has an owner.
func (s *Testbed) pinholes() int {
	s.T.Helper()
	labtest.Need(s.T, "nft")
	m := tableInLog.FindStringSubmatch(s.Program.Log())
	if m == nil {
		s.T.Fatalf("got no table in the log:\n%s", s.Program.Log())
	}
	var listing struct {
		Nftables []struct{ Set, Map struct{ Elem []any } }
	}
	DecodeJSON(s.T, Shell(s.T, s.Gateway(), "nft -j list table inet %s", m[1]), &listing)
	most := 0
	for _, o := range listing.Nftables {
		most = max(most, len(o.Set.Elem), len(o.Map.Elem))
	}
	return most
}

// WantPinholes expects a number of pinholes in the kernel.
func (s *Testbed) WantPinholes(want int, when string) {
	s.T.Helper()
	if got := s.pinholes(); got != want {
		s.T.Errorf("%s: got %d pinholes; want %d", when, got, want)
	}
}
