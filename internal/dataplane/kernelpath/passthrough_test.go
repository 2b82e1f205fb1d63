package kernelpath_test

import (
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/kernelpath"
)

func passageFrom(from string, first, last uint16) pinhole.Passthrough {
	return pinhole.Passthrough{From: netip.MustParseAddr(from), Listen: netip.MustParseAddr("192.168.5.2"),
		Ports: forward.PortRange{First: first, Last: last}, Target: netip.MustParseAddr("203.0.113.21"), SourceIP: netip.MustParseAddr("203.0.113.1")}
}

func pass(t *testing.T, b bench, p pinhole.Passthrough) *kernelpath.Handle {
	t.Helper()
	g, err := b.OpenPassthrough(p)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// The kernel is told at the first session and at the last.
func TestPassShares(t *testing.T) {
	b := newBench(all)
	p, other := passageFrom("192.168.5.1", 50000, 50100), passageFrom("192.168.5.9", 50000, 50100)
	for round := range 2 {
		one, two, three := pass(t, b, p), pass(t, b, p), pass(t, b, other)
		if b.kernel.passages[p] != 1 || b.kernel.passages[other] != 1 {
			t.Errorf("got %v in the kernel; want each once", b.kernel.passages)
		}
		one.Close()
		one.Close()
		if b.kernel.passages[p] != 1 || len(b.kernel.shut) != 2*round {
			t.Errorf("got %v in the kernel; want the passage that a session still has", b.kernel.passages)
		}
		two.Close()
		three.Close()
		if len(b.kernel.passages) != 0 || len(b.kernel.shut) != 2*round+2 {
			t.Errorf("got %v in the kernel, %v shut; want each shut once", b.kernel.passages, b.kernel.shut)
		}
	}
}

// Between a client and an address of the gateway a port leads to one place.
func TestPassOverlap(t *testing.T) {
	b := newBench(all)
	p := passageFrom("192.168.5.1", 50000, 50100)
	gate := pass(t, b, p)
	elsewhere, wider, seenElsewhere := p, passageFrom("192.168.5.1", 50100, 50200), p
	elsewhere.Target = netip.MustParseAddr("203.0.113.22")
	seenElsewhere.SourceIP = netip.MustParseAddr("203.0.113.2")
	for _, clash := range []pinhole.Passthrough{elsewhere, wider, seenElsewhere} {
		_, err := b.OpenPassthrough(clash)
		if !errors.Is(err, kernelpath.ErrOverlap) || !strings.HasSuffix(err.Error(), p.String()) {
			t.Errorf("%s: got error %v; want it to name %s", clash, err, p)
		}
	}
	beside, atOther := passageFrom("192.168.5.1", 50101, 50200), elsewhere
	atOther.Listen = netip.MustParseAddr("192.168.5.3")
	for _, fits := range []pinhole.Passthrough{beside, atOther} {
		defer pass(t, b, fits).Close()
	}
	gate.Close()
	pass(t, b, elsewhere).Close()
}

// What the kernel refuses is the caller's to know, or stands in the log; the passage is free afterwards.
func TestPassKernelFails(t *testing.T) {
	b := newBench(all)
	p, clash := passageFrom("192.168.5.1", 50000, 50100), passageFrom("192.168.5.1", 50000, 50000)
	b.kernel.errPass = errors.New("no room")
	if _, err := b.OpenPassthrough(p); !errors.Is(err, b.kernel.errPass) || !strings.HasPrefix(err.Error(), "pinhole: pass "+p.String()) {
		t.Errorf("got error %v; want %v", err, b.kernel.errPass)
	}
	b.kernel.errPass, b.kernel.errShut = nil, errors.New("not listening")
	pass(t, b, p).Close()
	if got := strings.Count(b.log.String(), "not listening"); got != 1 {
		t.Errorf("got log\n%s\nwant what happened", b.log)
	}
	pass(t, b, clash).Close()
}

// However many sessions come and go, whoever has a gate has the passage in the kernel, once, and when all
// are gone it is not there.
func TestPassAtOnce(t *testing.T) {
	b := newBench(all)
	p := passageFrom("192.168.5.1", 50000, 50100)
	var sessions sync.WaitGroup
	for range 50 {
		sessions.Go(func() {
			for range 200 {
				g, err := b.OpenPassthrough(p)
				if err != nil {
					t.Error(err)
					return
				}
				b.kernel.mu.Lock()
				if n := b.kernel.passages[p]; n != 1 {
					t.Errorf("the passage is in the kernel %d times", n)
				}
				b.kernel.mu.Unlock()
				var closers sync.WaitGroup
				for range 2 {
					closers.Go(g.Close)
				}
				closers.Wait()
			}
		})
	}
	sessions.Wait()
	if len(b.kernel.passages) != 0 {
		t.Errorf("got %v in the kernel after all; want nothing", b.kernel.passages)
	}
	pass(t, b, passageFrom("192.168.5.1", 50000, 50000)).Close() // nothing is held
}
