package nftset

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/core/ruleset/rulesettest"
	"ftpgate/internal/kernel/nft/nfttest"
	"ftpgate/internal/try/lab/labtest"
)

// Of requests that share a transaction, only the one at fault gets the error; and pinholes that share a key
// do not keep each other out.
func TestCommitTogether(t *testing.T) {
	p := idlePinholes(t, onlyIPv4(ruleset.Build("ftpgate", []forward.Resolved{
		rulesettest.Forward("main", "192.168.5.2:2121", "203.0.113.21", forward.TrackingProxy)})))
	first, sixth := encodedHoles[0], encodedHoles[1]
	sourceDiffers, serverDiffers := first, first
	sourceDiffers.Listen = netip.MustParseAddrPort("192.168.5.2:50001")
	sourceDiffers.SourceIP = netip.MustParseAddr("203.0.113.2")
	serverDiffers.Target = netip.MustParseAddrPort("203.0.113.21:40002")
	requests := commitRequests(p, false, first, sixth, sourceDiffers, serverDiffers)
	for i, r := range requests {
		if err := <-r.answer; i == 1 && !errors.Is(err, unix.ENOENT) || i != 1 && err != nil {
			t.Errorf("add %s: got error %v", r.pinhole, err)
		}
	}
	if len(p.installed) != 2 || p.byAge.Len() != 2 {
		t.Errorf("got %d pinholes installed; want the two that are left", len(p.installed))
	}
	for _, r := range commitRequests(p, true, first, sixth, sourceDiffers, serverDiffers, serverDiffers) {
		if err := <-r.answer; err != nil {
			t.Errorf("remove %s: %v", r.pinhole, err)
		}
	}
	if len(p.installed)+p.byAge.Len()+len(p.snatUsers) > 0 {
		t.Errorf("got %v, %v left; want nothing", p.installed, p.snatUsers)
	}
}

// deleteEach leaves nothing, even if an element is gone: it is for kernels without NFT_MSG_DESTROYSETELEM.
func TestDeleteEach(t *testing.T) {
	p := idlePinholes(t, ruleset.Build("ftpgate", []forward.Resolved{
		rulesettest.Forward("main", "192.168.5.2:2121", "203.0.113.21", forward.TrackingProxy)}))
	pinhole := encodedHoles[0]
	if err := <-commitRequests(p, false, pinhole)[0].answer; err != nil {
		t.Fatal(err)
	}
	deletions := changesOf(unix.NFT_MSG_DELSETELEM, pinholeElements(&pinhole))
	if err := p.conn.commit(0, deletions[0]); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.conn.deleteEach(deletions); err != nil {
			t.Error(err)
		}
	}
	if err := p.conn.commit(0, deletions[1]); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got error %v; want the element gone", err)
	}
}

// commitRequests commits requests of one kind together.
func commitRequests(p *PinholeSet, remove bool, holes ...pinhole.Pinhole) []*request {
	requests := make([]*request, len(holes))
	for i, h := range holes {
		requests[i] = &request{pinhole: h, remove: remove, answer: make(chan error, 1)}
	}
	p.commit(requests)
	return requests
}

// idlePinholes returns a PinholeSet whose writer has nothing to do, so that the test may commit.
func idlePinholes(t *testing.T, table ruleset.Table) (p *PinholeSet) {
	t.Helper()
	h := labtest.Host(t)
	nfttest.Apply(t, nfttest.Open(t, h), table)
	if err := h.Do(func() (err error) {
		p, err = openPinholes("ftpgate", time.Hour, time.Hour)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// onlyIPv4 removes the maps and rules of IPv6 from a table, as an administrator might by hand.
func onlyIPv4(table ruleset.Table) ruleset.Table {
	table.Sets = slices.DeleteFunc(table.Sets, func(s ruleset.Set) bool {
		return s.Version == ruleset.IPv6
	})
	for i := range table.Chains {
		rules := &table.Chains[i].Rules
		*rules = slices.DeleteFunc(*rules, func(r ruleset.Rule) bool {
			return strings.Contains(r.String(), "ip6")
		})
	}
	return table
}
