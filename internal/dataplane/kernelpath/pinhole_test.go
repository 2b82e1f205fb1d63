package kernelpath_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/kernelpath"
	"ftpgate/internal/dataplane/port"
)

// kernel remembers what it has. It fails and it hangs where the test says so.
type kernel struct {
	mu        sync.Mutex
	open      map[pinhole.Pinhole]int
	removed   []pinhole.Pinhole
	later     []pinhole.Pinhole // removed later
	wanted    func() bool       // the last one that is to be kept
	errAdd    error
	errRemove error

	passthroughs         map[pinhole.Passthrough]int
	removedPassthroughs  []pinhole.Passthrough
	errAddPassthrough    error
	errRemovePassthrough error

	answer chan struct{} // nil: each call returns at once; else when it can receive
}

// wait holds a call up until the test lets it answer.
func (k *kernel) wait() {
	if k.answer != nil {
		<-k.answer
	}
}

func (k *kernel) Add(h pinhole.Pinhole) error {
	k.wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.errAdd == nil {
		k.open[h]++
	}
	return k.errAdd
}

func (k *kernel) Keep(h pinhole.Pinhole, wanted func() bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wanted = wanted
}

func (k *kernel) Remove(h pinhole.Pinhole) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.open, h)
	k.removed = append(k.removed, h)
	return k.errRemove
}

func (k *kernel) RemoveLater(h pinhole.Pinhole) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.open, h)
	k.later = append(k.later, h)
}

func (k *kernel) AddPassthrough(p pinhole.Passthrough) error {
	k.wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.errAddPassthrough == nil {
		k.passthroughs[p]++
	}
	return k.errAddPassthrough
}

func (k *kernel) RemovePassthrough(p pinhole.Passthrough) error {
	k.wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.passthroughs, p)
	k.removedPassthroughs = append(k.removedPassthroughs, p)
	return k.errRemovePassthrough
}

type bench struct {
	*kernelpath.Opener
	kernel *kernel
	log    *bytes.Buffer
}

func newBench(free func(netip.AddrPort) bool) bench {
	k := &kernel{open: map[pinhole.Pinhole]int{}, passthroughs: map[pinhole.Passthrough]int{}}
	b := bench{kernel: k, log: &bytes.Buffer{}}
	b.Opener = kernelpath.New(b.kernel, &port.Allocator{}, free, slog.New(slog.NewTextHandler(b.log, nil)))
	return b
}

