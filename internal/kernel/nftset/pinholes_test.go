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
	"ftpgate/internal/kernel/nft/nfttest"
	"ftpgate/internal/kernel/nftset"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// patience bounds how long a test waits for an event. Only a test that fails waits so long.
const patience = 20 * time.Second

// A pinhole lets its connections through, a few until it is removed, from the right address to the right
// place, and the far end sees the right address: in both directions, with the first and the second address of
// the gateway on each side.
func TestPinhole(t *testing.T) {
	l, p := pinholeLab(t)
	for _, tt := range []struct {
		name       string
		from, to   *lab.Host
		pinhole    string // as Pinhole.String writes it
		unexpected string // another address of from
	}{
		{"passive", l.Client(), l.Server(),
			"192.168.5.1 > 192.168.5.2:50000 > 203.0.113.1 > 203.0.113.21:40000", "192.168.5.9"},
		{"passive, second addresses", l.Client(), l.Server(),
			"192.168.5.1 > 192.168.5.3:50000 > 203.0.113.2 > 203.0.113.21:40000", "192.168.5.9"},
		{"passive, other second addresses", l.Client(), l.Server(),
			"192.168.5.9 > 192.168.5.2:50000 > 203.0.113.2 > 203.0.113.22:40000", "192.168.5.1"},
		{"passive, same port", l.Client(), l.Server(),
			"192.168.5.1 > 192.168.5.2:40000 > 203.0.113.1 > 203.0.113.21:40000", "192.168.5.9"},
		{"active", l.Server(), l.Client(),
			"203.0.113.21 > 203.0.113.1:50000 > 192.168.5.2 > 192.168.5.1:40000", "203.0.113.22"},
		{"active, second addresses", l.Server(), l.Client(),
			"203.0.113.21 > 203.0.113.2:50000 > 192.168.5.3 > 192.168.5.9:40000", "203.0.113.22"},
		{"passive IPv6", l.Client(), l.Server(),
			"2001:db8:5::1 > [2001:db8:5::2]:50000 > 2001:db8:113::1 > [2001:db8:113::21]:40000",
			"2001:db8:5::9"},
		{"active IPv6", l.Server(), l.Client(),
			"2001:db8:113::21 > [2001:db8:113::1]:50000 > 2001:db8:5::2 > [2001:db8:5::1]:40000",
			"2001:db8:113::22"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spec := parsePinhole(t, tt.pinhole)
			ln := listen(t, tt.to, spec.Target)
			wantRefused(t, tt.from, spec.From, spec.Listen)
			add(t, p, spec)
			wantRefused(t, tt.from, netip.MustParseAddr(tt.unexpected), spec.Listen)
			for range pinhole.FirstPackets {
				wantThrough(t, tt.from, spec, ln)
			}
			wantRefused(t, tt.from, spec.From, spec.Listen)
			remove(t, p, spec)
			add(t, p, spec)
			remove(t, p, spec)
			remove(t, p, spec)
			wantRefused(t, tt.from, spec.From, spec.Listen)
			add(t, p, spec)
			wantThrough(t, tt.from, spec, ln)
			remove(t, p, spec)
		})
	}
}

// A connection that came through needs neither the pinhole nor the PinholeSet any more.
func TestPinholeEstablished(t *testing.T) {
	l, p := pinholeLab(t)
	pinhole := parsePinhole(t, "192.168.5.1 > 192.168.5.2:50000 > 203.0.113.1 > 203.0.113.21:40000")
	ln := listen(t, l.Server(), pinhole.Target)
	add(t, p, pinhole)
	client, server := through(t, l.Client(), pinhole, ln)
	remove(t, p, pinhole)
	wantEcho(t, client, server)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	wantEcho(t, client, server)
	if err := p.Add(pinhole); !errors.Is(err, net.ErrClosed) {
		t.Errorf("add after close: got %v; want %v", err, net.ErrClosed)
	}
	if err := p.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
}

// Two pinholes of one client may lead to the same port of the server. They share an element of the snatMap
// until both are gone.
func TestPinholeSharedSource(t *testing.T) {
	labtest.Need(t, "nft")
	l, p := pinholeLab(t)
	one := parsePinhole(t, "192.168.5.1 > 192.168.5.2:50000 > 203.0.113.2 > 203.0.113.21:40000")
	two := one
	two.Listen = netip.AddrPortFrom(one.Listen.Addr(), 50001)
	ln := listen(t, l.Server(), one.Target)
	add(t, p, one)
	add(t, p, two)
	add(t, p, two) // again is the same
	remove(t, p, one)
	wantThrough(t, l.Client(), two, ln)
	remove(t, p, two)
	wantElements(t, l.Gateway(), 0)
}

