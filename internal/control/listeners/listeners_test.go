package listeners

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/control/ftptest"
	"ftpgate/internal/core/forward"
)

// A forward is served until it is gone, and its address is known as the gateway's own that long.
func TestServe(t *testing.T) {
	g, at := newGateway(t), ftptest.FreePort(t)
	g.serve(time.Minute, ftptest.NewServer(t, "one").Resolved("archive", at))
	if !g.ListensAt(at) {
		t.Errorf("got ListensAt(%s) false; want true", at)
	}
	c := ftptest.Dial(t, at)
	c.Want("220 one")
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		g.Stop(time.Minute)
	}()
	c.WantEnd("")
	<-stopped
	if g.ListensAt(at) {
		t.Errorf("got ListensAt(%s) true after the stop; want false", at)
	}
	if c, err := net.Dial("tcp", at.String()); err == nil {
		c.Close()
		t.Error("got a connection after the stop; want none")
	}
}

// A kernel-tracked forward has no socket here.
func TestServeKernelTracked(t *testing.T) {
	g, at := newGateway(t), ftptest.FreePort(t)
	f := ftptest.NewServer(t, "one").Resolved("plc", at)
	f.Tracking = forward.TrackingKernel
	g.serve(time.Minute, f)
	if g.ListensAt(at) || len(g.serving) != 0 {
		t.Errorf("got %d listeners; want none", len(g.serving))
	}
}

// A forward that is gone drains: its transfer ends, new clients are refused, idle sessions end.
func TestDrain(t *testing.T) {
	g, at, server := newGateway(t), ftptest.FreePort(t), ftptest.NewServer(t, "one")
	g.serve(time.Minute, server.Resolved("archive", at))
	busy, idle := ftptest.Dial(t, at), ftptest.Dial(t, at)
	busy.Transfer()
	idle.Want("220 ")
	g.serve(time.Minute) // nothing
	idle.WantEnd("the gateway does not serve this address any more")
	late := ftptest.Dial(t, at)
	late.WantEnd("the gateway does not serve this address any more")
	g.mu.Lock()
	refused := slices.Clone(g.refused)
	g.mu.Unlock()
	if !slices.Contains(refused, "archive drain") {
		t.Errorf("got refusals %q; want the client that came late among them", refused)
	}
	if !g.ListensAt(at) {
		t.Error("got ListensAt false while the transfer goes on; want true")
	}
	busy.Finish(server)
	busy.WantEnd("the gateway does not serve this address any more")
	g.Stop(time.Minute)
}

// A transfer that takes longer than the drain time is ended.
func TestDrainTime(t *testing.T) {
	g, at := newGateway(t), ftptest.FreePort(t)
	g.serve(time.Minute, ftptest.NewServer(t, "one").Resolved("archive", at))
	c := ftptest.Dial(t, at)
	c.Transfer()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		g.Stop(50 * time.Millisecond)
	}()
	c.WantEnd("the gateway is shutting down")
	select {
	case <-stopped:
	case <-time.After(ftptest.Patience):
		t.Fatal("Stop waits for a session after it was ended")
	}
}

// A forward that changes keeps its socket and its sessions; new sessions follow the change.
func TestChange(t *testing.T) {
	for name, change := range map[string]func(*gateway, forward.Resolved){
		"reload":  func(g *gateway, f forward.Resolved) { g.serve(time.Minute, f) },
		"refresh": func(g *gateway, f forward.Resolved) { g.Update([]forward.Resolved{f}) },
	} {
		t.Run(name, func(t *testing.T) {
			g, at := newGateway(t), ftptest.FreePort(t)
			g.serve(time.Minute, ftptest.NewServer(t, "one").Resolved("archive", at))
			key := forward.Listen{Addr: at.Addr(), Port: at.Port()}
			socket := g.serving[key].socket
			before := ftptest.Dial(t, at)
			before.Want("220 one")
			change(g, ftptest.NewServer(t, "two").Resolved("renamed", at))
			if l := g.serving[key]; l == nil || l.socket != socket {
				t.Errorf("got listener %v; want the socket of before", l)
			}
			before.Send("NOOP")
			before.Want("200 ")
			after := ftptest.Dial(t, at)
			after.Want("220 two")
		})
	}
}