// armed returns a port that is armed for the client 192.168.5.1.
func (b bench) armed(t *testing.T) *kernelpath.DataPort {
	t.Helper()
	h, err := b.Open(ports, holeFrom("192.168.5.1"))
	if err == nil {
		err = h.Arm()
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func all(netip.AddrPort) bool { return true }

func holeFrom(from string) pinhole.Pinhole {
	return pinhole.Pinhole{From: netip.MustParseAddr(from), Listen: netip.MustParseAddrPort("192.168.5.2:0"),
		Target: netip.MustParseAddrPort("203.0.113.21:40000"), SourceIP: netip.MustParseAddr("203.0.113.1")}
}

var ports = forward.PortRange{First: 50000, Last: 50009}

// A client gets each port once, another client and another address of the gateway the same ports
// again, and what is closed is free.
func TestOpenSharesPorts(t *testing.T) {
	b := newBench(all)
	elsewhere := holeFrom("192.168.5.1")
	elsewhere.Listen = netip.MustParseAddrPort("192.168.5.3:0")
	for _, p := range []pinhole.Pinhole{holeFrom("192.168.5.1"), holeFrom("192.168.5.9"), elsewhere} {
		var got []uint16
		var last *kernelpath.DataPort
		for range 10 {
			h, err := b.Open(ports, p)
			if err != nil {
				t.Fatal(err)
			}
			if h.Listen().Addr() != p.Listen.Addr() {
				t.Errorf("got a port at %s; want it at %s", h.Listen(), p.Listen.Addr())
			}
			got, last = append(got, h.Listen().Port()), h
		}
		if slices.Sort(got); len(slices.Compact(got)) != 10 || got[0] != 50000 || got[9] != 50009 {
			t.Errorf("got ports %d; want each of %s once", got, ports)
		}
		_, err := b.Open(ports, p)
		want := "no passive port is free in 50000-50009"
		if !errors.Is(err, port.ErrNone) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("got error %v; want %q", err, want)
		}
		last.Close()
		last.Close()
		again, err := b.Open(ports, p)
		if err != nil || again.Listen() != last.Listen() {
			t.Fatalf("got %v, error %v; want the port that was closed", again, err)
		}
		last.Close() // is not the owner any more
		if _, err := b.Open(ports, p); !errors.Is(err, port.ErrNone) {
			t.Errorf("got error %v; want %v", err, port.ErrNone)
		}
	}
	if len(b.kernel.open)+len(b.kernel.removed) > 0 {
		t.Error("the kernel heard of what was not armed")
	}
}

// A port that the gateway uses itself is not given away.
func TestOpenAvoidsTheGatewaysOwn(t *testing.T) {
	only := netip.MustParseAddrPort("192.168.5.2:50003")
	b := newBench(func(at netip.AddrPort) bool { return at == only })
	h, err := b.Open(ports, holeFrom("192.168.5.1"))
	if err != nil || h.Listen() != only {
		t.Fatalf("got %v, %v; want %s", h, err, only)
	}
	if _, err := b.Open(ports, holeFrom("192.168.5.1")); !errors.Is(err, port.ErrNone) {
		t.Errorf("got error %v; want %v", err, port.ErrNone)
	}
}

func TestArmAndClose(t *testing.T) {
	b := newBench(all)
	h := b.armed(t)
	want := holeFrom("192.168.5.1")
	want.Listen = h.Listen()
	if b.kernel.open[want] != 1 || len(b.kernel.open) != 1 {
		t.Errorf("got %v in the kernel; want %s", b.kernel.open, want)
	}
	h.Close()
	h.Close()
	if len(b.kernel.open) > 0 || !slices.Equal(b.kernel.removed, []pinhole.Pinhole{want}) {
		t.Errorf("got %v in the kernel, %v removed; want %s removed once", b.kernel.open, b.kernel.removed,
			want)
	}
	if err := h.Arm(); !errors.Is(err, kernelpath.ErrClosed) {
		t.Errorf("arm after close: got error %v; want %v", err, kernelpath.ErrClosed)
	}
}

// What the kernel refuses is returned or logged; the port is free afterwards.
func TestKernelFails(t *testing.T) {
	b := newBench(all)
	b.kernel.errAdd, b.kernel.errRemove = errors.New("no room"), errors.New("not listening")
	one := forward.PortRange{First: 50000, Last: 50000}
	for range 2 {
		h, err := b.Open(one, holeFrom("192.168.5.1"))
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Arm(); !errors.Is(err, b.kernel.errAdd) {
			t.Errorf("got error %v; want %v", err, b.kernel.errAdd)
		}
		h.Close()
	}
	if got := strings.Count(b.log.String(), "not listening"); got != 2 || len(b.kernel.removed) != 2 {
		t.Errorf("got log\n%s\nwant what happened twice", b.log)
	}
}

// Many sessions of one client at once never share a port.
func TestOpenAtOnce(t *testing.T) {
	b := newBench(all)
	var sessions sync.WaitGroup
	for range 50 {
		sessions.Go(func() {
			for range 100 {
				h, err := b.Open(forward.PortRange{First: 50000, Last: 50099}, holeFrom("192.168.5.1"))
				if err == nil {
					err = h.Arm()
				}
				if err != nil {
					t.Error(err)
					return
				}
				b.kernel.mu.Lock()
				p := holeFrom("192.168.5.1")
				p.Listen = h.Listen()
				if n := b.kernel.open[p]; n != 1 {
					t.Errorf("%s is open %d times", h.Listen(), n)
				}
				b.kernel.mu.Unlock()
				h.Close()
			}
		})
	}
	sessions.Wait()
}

func BenchmarkOpen(b *testing.B) {
	p := newBench(all)
	b.ReportAllocs()
	for b.Loop() {
		h, err := p.Open(forward.DefaultPassivePorts, holeFrom("192.168.5.1"))
		if err != nil {
			b.Fatal(err)
		}
		h.Close()
	}
}

// A pinhole whose transfer is over is removed later, without a wait for the kernel.
func TestUsedIsRemovedLater(t *testing.T) {
	b := newBench(all)
	h := b.armed(t)
	h.MarkUsed()
	h.Close()
	h.Close()
	if len(b.kernel.later) != 1 || len(b.kernel.removed) != 0 || b.kernel.later[0].Listen != h.Listen() {
		t.Errorf("got %v removed later, %v removed; want the pinhole removed later, once", b.kernel.later,
			b.kernel.removed)
	}
}

// An announced port rests, used or not: it is given out again after all others. One that was never announced
// does not rest.
func TestPortRests(t *testing.T) {
	for name, use := range map[string]func(*kernelpath.DataPort){
		"unused":  func(*kernelpath.DataPort) {},
		"used":    (*kernelpath.DataPort).MarkUsed,
		"counted": func(h *kernelpath.DataPort) { h.Count(func() bool { return true }) },
	} {
		b := newBench(all)
		open := func() *kernelpath.DataPort {
			h, err := b.Open(ports, holeFrom("192.168.5.1"))
			if err != nil {
				t.Fatal(err)
			}
			return h
		}
		seen := map[netip.AddrPort]bool{}
		for range 9 {
			h := b.armed(t)
			if seen[h.Listen()] {
				t.Fatalf("%s: got %s again; want it to rest", name, h.Listen())
			}
			seen[h.Listen()] = true
			use(h)
			h.Close()
		}
		for range 10 { // it is not announced
			h := open()
			if seen[h.Listen()] {
				t.Fatalf("%s: got %s again; want the one that does not rest", name, h.Listen())
			}
			h.Close()
		}
		for range 2 { // all of them rest, and are given out all the same
			h := b.armed(t)
			h.Close()
		}
	}
}

// While the kernel hangs over one pinhole, the path serves others. The Close of the first one waits until
// nothing of it can be left in the kernel.
func TestArmHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(all)
		open := func() *kernelpath.DataPort {
			h, err := b.Open(ports, holeFrom("192.168.5.1"))
			if err != nil {
				t.Fatal(err)
			}
			return h
		}
		hangs, closed := open(), false
		b.kernel.answer = make(chan struct{})
		go func() {
			if err := hangs.Arm(); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		open().Close()
		go func() {
			hangs.Close()
			closed = true
		}()
		synctest.Wait()
		if closed || hangs.Used() {
			t.Errorf("got closed %t, used %t while the kernel hangs; want neither", closed, hangs.Used())
		}
		if err := hangs.Arm(); !errors.Is(err, kernelpath.ErrClosed) {
			t.Errorf("arm while it closes: got error %v; want %v", err, kernelpath.ErrClosed)
		}
		close(b.kernel.answer)
		synctest.Wait()
		if !closed || len(b.kernel.open) > 0 || len(b.kernel.removed) != 1 {
			t.Errorf("got closed %t, %v in the kernel; want it removed", closed, b.kernel.open)
		}
	})
}

// An armed pinhole is kept until its connection has arrived, however that is noticed; no other is.
func TestUse(t *testing.T) {
	b := newBench(all)
	h, err := b.Open(ports, holeFrom("192.168.5.1"))
	if err != nil {
		t.Fatal(err)
	}
	connected := false
	h.Count(func() bool { return connected })
	use := h.Use
	if use(); b.kernel.wanted != nil {
		t.Error("got it kept before Arm")
	}
	if err := h.Arm(); err != nil {
		t.Fatal(err)
	}
	if use(); b.kernel.wanted == nil || !b.kernel.wanted() {
		t.Fatal("got it not wanted while no peer has come")
	}
	connected = true
	if b.kernel.wanted() {
		t.Error("got it wanted after a connection was seen")
	}
	connected = false
	if h.MarkUsed(); b.kernel.wanted() {
		t.Error("got it wanted after its transfer")
	}
	h.Close()
	b.kernel.wanted = nil
	if use(); b.kernel.wanted != nil {
		t.Error("got it kept after Close")
	}
}
