package relay

import (
	"context"
	"errors"
	"net/netip"
	"syscall"
	"testing"
)

func TestBridge(t *testing.T) {
	client, srv := far(t, peer), far(t, server)
	tr := (&Path{}).Bridge(context.Background(), Leg{gateway, localAddrPort(client.Addr())}, Leg{inside, localAddrPort(srv.Addr())})
	owned(t, tr)
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
	wantComplete(t, tr, int64(len(up)), int64(len(out)))
	if tr.At().IsValid() {
		t.Errorf("a bridge listens at %s", tr.At())
	}
}

func TestBridgeBroken(t *testing.T) {
	client, srv := far(t, peer), far(t, server)
	tr := (&Path{}).Bridge(context.Background(), Leg{gateway, localAddrPort(client.Addr())}, Leg{inside, localAddrPort(srv.Addr())})
	owned(t, tr)
	a, b := acceptFrom(t, client), acceptFrom(t, srv)
	<-tr.Connected()
	reset(b)
	wantReset(t, "client", a)
	wantBroken(t, wait(t, tr), To)
}

// TestBridgeLegFails has one leg refuse: the other one is reset, or called off if it hangs.
func TestBridgeLegFails(t *testing.T) {
	gone := far(t, server)
	gone.Close()
	refuses := Leg{inside, localAddrPort(gone.Addr())}
	listens := far(t, peer)
	for _, tt := range []struct {
		name string
		a, b Leg
		side Side
		want error
	}{
		{"second refused", Leg{gateway, localAddrPort(listens.Addr())}, refuses, To, syscall.ECONNREFUSED},
		{"first refused", refuses, Leg{gateway, localAddrPort(listens.Addr())}, From, syscall.ECONNREFUSED},
		{"second refused, first hangs", Leg{gateway, localAddrPort(deaf(t).Addr())}, refuses, To, syscall.ECONNREFUSED},
		{"nowhere", Leg{gateway, localAddrPort(deaf(t).Addr())}, Leg{To: netip.AddrPort{}}, To, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := (&Path{}).Bridge(context.Background(), tt.a, tt.b)
			owned(t, tr)
			r := wait(t, tr)
			var dial *DialError
			if !errors.As(r.Err, &dial) || dial.Side != tt.side || tt.want != nil && !errors.Is(r.Err, tt.want) {
				t.Errorf("got %v; want a DialError of %q: %v", r.Err, tt.side, tt.want)
			}
			if !r.Connected.IsZero() || !r.Joined.IsZero() {
				t.Errorf("got %+v; want it neither connected nor joined", r)
			}
		})
	}
}

func TestBridgeClose(t *testing.T) {
	client := far(t, peer)
	tr := (&Path{}).Bridge(context.Background(), Leg{gateway, localAddrPort(client.Addr())}, Leg{inside, localAddrPort(deaf(t).Addr())})
	owned(t, tr)
	a := acceptFrom(t, client)
	tr.Close()
	wantReset(t, "client", a)
	if r := tr.Result(); r.Err != ErrClosed {
		t.Errorf("got %v; want %v", r.Err, ErrClosed)
	}
}