// Update starts nothing: a forward that is not served stays so.
func TestUpdateOfOthers(t *testing.T) {
	g, at := newGateway(t), ftptest.FreePort(t)
	g.Update([]forward.Resolved{ftptest.NewServer(t, "one").Resolved("archive", at)})
	if g.ListensAt(at) {
		t.Error("got a listener; want none")
	}
}

// A port in use is a finding that names the program; the other sockets are open, and Close closes them.
func TestOpenInUse(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	g, free, server := newGateway(t), ftptest.FreePort(t), ftptest.NewServer(t, "one")
	inUse := taken.Addr().(*net.TCPAddr).AddrPort()
	opened, findings := g.Open(t.Context(), []forward.Resolved{
		server.Resolved("first", inUse), server.Resolved("second", free)})
	self := fmt.Sprintf("(pid %d)", os.Getpid())
	if len(findings) != 1 || findings[0].Forward != "first" || !findings[0].IsFault() {
		t.Fatalf("got findings %v; want a fault of the first forward", findings)
	}
	text, remedy := findings[0].Text, findings[0].Remedy
	begin := fmt.Sprintf("listen %s is in use by ", inUse)
	if !strings.HasPrefix(text, begin) || !strings.HasSuffix(text, self) {
		t.Errorf("got %q; want the address, and this program %s", text, self)
	}
	if want := "stop that program or let it listen elsewhere, or choose another port"; remedy != want {
		t.Errorf("got remedy %q; want %q", remedy, want)
	}
	if len(opened) != 1 {
		t.Errorf("got %d sockets; want that of the second forward", len(opened))
	}
	opened.Close()
	if c, err := net.Dial("tcp", free.String()); err == nil {
		c.Close()
		t.Error("got a connection after Close; want none")
	}
}

// An address that this host does not have is preflight's finding, and not one more here.
func TestOpenForeignAddress(t *testing.T) {
	g := newGateway(t)
	f := ftptest.NewServer(t, "one").Resolved("archive", netip.MustParseAddrPort("192.0.2.1:2121"))
	opened, findings := g.Open(t.Context(), []forward.Resolved{f})
	if len(opened) != 0 || len(findings) != 0 {
		t.Errorf("got %d sockets, findings %v; want none", len(opened), findings)
	}
}

// A forward takes an address over from one that is given up, also while that one still has a transfer.
func TestTakeOver(t *testing.T) {
	g, at, old := newGateway(t), ftptest.FreePort(t), ftptest.NewServer(t, "old")
	g.serve(time.Minute, old.Resolved("old", at))
	c := ftptest.Dial(t, at)
	c.Transfer()
	everywhere := netip.AddrPortFrom(netip.Addr{}, at.Port()) // overlaps, but is another listen address
	g.serve(time.Minute, ftptest.NewServer(t, "new").Resolved("new", everywhere))
	next := ftptest.Dial(t, at)
	next.Want("220 new")
	c.Finish(old)
	c.WantEnd("")
	g.serve(time.Minute, old.Resolved("again", at)) // and back
	next.WantEnd("")
	back := ftptest.Dial(t, at)
	back.Want("220 old")
}

// A forward that is gone and comes back at once, while its old listener drains, is served again.
func TestServeAgainWhileDraining(t *testing.T) {
	g, at, server := newGateway(t), ftptest.FreePort(t), ftptest.NewServer(t, "one")
	g.serve(time.Minute, server.Resolved("archive", at))
	c := ftptest.Dial(t, at)
	c.Transfer()
	g.serve(time.Minute)
	g.serve(time.Minute, server.Resolved("archive", at))
	next := ftptest.Dial(t, at)
	next.Want("220 one")
	c.Finish(server)
}

// An address that cannot be taken over is logged, and the other forwards are served.
func TestTakeOverFails(t *testing.T) {
	g, at := newGateway(t), ftptest.FreePort(t)
	taken, err := net.Listen("tcp4", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	other := ftptest.FreePort(t)
	server := ftptest.NewServer(t, "one")
	forwards := []forward.Resolved{server.Resolved("first", at), server.Resolved("second", other)}
	g.Serve(context.Background(), forwards, Opened{}, time.Minute)
	c := ftptest.Dial(t, other)
	c.Want("220 one")
	c.Close()
	g.Stop(time.Minute)
	log := g.log.String()
	if !strings.Contains(log, "is in use by") || !strings.Contains(log, "forward=first") {
		t.Errorf("got the log %q; want the address in use", log)
	}
}