// The last pinhole with a key replaces the others.
func TestPinholeElsewhere(t *testing.T) {
	l, p := pinholeLab(t)
	add(t, p, parsePinhole(t, "192.168.5.1 > 192.168.5.2:50000 > 203.0.113.1 > 203.0.113.21:40000"))
	for _, s := range []string{
		"192.168.5.1 > 192.168.5.2:50000 > 203.0.113.2 > 203.0.113.21:40000",
		"192.168.5.1 > 192.168.5.2:50000 > 203.0.113.2 > 203.0.113.22:40001",
	} {
		pinhole := parsePinhole(t, s)
		add(t, p, pinhole)
		wantThrough(t, l.Client(), pinhole, listen(t, l.Server(), pinhole.Target))
	}
}

// An unused pinhole is deleted after its time. After a crash it expires.
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
			pinhole := parsePinhole(t, "192.168.5.1 > 192.168.5.2:50000 > 203.0.113.1 > 203.0.113.21:40000")
			add(t, p, pinhole)
			if tt.crash {
				p.Close()
			}
			for stop := time.Now().Add(patience); len(listed(t, l.Gateway())) > 0; {
				if time.Now().After(stop) {
					t.Fatalf("got\n%s\nwant no elements", nfttest.List(t, l.Gateway()))
				}
			}
			wantRefused(t, l.Client(), pinhole.From, pinhole.Listen)
			if !tt.crash {
				remove(t, p, pinhole)
				add(t, p, pinhole)
			}
		})
	}
}

// A pinhole that is wanted lives on, and lets its one connection through; another one to the same place,
// whose source element it shares, does not.
func TestPinholeKeep(t *testing.T) {
	l, _ := pinholeLab(t)
	p := openPinholesFor(t, l.Gateway(), 50*time.Millisecond, time.Hour)
	pinhole := parsePinhole(t, "192.168.5.1 > 192.168.5.2:50000 > 203.0.113.1 > 203.0.113.21:40000")
	other := parsePinhole(t, "192.168.5.1 > 192.168.5.2:50001 > 203.0.113.1 > 203.0.113.21:40000")
	add(t, p, pinhole)
	add(t, p, other)
	var unwanted atomic.Bool
	asked := make(chan struct{}, 100)
	p.Keep(pinhole, func() bool {
		asked <- struct{}{}
		return !unwanted.Load()
	})
	for range 4 {
		<-asked
	}
	wantThrough(t, l.Client(), pinhole, listen(t, l.Server(), pinhole.Target))
	wantRefused(t, l.Client(), other.From, other.Listen)
	unwanted.Store(true)
	for stop := time.Now().Add(patience); len(listed(t, l.Gateway())) > 0; {
		if time.Now().After(stop) {
			t.Fatalf("got\n%s\nwant no elements", nfttest.List(t, l.Gateway()))
		}
	}
}

func TestPinholeTimeout(t *testing.T) {
	labtest.Need(t, "nft")
	l, p := pinholeLab(t)
	add(t, p, parsePinhole(t, "192.168.5.1 > 192.168.5.2:50000 > 203.0.113.1 > 203.0.113.21:40000"))
	if got := strings.Count(nfttest.List(t, l.Gateway()), "timeout 35s"); got != 2 {
		t.Errorf("got\n%s\nwant two elements with a timeout of 35 s", nfttest.List(t, l.Gateway()))
	}
}

// A hundred callers add ten thousand pinholes, and nothing is left of them.
func TestPinholeTenThousand(t *testing.T) {
	labtest.Need(t, "nft")
	h := labtest.Host(t)
	nfttest.Apply(t, nfttest.Open(t, h), pinholeTable())
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

// If the table is removed, Add reports it; a new table serves again.
func TestPinholeTableGone(t *testing.T) {
	l, p := pinholeLab(t)
	c := nfttest.Open(t, l.Gateway())
	pinhole := parsePinhole(t, "192.168.5.1 > 192.168.5.2:50000 > 203.0.113.1 > 203.0.113.21:40000")
	add(t, p, pinhole)
	if err := c.Remove("ftpgate"); err != nil {
		t.Fatal(err)
	}
	remove(t, p, pinhole)
	err := p.Add(pinhole)
	want := "nftset: add pinhole " + pinhole.String() + ": table ftpgate or its set pinhole4 is gone: "
	if !errors.Is(err, unix.ENOENT) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got error %v; want %sENOENT", err, want)
	}
	nfttest.Apply(t, c, pinholeTable())
	add(t, p, pinhole)
	wantThrough(t, l.Client(), pinhole, listen(t, l.Server(), pinhole.Target))
}

