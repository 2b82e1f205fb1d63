package nftset_test

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/core/ruleset/rulesettest"
	"ftpgate/internal/kernel/nftset"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// patience is how long a test waits for what must come. No test waits it out unless it fails.
const patience = 20 * time.Second

// A pinhole lets one connection through, from the right address, to the right place, seen as the right
// one; in both directions, with the first and the second address of the gateway on either side.
func TestPinhole(t *testing.T) {
	l, p := pinholeLab(t)
	for _, tt := range []struct {
		name     string
		from, to *lab.Host
		hole     string // as Pinhole.String writes it
		stranger string // another address of from
	}{
		{"passive", l.Client(), l.Server(), "192.168.5.1 > 192.168.5.2:50000 > 203.0.113.1 > 203.0.113.21:40000", "192.168.5.9"},
		{"passive, second addresses", l.Client(), l.Server(), "192.168.5.1 > 192.168.5.3:50000 > 203.0.113.2 > 203.0.113.21:40000", "192.168.5.9"},
		{"passive, other second addresses", l.Client(), l.Server(), "192.168.5.9 > 192.168.5.2:50000 > 203.0.113.2 > 203.0.113.22:40000", "192.168.5.1"},
		{"passive, same port", l.Client(), l.Server(), "192.168.5.1 > 192.168.5.2:40000 > 203.0.113.1 > 203.0.113.21:40000", "192.168.5.9"},
		{"active", l.Server(), l.Client(), "203.0.113.21 > 203.0.113.1:50000 > 192.168.5.2 > 192.168.5.1:40000", "203.0.113.22"},
		{"active, second addresses", l.Server(), l.Client(), "203.0.113.21 > 203.0.113.2:50000 > 192.168.5.3 > 192.168.5.9:40000", "203.0.113.22"},
		{"passive IPv6", l.Client(), l.Server(), "2001:db8:5::1 > [2001:db8:5::2]:50000 > 2001:db8:113::1 > [2001:db8:113::21]:40000", "2001:db8:5::9"},
		{"active IPv6", l.Server(), l.Client(), "2001:db8:113::21 > [2001:db8:113::1]:50000 > 2001:db8:5::2 > [2001:db8:5::1]:40000", "2001:db8:113::22"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hole := parseHole(t, tt.hole)
			ln := listen(t, tt.to, hole.To)
			wantRefused(t, tt.from, hole.From, hole.At)
			add(t, p, hole)
			wantRefused(t, tt.from, netip.MustParseAddr(tt.stranger), hole.At)
			wantThrough(t, tt.from, hole, ln)
			wantRefused(t, tt.from, hole.From, hole.At)
			remove(t, p, hole)
			add(t, p, hole)
			remove(t, p, hole)
			remove(t, p, hole)
			wantRefused(t, tt.from, hole.From, hole.At)
			add(t, p, hole)
			wantThrough(t, tt.from, hole, ln)
			remove(t, p, hole)
		})
	}
}

// A connection that has come through needs neither its pinhole nor who has made it.
func TestPinholeEstablished(t *testing.T) {
	l, p := pinholeLab(t)
	hole := parseHole(t, "192.168.5.1 > 192.168.5.2:50000 > 203.0.113.1 > 203.0.113.21:40000")
	ln := listen(t, l.Server(), hole.To)
	add(t, p, hole)
	client, server := through(t, l.Client(), hole, ln)
	remove(t, p, hole)
	wantEcho(t, client, server)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	wantEcho(t, client, server)
	if err := p.Add(hole); !errors.Is(err, net.ErrClosed) {
		t.Errorf("add after close: got %v; want %v", err, net.ErrClosed)
	}
	if err := p.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
}

// Two pinholes of one client may lead to the same port of the server: they share what tells whom
// the server sees, until both are gone.
func TestPinholeSharedSource(t *testing.T) {
	labtest.Need(t, "nft")
	l, p := pinholeLab(t)
	one := parseHole(t, "192.168.5.1 > 192.168.5.2:50000 > 203.0.113.2 > 203.0.113.21:40000")
	two := one
	two.At = netip.AddrPortFrom(one.At.Addr(), 50001)
	ln := listen(t, l.Server(), one.To)
	add(t, p, one)
	add(t, p, two)
	add(t, p, two) // again is the same
	remove(t, p, one)
	wantThrough(t, l.Client(), two, ln)
	remove(t, p, two)
	wantElements(t, l.Gateway(), 0)
}

