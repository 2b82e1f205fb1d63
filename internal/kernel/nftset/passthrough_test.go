package nftset_test

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/core/ruleset/rulesettest"
	"ftpgate/internal/kernel/nft"
	"ftpgate/internal/kernel/nft/nfttest"
	"ftpgate/internal/kernel/nftset"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

var passthroughPorts = forward.PortRange{First: 50000, Last: 50100}

// passthroughTable returns a table for passthrough ranges with these ports.
func passthroughTable(ports forward.PortRange) ruleset.Table {
	f := rulesettest.Forward("main", "192.168.5.2:2121", "203.0.113.21", forward.TrackingProxy)
	f.ServerPorts = ports
	return ruleset.Build("ftpgate", []forward.Resolved{f})
}

func passthroughLab(t *testing.T) (*lab.Lab, *nft.Conn) {
	t.Helper()
	l, _ := pinholeLab(t)
	c := nfttest.Open(t, l.Gateway())
	nfttest.Apply(t, c, passthroughTable(passthroughPorts))
	return l, c
}

// openPassthroughs returns a PassthroughSet whose renewal must not fail.
func openPassthroughs(t testing.TB, h *lab.Host) *nftset.PassthroughSet {
	t.Helper()
	return openPassthroughsFor(t, h, func(err error) { t.Error(err) }, time.Hour, time.Hour)
}

