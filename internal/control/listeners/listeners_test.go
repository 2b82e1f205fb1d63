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

	"ftpgate/internal/core/forward"
)

// A forward is served until it is gone, and its address is known as the gateway's own that long.
func TestServe(t *testing.T) {
	g, at := newGateway(t), freePort(t)
	g.serve(time.Minute, forwardTo("archive", at, newFTPServer(t, "one")))
	if !g.ListensAt(at) {
		t.Errorf("got ListensAt(%s) false; want true", at)
	}
	c := dial(t, at)
	c.want("220 one")
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		g.Stop(time.Minute)
	}()
	c.wantEnd()
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
	g, at := newGateway(t), freePort(t)
	f := forwardTo("plc", at, newFTPServer(t, "one"))
	f.Tracking = forward.TrackingKernel
	g.serve(time.Minute, f)
	if g.ListensAt(at) || len(g.serving) != 0 {
		t.Errorf("got %d listeners; want none", len(g.serving))
	}
}

// A forward that is gone drains: its transfer ends, new clients are refused, idle sessions end.
func TestDrain(t *testing.T) {
	g, at, server := newGateway(t), freePort(t), newFTPServer(t, "one")
	g.serve(time.Minute, forwardTo("archive", at, server))
	busy, idle := dial(t, at), dial(t, at)
	busy.transfer()
	idle.want("220 ")
	g.serve(time.Minute) // nothing
	idle.wantEnd()
	late := dial(t, at)
	late.wantEnd()
	g.mu.Lock()
	refused := slices.Clone(g.refused)
	g.mu.Unlock()
	if !slices.Contains(refused, "archive drain") {
		t.Errorf("got refusals %q; want the client that came late among them", refused)
	}
	if !g.ListensAt(at) {
		t.Error("got ListensAt false while the transfer goes on; want true")
	}
	busy.finish(server)
	busy.wantEnd()
	g.Stop(time.Minute)
}

// A transfer that takes longer than the drain time is ended.
func TestDrainTime(t *testing.T) {
	g, at := newGateway(t), freePort(t)
	g.serve(time.Minute, forwardTo("archive", at, newFTPServer(t, "one")))
	c := dial(t, at)
	c.transfer()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		g.Stop(50 * time.Millisecond)
	}()
	c.wantEnd()
	select {
	case <-stopped:
	case <-time.After(patience):
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
			g, at := newGateway(t), freePort(t)
			g.serve(time.Minute, forwardTo("archive", at, newFTPServer(t, "one")))
			key := forward.Listen{Addr: at.Addr(), Port: at.Port()}
			socket := g.serving[key].socket
			before := dial(t, at)
			before.want("220 one")
			change(g, forwardTo("renamed", at, newFTPServer(t, "two")))
			if l := g.serving[key]; l == nil || l.socket != socket {
				t.Errorf("got listener %v; want the socket of before", l)
			}
			before.send("NOOP")
			before.want("200 ")
			after := dial(t, at)
			after.want("220 two")
		})
	}
}

// Update starts nothing: a forward that is not served stays so.
func TestUpdateOfOthers(t *testing.T) {
	g, at := newGateway(t), freePort(t)
	g.Update([]forward.Resolved{forwardTo("archive", at, newFTPServer(t, "one"))})
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
	g, free, server := newGateway(t), freePort(t), newFTPServer(t, "one")
	inUse := taken.Addr().(*net.TCPAddr).AddrPort()
	opened, findings := g.Open(t.Context(), []forward.Resolved{
		forwardTo("first", inUse, server), forwardTo("second", free, server)})
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
	f := forwardTo("archive", netip.MustParseAddrPort("192.0.2.1:2121"), newFTPServer(t, "one"))
	opened, findings := g.Open(t.Context(), []forward.Resolved{f})
	if len(opened) != 0 || len(findings) != 0 {
		t.Errorf("got %d sockets, findings %v; want none", len(opened), findings)
	}
}

// A forward takes an address over from one that is given up, also while that one still has a transfer.
func TestTakeOver(t *testing.T) {
	g, at, old := newGateway(t), freePort(t), newFTPServer(t, "old")
	g.serve(time.Minute, forwardTo("old", at, old))
	c := dial(t, at)
	c.transfer()
	everywhere := netip.AddrPortFrom(netip.Addr{}, at.Port()) // overlaps, but is another listen address
	g.serve(time.Minute, forwardTo("new", everywhere, newFTPServer(t, "new")))
	next := dial(t, at)
	next.want("220 new")
	c.finish(old)
	c.wantEnd()
	g.serve(time.Minute, forwardTo("again", at, old)) // and back
	next.wantEnd()
	back := dial(t, at)
	back.want("220 old")
}

// A forward that is gone and comes back at once, while its old listener drains, is served again.
func TestServeAgainWhileDraining(t *testing.T) {
	g, at, server := newGateway(t), freePort(t), newFTPServer(t, "one")
	g.serve(time.Minute, forwardTo("archive", at, server))
	c := dial(t, at)
	c.transfer()
	g.serve(time.Minute)
	g.serve(time.Minute, forwardTo("archive", at, server))
	next := dial(t, at)
	next.want("220 one")
	c.finish(server)
}

// An address that cannot be taken over is logged, and the other forwards are served.
func TestTakeOverFails(t *testing.T) {
	g, at := newGateway(t), freePort(t)
	taken, err := net.Listen("tcp4", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	other := freePort(t)
	server := newFTPServer(t, "one")
	forwards := []forward.Resolved{forwardTo("first", at, server), forwardTo("second", other, server)}
	g.Serve(context.Background(), forwards, Opened{}, time.Minute)
	c := dial(t, other)
	c.want("220 one")
	c.Close()
	g.Stop(time.Minute)
	log := g.log.String()
	if !strings.Contains(log, "is in use by") || !strings.Contains(log, "forward=first") {
		t.Errorf("got the log %q; want the address in use", log)
	}
}
