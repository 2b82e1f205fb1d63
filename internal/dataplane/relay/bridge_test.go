package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/dataplane/relaytest"
)

// join joins the ends that l listen at; the connection ends with the test.
func join(t *testing.T, client, srv *net.TCPListener, dataTLS dataplane.DataTLS) *Connection {
	t.Helper()
	dc, err := opener().Bridge(context.Background(), pinhole.Bridge{
		Client: pinhole.Leg{SourceIP: relaytest.Gateway, Target: relaytest.LocalAddrPort(client.Addr())},
		Server: pinhole.Leg{SourceIP: relaytest.Inside, Target: relaytest.LocalAddrPort(srv.Addr())},
	}, dataTLS)
	if err != nil {
		t.Fatal(err)
	}
	owned(t, dc)
	if err := dc.Arm(); err != nil {
		t.Errorf("arm a bridge: got %v; want nothing to be done", err)
	}
	return dc
}

func TestBridge(t *testing.T) {
	client, srv := relaytest.Listen(t, relaytest.Peer), relaytest.Listen(t, relaytest.Server)
	dc := join(t, client, srv, dataplane.DataTLS{})
	a, b := relaytest.Accept(t, client), relaytest.Accept(t, srv)
	if got := relaytest.LocalAddrPort(a.RemoteAddr()).Addr(); got != relaytest.Gateway {
		t.Errorf("the client sees %s; want %s", got, relaytest.Gateway)
	}
	if got := relaytest.LocalAddrPort(b.RemoteAddr()).Addr(); got != relaytest.Inside {
		t.Errorf("the server sees %s; want %s", got, relaytest.Inside)
	}
	up, out := relaytest.Noise(3<<20), relaytest.Noise(2<<20)
	relaytest.Send(a, up)
	relaytest.Send(b, out)
	got := make(chan struct{})
	go func() {
		defer close(got)
		relaytest.WantData(t, "server", b, up)
	}()
	relaytest.WantData(t, "client", a, out)
	<-got
	if dc.Finish(nil); dc.Err() != nil {
		t.Errorf("Finish: got %v; want it delivered", dc.Err())
	}
	wantComplete(t, dc, int64(len(up)), int64(len(out)))
	if dc.Listen().IsValid() {
		t.Errorf("a bridge listens at %s", dc.Listen())
	}
}

func TestBridgeBroken(t *testing.T) {
	client, srv := relaytest.Listen(t, relaytest.Peer), relaytest.Listen(t, relaytest.Server)
	dc := join(t, client, srv, dataplane.DataTLS{})
	a, b := relaytest.Accept(t, client), relaytest.Accept(t, srv)
	<-dc.connected
	relaytest.Reset(b)
	relaytest.WantReset(t, "client", a)
	dc.Finish(nil)
	wantBroken(t, dc.Err(), Server)
}

// wantDialError checks which end could not be connected to, and that Finish says so.
func wantDialError(t *testing.T, dc *Connection, side Side) {
	t.Helper()
	r := wait(t, dc)
	var dial *DialError
	if !errors.As(r.Err, &dial) || dial.Side != side || !errors.Is(r.Err, syscall.ECONNREFUSED) {
		t.Errorf("got %v; want a DialError of %q: %v", r.Err, side, syscall.ECONNREFUSED)
	}
	if dc.Finish(nil); dc.Err() != r.Err {
		t.Errorf("Finish: got %v; want %v", dc.Err(), r.Err)
	}
	if !r.Connected.IsZero() || r.BothConnected {
		t.Errorf("got %+v; want it connected to no end", r)
	}
}

// TestBridgeServerRefuses must not show itself to the client.
func TestBridgeServerRefuses(t *testing.T) {
	client, srv := relaytest.Listen(t, relaytest.Peer), relaytest.Listen(t, relaytest.Server)
	srv.Close()
	wantDialError(t, join(t, client, srv, dataplane.DataTLS{}), Server)
	wantUntouched(t, client)
}

// wantUntouched connects to l and finds itself to be the first.
func wantUntouched(t *testing.T, l *net.TCPListener) {
	t.Helper()
	own := relaytest.Dial(t, relaytest.UnexpectedPeer, relaytest.LocalAddrPort(l.Addr()))
	if got, want := relaytest.LocalAddrPort(relaytest.Accept(t,
		l).RemoteAddr()), relaytest.LocalAddrPort(own.LocalAddr()); got != want {
		t.Errorf("%s connected; want no peer before %s", got, want)
	}
}

func TestBridgeClientRefuses(t *testing.T) {
	client, srv := relaytest.Listen(t, relaytest.Peer), relaytest.Listen(t, relaytest.Server)
	client.Close()
	dc := join(t, client, srv, dataplane.DataTLS{})
	relaytest.WantReset(t, "server", relaytest.Accept(t, srv))
	wantDialError(t, dc, Client)
}

// TestBridgeClose closes a bridge while it connects to the one end or the other.
func TestBridgeClose(t *testing.T) {
	t.Run("server deaf", func(t *testing.T) {
		client := relaytest.Listen(t, relaytest.Peer)
		dc := join(t, client, deaf(t), dataplane.DataTLS{})
		dc.Close()
		wantUntouched(t, client)
		if r := resultOf(dc); r.Err != ErrClosed {
			t.Errorf("got %v; want %v", r.Err, ErrClosed)
		}
	})
	t.Run("client deaf", func(t *testing.T) {
		srv := relaytest.Listen(t, relaytest.Server)
		dc := join(t, deaf(t), srv, dataplane.DataTLS{})
		b := relaytest.Accept(t, srv)
		dc.Close()
		relaytest.WantReset(t, "server", b)
		if err := dc.Err(); err != ErrClosed {
			t.Errorf("got %v; want %v", err, ErrClosed)
		}
	})
}

func TestJoinRefuses(t *testing.T) {
	to := pinhole.Leg{Target: netip.AddrPortFrom(relaytest.Server, 2000)}
	for _, bridge := range []pinhole.Bridge{{Client: to}, {Server: to}} {
		if _, err := opener().Bridge(t.Context(), bridge, dataplane.DataTLS{}); err == nil ||
			!strings.Contains(err.Error(), "not a usable target") {
			t.Errorf("%+v: got %v; want it refused", bridge, err)
		}
	}
}