func openPassthroughsFor(t testing.TB, h *lab.Host, failed func(error), renewal, timeout time.Duration) (
	p *nftset.PassthroughSet) {
	t.Helper()
	if err := h.Do(func() (err error) {
		p, err = nftset.OpenPassthroughsFor("ftpgate", failed, renewal, timeout)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// parsePassthrough reads "FROM > AT > AS > TO", for passthroughPorts.
func parsePassthrough(t *testing.T, s string) pinhole.Passthrough {
	t.Helper()
	f := strings.Split(s, " > ")
	return pinhole.Passthrough{
		From: netip.MustParseAddr(f[0]), Listen: netip.MustParseAddr(f[1]), Ports: passthroughPorts,
		SourceIP: netip.MustParseAddr(f[2]), Target: netip.MustParseAddr(f[3]),
	}
}

// pinholeIn returns the pinhole of one connection through a passthrough range.
func pinholeIn(p pinhole.Passthrough, port uint16) pinhole.Pinhole {
	return pinhole.Pinhole{From: p.From, Listen: netip.AddrPortFrom(p.Listen, port),
		Target: netip.AddrPortFrom(p.Target, port), SourceIP: p.SourceIP}
}

func pass(t *testing.T, do func(pinhole.Passthrough) error, passthrough pinhole.Passthrough) {
	t.Helper()
	if err := do(passthrough); err != nil {
		t.Fatal(err)
	}
}

const usualPassthrough = "192.168.5.1 > 192.168.5.2 > 203.0.113.1 > 203.0.113.21"

// A passthrough range lets its client through any number of times, to its ports only, and no other client.
// The server sees the right address.
func TestPassthrough(t *testing.T) {
	l, _ := passthroughLab(t)
	p := openPassthroughs(t, l.Gateway())
	for _, tt := range []struct{ name, passthrough, unexpected, elsewhere string }{
		{"IPv4", usualPassthrough, "192.168.5.9", "192.168.5.3"},
		{"second addresses", "192.168.5.9 > 192.168.5.3 > 203.0.113.2 > 203.0.113.22",
			"192.168.5.1", "192.168.5.2"},
		{"IPv6", "2001:db8:5::1 > 2001:db8:5::2 > 2001:db8:113::1 > 2001:db8:113::21", "2001:db8:5::9", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			passthrough := parsePassthrough(t, tt.passthrough)
			at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(passthrough.Listen, port) }
			lns := map[uint16]*net.TCPListener{}
			for _, port := range []uint16{49999, 50000, 50007, 50100, 50101} {
				lns[port] = listen(t, l.Server(), pinholeIn(passthrough, port).Target)
			}
			wantRefused(t, l.Client(), passthrough.From, at(50007))
			pass(t, p.Add, passthrough)
			for _, port := range []uint16{50000, 50007, 50007, 50100} {
				wantThrough(t, l.Client(), pinholeIn(passthrough, port), lns[port])
			}
			wantRefused(t, l.Client(), passthrough.From, at(49999))
			wantRefused(t, l.Client(), passthrough.From, at(50101))
			wantRefused(t, l.Client(), netip.MustParseAddr(tt.unexpected), at(50007))
			if tt.elsewhere != "" {
				wantRefused(t, l.Client(), passthrough.From,
					netip.AddrPortFrom(netip.MustParseAddr(tt.elsewhere), 50007))
			}
			client, server := through(t, l.Client(), pinholeIn(passthrough, 50007), lns[50007])
			pass(t, p.Remove, passthrough)
			wantRefused(t, l.Client(), passthrough.From, at(50007))
			wantEcho(t, client, server)
			pass(t, p.Remove, passthrough)
			pass(t, p.Add, passthrough)
			pass(t, p.Add, passthrough)
			wantThrough(t, l.Client(), pinholeIn(passthrough, 50007), lns[50007])
			pass(t, p.Remove, passthrough)
			wantRefused(t, l.Client(), passthrough.From, at(50007))
		})
	}
}

// Two clients reach two servers through one address of the gateway, each its own.
func TestPassthroughTwoClients(t *testing.T) {
	l, _ := passthroughLab(t)
	p := openPassthroughs(t, l.Gateway())
	one := parsePassthrough(t, usualPassthrough)
	two := parsePassthrough(t, "192.168.5.9 > 192.168.5.2 > 203.0.113.2 > 203.0.113.22")
	for _, passthrough := range []pinhole.Passthrough{one, two} {
		pass(t, p.Add, passthrough)
		wantThrough(t, l.Client(), pinholeIn(passthrough, 50007), listen(t, l.Server(), pinholeIn(passthrough,
			50007).Target))
	}
	pass(t, p.Remove, one)
	wantRefused(t, l.Client(), one.From, netip.AddrPortFrom(one.Listen, 50007))
	wantThrough(t, l.Client(), pinholeIn(two, 50008), listen(t, l.Server(), pinholeIn(two, 50008).Target))
}

// A range is renewed before it expires, and connections meanwhile come through. Without renewal it expires.
func TestPassthroughRenewed(t *testing.T) {
	labtest.Need(t, "nft")
	l, _ := passthroughLab(t)
	const timeout = time.Second
	p := openPassthroughsFor(t, l.Gateway(), func(err error) { t.Error(err) }, time.Millisecond, timeout)
	passthrough := parsePassthrough(t, usualPassthrough)
	ln := listen(t, l.Server(), pinholeIn(passthrough, 50007).Target)
	pass(t, p.Add, passthrough)
	for stop := time.Now().Add(2 * timeout); time.Now().Before(stop) && !t.Failed(); {
		wantThrough(t, l.Client(), pinholeIn(passthrough, 50007), ln)
	}
	p.Close()
	for stop := time.Now().Add(patience); len(listed(t, l.Gateway())) > 0; {
		if time.Now().After(stop) {
			t.Fatalf("got\n%s\nwant no elements", nfttest.List(t, l.Gateway()))
		}
	}
	wantRefused(t, l.Client(), passthrough.From, netip.AddrPortFrom(passthrough.Listen, 50007))
	if err := p.Add(passthrough); !errors.Is(err, net.ErrClosed) {
		t.Errorf("add after close: got %v; want %v", err, net.ErrClosed)
	}
	if err := p.Remove(passthrough); !errors.Is(err, net.ErrClosed) {
		t.Errorf("remove after close: got %v; want %v", err, net.ErrClosed)
	}
	if err := errors.Join(p.Renew(), p.Close()); err != nil {
		t.Errorf("renew and close again: %v", err)
	}
}

func TestPassthroughTimeout(t *testing.T) {
	labtest.Need(t, "nft")
	h := labtest.Host(t)
	nfttest.Apply(t, nfttest.Open(t, h), passthroughTable(passthroughPorts))
	if err := h.Do(func() error {
		p, err := nftset.OpenPassthroughSet("ftpgate", func(err error) { t.Error(err) })
		if err != nil {
			return err
		}
		t.Cleanup(func() { p.Close() })
		return p.Add(parsePassthrough(t, usualPassthrough))
	}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(nfttest.List(t, h), "timeout 10m"); got != 2 {
		t.Errorf("got\n%s\nwant two elements with a timeout of 10 min", nfttest.List(t, h))
	}
}

// If the table is removed, the next renewal reports it at the latest. Renew adds the wanted ranges to a new
// table.
func TestPassthroughTableGone(t *testing.T) {
	l, c := passthroughLab(t)
	reported := make(chan error, 1)
	p := openPassthroughsFor(t, l.Gateway(), func(err error) {
		select {
		case reported <- err:
		default:
		}
	}, time.Millisecond, time.Hour)
	passthrough := parsePassthrough(t, usualPassthrough)
	ln := listen(t, l.Server(), pinholeIn(passthrough, 50007).Target)
	pass(t, p.Add, passthrough)
	if err := c.Remove("ftpgate"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-reported:
		const want = "nftset: renew passthroughs of ports 50000-50100: " +
			"table ftpgate or its set passage4_50000_50100 is gone: "
		if !errors.Is(err, unix.ENOENT) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got error %v; want %sENOENT", err, want)
		}
	case <-time.After(patience):
		t.Fatal("got no call of failed")
	}
	other := parsePassthrough(t, "192.168.5.9 > 192.168.5.2 > 203.0.113.1 > 203.0.113.21")
	if err := p.Add(other); !errors.Is(err, unix.ENOENT) ||
		!strings.HasPrefix(err.Error(),
			"nftset: add passthrough "+other.String()+": table ftpgate or its set ") {
		t.Errorf("got error %v; want ENOENT", err)
	}
	pass(t, p.Remove, other)
	nfttest.Apply(t, c, passthroughTable(passthroughPorts))
	if err := p.Renew(); err != nil {
		t.Fatal(err)
	}
	wantThrough(t, l.Client(), pinholeIn(passthrough, 50007), ln)
	wantRefused(t, l.Client(), other.From, netip.AddrPortFrom(other.Listen, 50007))
	if err := c.Remove("ftpgate"); err != nil {
		t.Fatal(err)
	}
	pass(t, p.Remove, passthrough)
}

// Ranges outlive a change of the forwards. They outlive their forward as long as the table keeps their maps.
func TestPassthroughOutlivesReload(t *testing.T) {
	labtest.Need(t, "nft")
	l, c := passthroughLab(t)
	p := openPassthroughs(t, l.Gateway())
	passthrough := parsePassthrough(t, usualPassthrough)
	ln := listen(t, l.Server(), pinholeIn(passthrough, 50007).Target)
	pass(t, p.Add, passthrough)
	changed := rulesettest.Forward("main", "192.168.5.2:2121", "203.0.113.21", forward.TrackingProxy)
	changed.ServerPorts = forward.PortRange{First: 40000, Last: 40500}
	for _, forwards := range [][]forward.Resolved{{changed}, nil} {
		nfttest.Apply(t, c, ruleset.Build("ftpgate", forwards, p.Ranges()...))
		wantElements(t, l.Gateway(), 2)
		wantThrough(t, l.Client(), pinholeIn(passthrough, 50007), ln)
	}
	pass(t, p.Remove, passthrough)
	if got := p.Ranges(); len(got) > 0 {
		t.Errorf("got ranges %v after the last Remove; want none", got)
	}
}

// An element that was deleted by hand is no error to remove, and comes back with the next renewal.
func TestPassthroughTakenOut(t *testing.T) {
	labtest.Need(t, "nft")
	h := labtest.Host(t)
	nfttest.Apply(t, nfttest.Open(t, h), passthroughTable(passthroughPorts))
	p := openPassthroughs(t, h)
	flush := func() {
		nfttest.Run(t, h, "flush", "map", "inet", "ftpgate", "passage4_50000_50100")
	}
	for i := range 3 {
		pass(t, p.Add, numberedPassthrough(i))
	}
	flush()
	pass(t, p.Add, numberedPassthrough(0))
	if err := p.Renew(); err != nil {
		t.Fatal(err)
	}
	wantElements(t, h, 6)
	flush()
	for i := range 3 {
		pass(t, p.Remove, numberedPassthrough(i))
	}
	wantElements(t, h, 0)
}

// An element that another process left is replaced.
func TestPassthroughLeftover(t *testing.T) {
	l, _ := passthroughLab(t)
	crashed, p := openPassthroughs(t, l.Gateway()), openPassthroughs(t, l.Gateway())
	pass(t, crashed.Add, parsePassthrough(t, "192.168.5.1 > 192.168.5.2 > 203.0.113.2 > 203.0.113.22"))
	passthrough := parsePassthrough(t, usualPassthrough)
	pass(t, p.Add, passthrough)
	wantThrough(t, l.Client(), pinholeIn(passthrough, 50007), listen(t, l.Server(), pinholeIn(passthrough,
		50007).Target))
}

func TestPassthroughFull(t *testing.T) {
	h := labtest.Host(t)
	table := passthroughTable(passthroughPorts)
	for i := range table.Sets {
		table.Sets[i].Size = 2
	}
	nfttest.Apply(t, nfttest.Open(t, h), table)
	p := openPassthroughs(t, h)
	pass(t, p.Add, numberedPassthrough(0))
	pass(t, p.Add, numberedPassthrough(1))
	if err := p.Add(numberedPassthrough(2)); !errors.Is(err, unix.ENFILE) ||
		!strings.Contains(err.Error(), "set passage4_50000_50100 of table ftpgate is full") {
		t.Errorf("got error %v; want ENFILE", err)
	}
	if err := p.Renew(); err != nil { // needs no room
		t.Error(err)
	}
	pass(t, p.Remove, numberedPassthrough(0))
	pass(t, p.Add, numberedPassthrough(2))
}

// A hundred callers add ten thousand ranges of both families, which are renewed at once; nothing is left of
// them.
func TestPassthroughTenThousand(t *testing.T) {
	labtest.Need(t, "nft")
	h := labtest.Host(t)
	nfttest.Apply(t, nfttest.Open(t, h), passthroughTable(passthroughPorts))
	p := openPassthroughs(t, h)
	each := func(do func(pinhole.Passthrough) error) {
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				for j := range 100 {
					if err := do(numberedPassthrough(100*i + j)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
	}
	each(p.Add)
	if err := p.Renew(); err != nil {
		t.Error(err)
	}
	wantElements(t, h, 20_000)
	each(p.Remove)
	wantElements(t, h, 0)
}

// numberedPassthrough returns a range with a different client for each number; every other one is IPv6.
func numberedPassthrough(i int) pinhole.Passthrough {
	p := pinhole.Passthrough{
		From:   netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}),
		Listen: netip.MustParseAddr("192.168.5.2"), Ports: passthroughPorts,
		Target: netip.MustParseAddr("203.0.113.21"), SourceIP: netip.MustParseAddr("203.0.113.1"),
	}
	if i%2 == 1 && i > 2 {
		p.From = netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 14: byte(i >> 8), 15: byte(i)})
		p.Listen = netip.MustParseAddr("2001:db8:5::2")
		p.Target, p.SourceIP = netip.MustParseAddr("2001:db8:113::21"), netip.MustParseAddr("2001:db8:113::1")
	}
	return p
}