// The last one to ask for a key gets it.
func TestPinholeElsewhere(t *testing.T) {
	l, p := pinholeLab(t)
	add(t, p, parseHole(t, "192.168.5.1 > 192.168.5.2:50000 > 203.0.113.1 > 203.0.113.21:40000"))
	for _, s := range []string{
		"192.168.5.1 > 192.168.5.2:50000 > 203.0.113.2 > 203.0.113.21:40000",
		"192.168.5.1 > 192.168.5.2:50000 > 203.0.113.2 > 203.0.113.22:40001",
	} {
		hole := parseHole(t, s)
		add(t, p, hole)
		wantThrough(t, l.Client(), hole, listen(t, l.Server(), hole.To))
	}
}

// A pinhole that nobody uses is taken out after its time, and without anybody who does so it expires.
func TestPinholeGoesAway(t *testing.T) {
	labtest.Need(t, "nft")
	for _, tt := range []struct {
		name          string
		life, timeout time.Duration
		crash         bool
	}{
		{"taken out", 100 * time.Millisecond, time.Hour, false},
		{"crash", time.Hour, 300 * time.Millisecond, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, _ := pinholeLab(t)
			p := openPinholesFor(t, l.Gateway(), tt.life, tt.timeout)
			hole := parseHole(t, "192.168.5.1 > 192.168.5.2:50000 > 203.0.113.1 > 203.0.113.21:40000")
			add(t, p, hole)
			if tt.crash {
				p.Close()
			}
			for stop := time.Now().Add(patience); len(listed(t, l.Gateway())) > 0; {
				if time.Now().After(stop) {
					t.Fatalf("got\n%s\nwant no elements", nft.dump(t, l.Gateway()))
				}
			}
			wantRefused(t, l.Client(), hole.From, hole.At)
			if !tt.crash {
				remove(t, p, hole)
				add(t, p, hole)
			}
		})
	}
}

func TestPinholeTimeout(t *testing.T) {
	labtest.Need(t, "nft")
	l, p := pinholeLab(t)
	add(t, p, parseHole(t, "192.168.5.1 > 192.168.5.2:50000 > 203.0.113.1 > 203.0.113.21:40000"))
	if got := strings.Count(nft.dump(t, l.Gateway()), "timeout 30s"); got != 2 {
		t.Errorf("got\n%s\nwant two elements with a timeout of 30 s", nft.dump(t, l.Gateway()))
	}
}

// Ten thousand pinholes stand at once, put in by a hundred at a time, and nothing is left of them.
func TestPinholeTenThousand(t *testing.T) {
	labtest.Need(t, "nft")
	h := labtest.Host(t)
	nft.apply(t, nft.open(t, h), pinholeTable())
	p := openPinholes(t, h)
	each := func(do func(pinhole.Pinhole) error) {
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				for j := range 100 {
					if err := do(numbered(100*i + j)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
	}
	each(p.Add)
	wantElements(t, h, 20_000)
	each(p.Remove)
	wantElements(t, h, 0)
}

// Who takes the table away is found out, and a new one serves again.
func TestPinholeTableGone(t *testing.T) {
	l, p := pinholeLab(t)
	c := nft.open(t, l.Gateway())
	hole := parseHole(t, "192.168.5.1 > 192.168.5.2:50000 > 203.0.113.1 > 203.0.113.21:40000")
	add(t, p, hole)
	if err := c.Remove("ftpgate"); err != nil {
		t.Fatal(err)
	}
	remove(t, p, hole)
	err := p.Add(hole)
	if want := "nft: add pinhole " + hole.String() + ": table ftpgate or its set pinhole4 is gone: "; !errors.Is(err, unix.ENOENT) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got error %v; want %sENOENT", err, want)
	}
	nft.apply(t, c, pinholeTable())
	add(t, p, hole)
	wantThrough(t, l.Client(), hole, listen(t, l.Server(), hole.To))
}

// Pinholes outlive a change of the forwards beside them.
func TestPinholeOutlivesReload(t *testing.T) {
	h := labtest.Host(t)
	c := nft.open(t, h)
	cases := map[string][]forward.Resolved{}
	for _, k := range rulesettest.Cases() {
		cases[k.Name] = k.Forwards
	}
	nft.apply(t, c, ruleset.Build("ftpgate", cases["proxy"]))
	p := openPinholes(t, h)
	hole := numbered(1)
	add(t, p, hole)
	nft.apply(t, c, ruleset.Build("ftpgate", cases["proxy-kernel-none"]))
	nft.apply(t, c, ruleset.Build("ftpgate", cases["proxy"]))
	wantElements(t, h, 2)
}

// However many come at once, one gets through.
func TestPinholeOneOfMany(t *testing.T) {
	l, p := pinholeLab(t)
	hole := parseHole(t, "192.168.5.1 > 192.168.5.2:50000 > 203.0.113.1 > 203.0.113.21:40000")
	listen(t, l.Server(), hole.To)
	for range 20 {
		add(t, p, hole)
		var through atomic.Int32
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if c, err := dial(t, l.Client(), hole.From, hole.At); err == nil {
					through.Add(1)
					c.SetLinger(0)
					c.Close()
				}
			})
		}
		if all.Wait(); through.Load() != 1 {
			t.Errorf("got %d connections through one pinhole", through.Load())
		}
		remove(t, p, hole)
	}
}

