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
)

// join joins the ends that l listen at; the transfer ends with the test.
func join(t *testing.T, client, srv *net.TCPListener, seals DataTLS) *Transfer {
	t.Helper()
	tr, err := path().Bridge(context.Background(), pinhole.Bridge{
		Client: pinhole.Leg{SourceIP: gateway, Target: localAddrPort(client.Addr())},
		Server: pinhole.Leg{SourceIP: inside, Target: localAddrPort(srv.Addr())},
	}, seals)
	if err != nil {
		t.Fatal(err)
	}
	owned(t, tr)
	if err := tr.Arm(); err != nil {
		t.Errorf("arm a bridge: got %v; want nothing to be done", err)
	}
	return tr
}

func TestBridge(t *testing.T) {
	client, srv := far(t, peer), far(t, server)
	tr := join(t, client, srv, DataTLS{})
	a, b := acceptFrom(t, client), acceptFrom(t, srv)
	if got := localAddrPort(a.RemoteAddr()).Addr(); got != gateway {
		t.Errorf("the client sees %s; want %s", got, gateway)
	}
	if got := localAddrPort(b.RemoteAddr()).Addr(); got != inside {
		t.Errorf("the server sees %s; want %s", got, inside)
	}
	up, out := noise(3<<20), noise(2<<20)
	send(a, up)
	send(b, out)
	got := make(chan struct{})
	go func() {
		defer close(got)
		wantData(t, "server", b, up)
	}()
	wantData(t, "client", a, out)
	<-got
	if err := tr.Finish(nil); err != nil {
		t.Errorf("Finish: got %v; want it delivered", err)
	}
	wantComplete(t, tr, int64(len(up)), int64(len(out)))
	if tr.At().IsValid() {
		t.Errorf("a bridge listens at %s", tr.At())
	}
}

func TestBridgeBroken(t *testing.T) {
	client, srv := far(t, peer), far(t, server)
	tr := join(t, client, srv, DataTLS{})
	a, b := acceptFrom(t, client), acceptFrom(t, srv)
	<-tr.Connected()
	reset(b)
	wantReset(t, "client", a)
	wantBroken(t, tr.Finish(nil), To)
}

// wantDialError checks which end could not be connected to, and that Finish says so.
func wantDialError(t *testing.T, tr *Transfer, side Side) {
	t.Helper()
	r := wait(t, tr)
	var dial *DialError
	if !errors.As(r.Err, &dial) || dial.Side != side || !errors.Is(r.Err, syscall.ECONNREFUSED) {
		t.Errorf("got %v; want a DialError of %q: %v", r.Err, side, syscall.ECONNREFUSED)
	}
	if err := tr.Finish(nil); err != r.Err {
		t.Errorf("Finish: got %v; want %v", err, r.Err)
	}
	if !r.Connected.IsZero() || !r.Joined.IsZero() {
		t.Errorf("got %+v; want it neither connected nor joined", r)
	}
}

// TestBridgeServerRefuses must not show itself to the client.
func TestBridgeServerRefuses(t *testing.T) {
	client, srv := far(t, peer), far(t, server)
	srv.Close()
	wantDialError(t, join(t, client, srv, DataTLS{}), To)
	wantUntouched(t, client)
}

// wantUntouched connects to l and finds itself to be the first.
func wantUntouched(t *testing.T, l *net.TCPListener) {
	t.Helper()
	own := dialFrom(t, stranger, localAddrPort(l.Addr()))
	if got, want := localAddrPort(acceptFrom(t, l).RemoteAddr()), localAddrPort(own.LocalAddr()); got != want {
		t.Errorf("%s connected; want nobody before %s", got, want)
	}
}

func TestBridgeClientRefuses(t *testing.T) {
	client, srv := far(t, peer), far(t, server)
	client.Close()
	tr := join(t, client, srv, DataTLS{})
	wantReset(t, "server", acceptFrom(t, srv))
	wantDialError(t, tr, From)
}

// TestBridgeClose closes a bridge while it connects to the one end or the other.
func TestBridgeClose(t *testing.T) {
	t.Run("server deaf", func(t *testing.T) {
		client := far(t, peer)
		tr := join(t, client, deaf(t), DataTLS{})
		tr.Close()
		wantUntouched(t, client)
		if r := tr.Result(); r.Err != ErrClosed {
			t.Errorf("got %v; want %v", r.Err, ErrClosed)
		}
	})
	t.Run("client deaf", func(t *testing.T) {
		srv := far(t, server)
		tr := join(t, deaf(t), srv, DataTLS{})
		b := acceptFrom(t, srv)
		tr.Close()
		wantReset(t, "server", b)
		if err := tr.Finish(nil); err != ErrClosed {
			t.Errorf("got %v; want %v", err, ErrClosed)
		}
	})
}

func TestJoinRefuses(t *testing.T) {
	to := pinhole.Leg{Target: netip.AddrPortFrom(server, 2000)}
	for _, bridge := range []pinhole.Bridge{{Client: to}, {Server: to}} {
		if _, err := path().Bridge(t.Context(), bridge, DataTLS{}); err == nil || !strings.Contains(err.Error(), "nowhere to connect to") {
			t.Errorf("%+v: got %v; want it refused", bridge, err)
		}
	}
}
