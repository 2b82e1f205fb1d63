package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/dataplane/port"
	"ftpgate/internal/dataplane/relaytest"
)

func TestUnexpectedPeer(t *testing.T) {
	l := relaytest.Listen(t, relaytest.Server)
	dc := open(t, opener(), pinholeTo(l))
	for range 3 {
		relaytest.WantCutOff(t, "unexpected peer", relaytest.UnexpectedPeer, dc.Listen())
	}
	select {
	case <-dc.connected:
		t.Error("an unexpected peer counts as the peer")
	default:
	}
	client := relaytest.Dial(t, relaytest.Peer, dc.Listen())
	srv := relaytest.Accept(t, l)
	relaytest.Send(client, []byte("mine"))
	relaytest.WantData(t, "server", srv, []byte("mine"))
	relaytest.WantRefused(t, dc.Listen())
	srv.Close()
	if r := wait(t, dc); r.Err != nil || r.UnexpectedPeer != relaytest.UnexpectedPeer {
		t.Errorf("got %+v; want the unexpected peer", r)
	}
}

// TestOneConnection has the right peer come more than once: one connection is carried.
func TestOneConnection(t *testing.T) {
	l := relaytest.Listen(t, relaytest.Server)
	dc := open(t, opener(), pinholeTo(l))
	d := net.Dialer{Timeout: relaytest.Patience}
	var through int
	var conns []*net.TCPConn
	for range 5 {
		c, err := d.DialTCP(t.Context(), "tcp", netip.AddrPortFrom(relaytest.Peer, 0), dc.Listen())
		if err == nil {
			conns = append(conns, relaytest.Impatient(t, c))
		}
	}
	srv := relaytest.Accept(t, l)
	if err := <-relaytest.Send(srv, []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, c := range conns {
		if n, err := c.Read(make([]byte, 1)); n == 1 {
			through++
			c.Close()
		} else if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v; want data or a reset", err)
		}
	}
	if through != 1 {
		t.Errorf("got %d connections through; want 1", through)
	}
	if r := wait(t, dc); r.Err != nil || r.UnexpectedPeer.IsValid() {
		t.Errorf("got %+v; want neither an error nor unexpected peers", r)
	}
}

func TestNoPeer(t *testing.T) {
	began := time.Now()
	dc := open(t, &Opener{Relay: newRelay(), Ports: forward.DefaultPassivePorts,
		WaitTime: 20 * time.Millisecond},
		pinholeTo(relaytest.Listen(t, relaytest.Server)))
	r := wait(t, dc)
	if !errors.Is(r.Err, ErrNoPeer) || !r.Connected.IsZero() {
		t.Errorf("got %+v; want %v", r, ErrNoPeer)
	}
	if waited := time.Since(began); waited < 20*time.Millisecond {
		t.Errorf("waited %s; want at least 20ms", waited)
	}
	relaytest.WantRefused(t, dc.Listen())
}

func TestNoPorts(t *testing.T) {
	r, held := relaytest.TakenPorts(t, 8)
	l := relaytest.Listen(t, relaytest.Server)
	_, err := (&Opener{Relay: newRelay(), Ports: r}).Open(t.Context(), pinholeTo(l), dataplane.DataTLS{})
	if !errors.Is(err, port.ErrNone) || !strings.Contains(err.Error(), r.String()) {
		t.Errorf("got %v; want %v, with the range", err, port.ErrNone)
	}
	held[3].Close() // one is free, and is found however late it is tried
	free := r.First + 3
	for range 20 {
		dc := open(t, &Opener{Relay: newRelay(), Ports: r}, pinholeTo(l))
		if got := dc.Listen().Port(); got != free {
			t.Errorf("got port %d; want %d, the only free one", got, free)
		}
		dc.Close()
	}
}

// TestPortAgain uses the only port of a range for one connection after the other.
func TestPortAgain(t *testing.T) {
	opener := &Opener{Relay: newRelay(), Ports: relaytest.FreePorts(t, 1)}
	l := relaytest.Listen(t, relaytest.Server)
	for range 20 {
		dc := open(t, opener, pinholeTo(l))
		if got := dc.Listen().Port(); got != opener.Ports.First {
			t.Fatalf("got port %d; want %d", got, opener.Ports.First)
		}
		if _, err := opener.Open(t.Context(), pinholeTo(l), dataplane.DataTLS{}); !errors.Is(err,
			port.ErrNone) {
			t.Errorf("second pinhole at the same port: got %v; want %v", err, port.ErrNone)
		}
		client := relaytest.Dial(t, relaytest.Peer, dc.Listen())
		srv := relaytest.Accept(t, l)
		srv.Close()
		relaytest.WantData(t, "client", client, nil)
		client.Close()
		if r := wait(t, dc); r.Err != nil {
			t.Error(r.Err)
		}
	}
}