func TestPassthroughUnsound(t *testing.T) {
	h := labtest.Host(t)
	nfttest.Apply(t, nfttest.Open(t, h), passthroughTable(passthroughPorts))
	p := openPassthroughs(t, h)
	portless, backward := parsePassthrough(t, usualPassthrough), parsePassthrough(t, usualPassthrough)
	portless.Ports, backward.Ports = forward.PortRange{}, forward.PortRange{First: 2, Last: 1}
	for _, passthrough := range []pinhole.Passthrough{portless, backward,
		parsePassthrough(t, "192.168.5.1 > 192.168.5.2 > 203.0.113.1 > 2001:db8:113::21")} {
		if err := p.Add(passthrough); err == nil ||
			!strings.Contains(err.Error(), "want addresses of one family, and ports") {
			t.Errorf("%s: got error %v", passthrough, err)
		}
	}
	pass(t, p.Add, parsePassthrough(t, usualPassthrough))
	err := p.Add(parsePassthrough(t, "192.168.5.1 > 192.168.5.2 > 203.0.113.1 > 203.0.113.22"))
	if err == nil || !strings.Contains(err.Error(), "the client has another: ") {
		t.Errorf("got error %v; want the other server refused", err)
	}
	if _, err := nftset.OpenPassthroughSet("filter", nil); err == nil {
		t.Error("another program's table: got no error")
	}
}
