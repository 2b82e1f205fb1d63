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

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/kernelpath"
)

// kernel remembers pinholes; it fails where it is told to.
type kernel struct {
	mu        sync.Mutex
	open      map[pinhole.Pinhole]int
	removed   []pinhole.Pinhole
	retired   []pinhole.Pinhole
	errAdd    error
	errRemove error

	passages map[pinhole.Passthrough]int
	shut     []pinhole.Passthrough
	errPass  error
	errShut  error
}

func (k *kernel) Add(h pinhole.Pinhole) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.errAdd == nil {
		k.open[h]++
	}
	return k.errAdd
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
	k.retired = append(k.retired, h)
}

func (k *kernel) AddPassthrough(p pinhole.Passthrough) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.errPass == nil {
		k.passages[p]++
	}
	return k.errPass
}

func (k *kernel) RemovePassthrough(p pinhole.Passthrough) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.passages, p)
	k.shut = append(k.shut, p)
	return k.errShut
}

type bench struct {
	*kernelpath.Path
	kernel *kernel
	log    *bytes.Buffer
}

func newBench(free func(netip.AddrPort) bool) bench {
	b := bench{kernel: &kernel{open: map[pinhole.Pinhole]int{}, passages: map[pinhole.Passthrough]int{}}, log: &bytes.Buffer{}}
	b.Path = kernelpath.New(b.kernel, free, slog.New(slog.NewTextHandler(b.log, nil)))
	return b
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
	for _, hole := range []pinhole.Pinhole{holeFrom("192.168.5.1"), holeFrom("192.168.5.9"), elsewhere} {
		var got []uint16
		var last *kernelpath.Pinhole
		for range 10 {
			h, err := b.Open(ports, hole)
			if err != nil {
				t.Fatal(err)
			}
			if h.At().Addr() != hole.Listen.Addr() {
				t.Errorf("got a port at %s; want it at %s", h.At(), hole.Listen.Addr())
			}
			got, last = append(got, h.At().Port()), h
		}
		if slices.Sort(got); len(slices.Compact(got)) != 10 || got[0] != 50000 || got[9] != 50009 {
			t.Errorf("got ports %d; want each of %s once", got, ports)
		}
		_, err := b.Open(ports, hole)
		if want := "no passive port is free in 50000-50009"; !errors.Is(err, kernelpath.ErrNoPorts) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("got error %v; want %q", err, want)
		}
		last.Close()
		last.Close()
		again, err := b.Open(ports, hole)
		if err != nil || again.At() != last.At() {
			t.Fatalf("got %v, error %v; want the port that was closed", again, err)
		}
		last.Close() // is not the owner any more
		if _, err := b.Open(ports, hole); !errors.Is(err, kernelpath.ErrNoPorts) {
			t.Errorf("got error %v; want %v", err, kernelpath.ErrNoPorts)
		}
	}
	if len(b.kernel.open)+len(b.kernel.removed) > 0 {
		t.Error("the kernel heard of what was not armed")
	}
}

func TestOpenAvoidsTheGatewaysOwn(t *testing.T) {
	only := netip.MustParseAddrPort("192.168.5.2:50003")
	b := newBench(func(at netip.AddrPort) bool { return at == only })
	h, err := b.Open(ports, holeFrom("192.168.5.1"))
	if err != nil || h.At() != only {
		t.Fatalf("got %v, %v; want %s", h, err, only)
	}
	if _, err := b.Open(ports, holeFrom("192.168.5.1")); !errors.Is(err, kernelpath.ErrNoPorts) {
		t.Errorf("got error %v; want %v", err, kernelpath.ErrNoPorts)
	}
}

func TestArmAndClose(t *testing.T) {
	b := newBench(all)
	h, err := b.Open(ports, holeFrom("192.168.5.1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Arm(); err != nil {
		t.Fatal(err)
	}
	want := holeFrom("192.168.5.1")
	want.Listen = h.At()
	if b.kernel.open[want] != 1 || len(b.kernel.open) != 1 {
		t.Errorf("got %v in the kernel; want %s", b.kernel.open, want)
	}
	h.Close()
	h.Close()
	if len(b.kernel.open) > 0 || !slices.Equal(b.kernel.removed, []pinhole.Pinhole{want}) {
		t.Errorf("got %v in the kernel, %v removed; want %s removed once", b.kernel.open, b.kernel.removed, want)
	}
	if err := h.Arm(); !errors.Is(err, kernelpath.ErrClosed) {
		t.Errorf("arm after close: got error %v; want %v", err, kernelpath.ErrClosed)
	}
}

// What the kernel refuses is the caller's to know, or stands in the log; the port is free afterwards.
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
				hole := holeFrom("192.168.5.1")
				hole.Listen = h.At()
				if n := b.kernel.open[hole]; n != 1 {
					t.Errorf("%s is open %d times", h.At(), n)
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

// A pinhole whose transfer is over is retired, and nobody waits for the kernel.
func TestUsedIsRetired(t *testing.T) {
	b := newBench(all)
	h, err := b.Open(ports, holeFrom("192.168.5.1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Arm(); err != nil {
		t.Fatal(err)
	}
	if err := h.Finish(nil); err != nil {
		t.Fatal(err)
	}
	h.Close()
	h.Close()
	if len(b.kernel.retired) != 1 || len(b.kernel.removed) != 0 || b.kernel.retired[0].Listen != h.At() {
		t.Errorf("got retired %v, removed %v; want the hole retired once", b.kernel.retired, b.kernel.removed)
	}
}