// An announced and unused port rests: it is given out again after all others. A used port, or one that was
// never announced, does not rest.
func TestUnusedRests(t *testing.T) {
	opener := &Opener{Relay: newRelay(), Ports: relaytest.FreePorts(t, 20)}
	l := relaytest.Listen(t, relaytest.Server)
	seen := map[uint16]bool{}
	for range 19 {
		dc := open(t, opener, pinholeTo(l))
		if port := dc.Listen().Port(); seen[port] {
			t.Fatalf("got port %d again; want it to rest", port)
		}
		seen[dc.Listen().Port()] = true
		dc.Close()
	}
	var last uint16
	for range 10 {
		dc := reserve(t, opener, pinholeTo(l))
		if last = dc.Listen().Port(); seen[last] {
			t.Fatalf("got port %d after ports that were not announced; want the one that does not rest", last)
		}
		dc.Close()
	}
	for range 10 {
		dc := open(t, opener, pinholeTo(l))
		if port := dc.Listen().Port(); port != last {
			t.Fatalf("got port %d after ports that were used; want %d, which does not rest", port, last)
		}
		relaytest.Dial(t, relaytest.Peer, dc.Listen()).Close()
		relaytest.Accept(t, l).Close()
		wait(t, dc)
		dc.Close()
	}
	open(t, opener, pinholeTo(l)).Close()
	open(t, opener, pinholeTo(l)).Close() // all of them rest, and are given out all the same
}

func TestPortVaries(t *testing.T) {
	opener := &Opener{Relay: newRelay(), Ports: relaytest.FreePorts(t, 500)}
	l := relaytest.Listen(t, relaytest.Server)
	seen := map[uint16]bool{}
	for range 50 {
		dc := open(t, opener, pinholeTo(l))
		if !opener.Ports.Contains(dc.Listen().Port()) {
			t.Errorf("port %d is not in %s", dc.Listen().Port(), opener.Ports)
		}
		seen[dc.Listen().Port()] = true
		dc.Close()
	}
	if len(seen) < 30 { // 47 or 48 are to be expected
		t.Errorf("got %d ports in 50 draws of 500", len(seen))
	}
}

func TestOpenRefuses(t *testing.T) {
	to := netip.AddrPortFrom(relaytest.Server, 2000)
	at := netip.AddrPortFrom(relaytest.Gateway, 0)
	nowhere := netip.MustParseAddr("192.0.2.1") // RFC 5737: no address of this machine
	for _, tt := range []struct {
		name    string
		pinhole pinhole.Pinhole
		want    string
	}{
		{"no client", pinhole.Pinhole{Listen: at, Target: to}, "missing the address that connects"},
		{"any client", pinhole.Pinhole{From: netip.IPv4Unspecified(), Listen: at, Target: to},
			"missing the address that connects"},
		{"no gateway", pinhole.Pinhole{From: relaytest.Peer, Target: to},
			"missing the gateway's address"},
		{"all of the gateway", pinhole.Pinhole{From: relaytest.Peer,
			Listen: netip.AddrPortFrom(netip.IPv4Unspecified(),
				0), Target: to}, "missing the gateway's address"},
		{"two families", pinhole.Pinhole{From: relaytest.Loopback6, Listen: at, Target: to},
			"differ in address family"},
		{"no far end", pinhole.Pinhole{From: relaytest.Peer, Listen: at}, "not a usable target"},
		{"no far port", pinhole.Pinhole{From: relaytest.Peer, Listen: at,
			Target: netip.AddrPortFrom(relaytest.Server, 0)}, "not a usable target"},
		{"not our address", pinhole.Pinhole{From: relaytest.Peer, Listen: netip.AddrPortFrom(nowhere, 0),
			Target: to}, "cannot assign requested address"},
	} {
		dc, err := opener().Open(context.Background(), tt.pinhole, dataplane.DataTLS{})
		if err == nil {
			dc.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v; want %q", tt.name, err, tt.want)
		}
	}
}