// Pinholes that another program has deleted come back, those that are still there are replaced, and those
// that are used stay away.
func TestPinholeRestore(t *testing.T) {
	l, p := pinholeLab(t)
	c := nfttest.Open(t, l.Gateway())
	spec := parsePinhole(t, "192.168.5.1 > 192.168.5.2:50000 > 203.0.113.1 > 203.0.113.21:40000")
	used := parsePinhole(t, "192.168.5.1 > 192.168.5.2:50001 > 203.0.113.1 > 203.0.113.21:40000")
	restore := func(want error) {
		t.Helper()
		if err := p.Restore(func(h pinhole.Pinhole) bool { return h == used }); !errors.Is(err, want) {
			t.Fatalf("got error %v; want %v", err, want)
		}
	}
	add(t, p, spec)
	add(t, p, used)
	if err := c.Remove("ftpgate"); err != nil {
		t.Fatal(err)
	}
	restore(unix.ENOENT)
	nfttest.Apply(t, c, pinholeTable())
	for range 2 {
		restore(nil)
		wantElements(t, l.Gateway(), 2)
	}
	ln := listen(t, l.Server(), spec.Target)
	wantThrough(t, l.Client(), spec, ln)
	wantRefused(t, l.Client(), used.From, used.Listen)
	remove(t, p, spec)
	remove(t, p, used)
	wantElements(t, l.Gateway(), 0)
}

// Pinholes outlive a change of the forwards.
func TestPinholeOutlivesReload(t *testing.T) {
	h := labtest.Host(t)
	c := nfttest.Open(t, h)
	cases := map[string][]forward.Resolved{}
	for _, k := range rulesettest.Cases() {
		cases[k.Name] = k.Forwards
	}
	nfttest.Apply(t, c, ruleset.Build("ftpgate", cases["proxy"]))
	p := openPinholes(t, h)
	pinhole := numbered(1)
	add(t, p, pinhole)
	nfttest.Apply(t, c, ruleset.Build("ftpgate", cases["proxy-kernel-none"]))
	nfttest.Apply(t, c, ruleset.Build("ftpgate", cases["proxy"]))
	wantElements(t, h, 2)
}

// Of many connections at once, a few come through.
func TestPinholeFewOfMany(t *testing.T) {
	l, p := pinholeLab(t)
	spec := parsePinhole(t, "192.168.5.1 > 192.168.5.2:50000 > 203.0.113.1 > 203.0.113.21:40000")
	listen(t, l.Server(), spec.Target)
	for range 20 {
		add(t, p, spec)
		var through atomic.Int32
		var all sync.WaitGroup
		for range 2 * pinhole.FirstPackets {
			all.Go(func() {
				if c, err := dial(t, l.Client(), spec.From, spec.Listen); err == nil {
					through.Add(1)
					c.SetLinger(0)
					c.Close()
				}
			})
		}
		if all.Wait(); through.Load() != pinhole.FirstPackets {
			t.Errorf("got %d connections through one pinhole; want %d", through.Load(), pinhole.FirstPackets)
		}
		remove(t, p, spec)
	}
}

// The kernel refuses pinholes that exceed the size of a map, until there is room again.
func TestPinholeFull(t *testing.T) {
	h := labtest.Host(t)
	table := pinholeTable()
	for i := range table.Sets {
		table.Sets[i].Size = 2
	}
	nfttest.Apply(t, nfttest.Open(t, h), table)
	p := openPinholes(t, h)
	add(t, p, numbered(0))
	add(t, p, numbered(1))
	if err := p.Add(numbered(2)); !errors.Is(err, unix.ENFILE) ||
		!strings.Contains(err.Error(), "set pinhole4 of table ftpgate is full") {
		t.Errorf("got error %v; want ENFILE", err)
	}
	remove(t, p, numbered(0))
	add(t, p, numbered(2))
}

// An element that another process left is replaced: one that leads elsewhere, and one that is used up.
func TestPinholeLeftover(t *testing.T) {
	l, crashed := pinholeLab(t)
	here := parsePinhole(t, "192.168.5.1 > 192.168.5.2:50000 > 203.0.113.1 > 203.0.113.21:40000")
	elsewhere := parsePinhole(t, "192.168.5.1 > 192.168.5.2:50000 > 203.0.113.2 > 203.0.113.22:40000")
	ln := listen(t, l.Server(), here.Target)
	for _, left := range []pinhole.Pinhole{here, elsewhere} {
		add(t, crashed, left)
		if left == here {
			for range pinhole.FirstPackets {
				wantThrough(t, l.Client(), here, ln)
			}
			wantRefused(t, l.Client(), here.From, here.Listen)
		}
		p := openPinholes(t, l.Gateway())
		add(t, p, here)
		wantThrough(t, l.Client(), here, ln)
		remove(t, p, here)
	}
}

// Pinholes that vanished with their table are no error to remove, and do not keep others from being removed.
func TestPinholeTableReplaced(t *testing.T) {
	labtest.Need(t, "nft")
	h := labtest.Host(t)
	nfttest.Apply(t, nfttest.Open(t, h), pinholeTable())
	p := openPinholes(t, h)
	add(t, p, numbered(0))
	add(t, p, numbered(1))
	nfttest.Apply(t, nfttest.Open(t, h), pinholeTable()) // a new start
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
		if err := p.Add(parsePinhole(t, s)); err == nil ||
			!strings.Contains(err.Error(), "want addresses of one family, and ports") {
			t.Errorf("%s: got error %v", s, err)
		}
	}
	if _, err := nftset.OpenPinholeSet("filter"); err == nil {
		t.Error("another program's table: got no error")
	}
}
