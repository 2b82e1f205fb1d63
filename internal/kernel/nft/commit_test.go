package nft

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
	"ftpgate/internal/kernel/nftset"
	"ftpgate/internal/try/lab/labtest"
)

// Of those that go to the kernel together only who is at fault gets the error; and pinholes that
// share a key do not keep each other out.
func TestCommitTogether(t *testing.T) {
	p := ownPinholes(t, onlyIPv4(ruleset.Build("ftpgate", []forward.Resolved{
		rulesettest.Forward("main", "192.168.5.2:2121", "203.0.113.21", forward.TrackingProxy)})))
	first, sixth := nftset.encodedHoles[0], nftset.encodedHoles[1]
	seenElsewhere, leadsElsewhere := first, first
	seenElsewhere.At = netip.MustParseAddrPort("192.168.5.2:50001")
	seenElsewhere.As = netip.MustParseAddr("203.0.113.2")
	leadsElsewhere.To = netip.MustParseAddrPort("203.0.113.21:40002")
	orders := commit(p, false, first, sixth, seenElsewhere, leadsElsewhere)
	for i, o := range orders {
		if err := <-o.answer; i == 1 && !errors.Is(err, unix.ENOENT) || i != 1 && err != nil {
			t.Errorf("add %s: got error %v", o.hole, err)
		}
	}
	if len(p.held) != 2 || p.byAge.Len() != 2 {
		t.Errorf("got %d pinholes held; want the two that are left", len(p.held))
	}
	for _, o := range commit(p, true, first, sixth, seenElsewhere, leadsElsewhere, leadsElsewhere) {
		if err := <-o.answer; err != nil {
			t.Errorf("remove %s: %v", o.hole, err)
		}
	}
	if len(p.held)+p.byAge.Len()+len(p.users) > 0 {
		t.Errorf("got %v, %v left; want nothing", p.held, p.users)
	}
}

// A kernel without NFT_MSG_DESTROYSETELEM, and one that has lost a part, are left with nothing.
func TestRemoveEach(t *testing.T) {
	p := ownPinholes(t, ruleset.Build("ftpgate", []forward.Resolved{
		rulesettest.Forward("main", "192.168.5.2:2121", "203.0.113.21", forward.TrackingProxy)}))
	hole := nftset.encodedHoles[0]
	if err := <-commit(p, false, hole)[0].answer; err != nil {
		t.Fatal(err)
	}
	gone := []nftset.change{{unix.NFT_MSG_DELSETELEM, nftset.pinholeElement(nftset.leadsTo, hole)}, {unix.NFT_MSG_DELSETELEM, nftset.pinholeElement(nftset.seenAs, hole)}}
	if err := p.line.run(0, gone[0]); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.line.removeEach(gone); err != nil {
			t.Error(err)
		}
	}
	if err := p.line.run(0, gone[1]); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got error %v; want the element gone", err)
	}
}

func commit(p *nftset.Pinholes, remove bool, holes ...pinhole.Pinhole) []*nftset.order {
	orders := make([]*nftset.order, len(holes))
	for i, h := range holes {
		orders[i] = &nftset.order{hole: h, remove: remove, answer: make(chan error, 1)}
	}
	p.commit(orders)
	return orders
}

// ownPinholes returns pinholes whose writer has nothing to do, so that the test may write.
func ownPinholes(t *testing.T, table ruleset.Table) (p *nftset.Pinholes) {
	t.Helper()
	var c *Conn
	if err := labtest.Host(t).Do(func() (err error) {
		if c, err = Open(); err == nil {
			p, err = nftset.openPinholes("ftpgate", time.Hour, time.Hour)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); p.Close() })
	if err := c.Apply(table); err != nil {
		t.Fatal(err)
	}
	return p
}

// onlyIPv4 takes the maps and rules of IPv6 out of a table, as somebody might by hand.
func onlyIPv4(table ruleset.Table) ruleset.Table {
	table.Sets = slices.DeleteFunc(table.Sets, func(s ruleset.Set) bool { return s.Version == ruleset.IPv6 })
	for i := range table.Chains {
		rules := &table.Chains[i].Rules
		*rules = slices.DeleteFunc(*rules, func(r ruleset.Rule) bool { return strings.Contains(r.String(), "ip6") })
	}
	return table
}