// The maps have a size; what does not fit is refused, until there is room again.
func TestPinholeFull(t *testing.T) {
	h := labtest.Host(t)
	table := pinholeTable()
	for i := range table.Sets {
		table.Sets[i].Size = 2
	}
	nft.apply(t, nft.open(t, h), table)
	p := openPinholes(t, h)
	add(t, p, numbered(0))
	add(t, p, numbered(1))
	if err := p.Add(numbered(2)); !errors.Is(err, unix.ENFILE) || !strings.Contains(err.Error(), "set pinhole4 of table ftpgate is full") {
		t.Errorf("got error %v; want ENFILE", err)
	}
	remove(t, p, numbered(0))
	add(t, p, numbered(2))
}

// What another process has left, or put in by hand, makes way, too: what leads elsewhere, and what
// is used up.
func TestPinholeLeftover(t *testing.T) {
	l, crashed := pinholeLab(t)
	hole := parseHole(t, "192.168.5.1 > 192.168.5.2:50000 > 203.0.113.1 > 203.0.113.21:40000")
	elsewhere := parseHole(t, "192.168.5.1 > 192.168.5.2:50000 > 203.0.113.2 > 203.0.113.22:40000")
	ln := listen(t, l.Server(), hole.To)
	for _, left := range []pinhole.Pinhole{hole, elsewhere} {
		add(t, crashed, left)
		if left == hole {
			wantThrough(t, l.Client(), hole, ln)
		}
		p := openPinholes(t, l.Gateway())
		add(t, p, hole)
		wantThrough(t, l.Client(), hole, ln)
		remove(t, p, hole)
	}
}

// Pinholes that went away with a table are no error to remove, and do not keep others in.
func TestPinholeTableReplaced(t *testing.T) {
	labtest.Need(t, "nft")
	h := labtest.Host(t)
	nft.apply(t, nft.open(t, h), pinholeTable())
	p := openPinholes(t, h)
	add(t, p, numbered(0))
	add(t, p, numbered(1))
	nft.apply(t, nft.open(t, h), pinholeTable()) // a new start
	add(t, p, numbered(1))
	add(t, p, numbered(2))
	remove(t, p, numbered(0))
	remove(t, p, numbered(1))
	wantElements(t, h, 2)
}

func TestPinholeUnsound(t *testing.T) {
	h := labtest.Host(t)
	p := openPinholes(t, h)
	for _, s := range []string{
		"192.168.5.1 > 192.168.5.2:0 > 203.0.113.1 > 203.0.113.21:40000",
		"192.168.5.1 > 192.168.5.2:50000 > 203.0.113.1 > 203.0.113.21:0",
		"192.168.5.1 > 192.168.5.2:50000 > 203.0.113.1 > [2001:db8::1]:40000",
	} {
		if err := p.Add(parseHole(t, s)); err == nil || !strings.Contains(err.Error(), "want addresses of one family, and ports") {
			t.Errorf("%s: got error %v", s, err)
		}
	}
	if _, err := nftset.OpenPinholes("filter"); err == nil {
		t.Error("another program's table: got no error")
	}
}
