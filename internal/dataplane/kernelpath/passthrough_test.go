package kernelpath_test

import (
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/kernelpath"
)

func passthroughFrom(from string, first, last uint16) pinhole.Passthrough {
	return pinhole.Passthrough{From: netip.MustParseAddr(from), Listen: netip.MustParseAddr("192.168.5.2"),
		Ports:  forward.PortRange{First: first, Last: last},
		Target: netip.MustParseAddr("203.0.113.21"), SourceIP: netip.MustParseAddr("203.0.113.1")}
}

// reserve opens a passthrough, which the kernel does not know yet.
func reserve(t *testing.T, b bench, p pinhole.Passthrough) *kernelpath.Handle {
	t.Helper()
	h, err := b.OpenPassthrough(p)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// pass opens a passthrough and arms it.
func pass(t *testing.T, b bench, p pinhole.Passthrough) *kernelpath.Handle {
	t.Helper()
	h := reserve(t, b, p)
	if err := h.Arm(); err != nil {
		t.Fatal(err)
	}
	return h
}

// A passthrough is in the kernel while a session has armed it, and reserved for as long as any session has
// it.
func TestPassthroughArm(t *testing.T) {
	b := newBench(all)
	p, clash := passthroughFrom("192.168.5.1", 50000, 50100), passthroughFrom("192.168.5.1", 50000, 50000)
	waiting, armed := reserve(t, b, p), reserve(t, b, p)
	if len(b.kernel.passthroughs) != 0 {
		t.Errorf("got %v in the kernel; want nothing before Arm", b.kernel.passthroughs)
	}
	for range 2 {
		if err := armed.Arm(); err != nil || b.kernel.passthroughs[p] != 1 {
			t.Errorf("got %v, %v in the kernel; want it once", err, b.kernel.passthroughs)
		}
	}
	armed.Close()
	if err := armed.Arm(); err != nil || len(b.kernel.passthroughs) != 0 {
		t.Errorf("got %v, %v in the kernel; want nothing after Close", err, b.kernel.passthroughs)
	}
	if _, err := b.OpenPassthrough(clash); !errors.Is(err, kernelpath.ErrOverlap) {
		t.Errorf("got error %v; want the ports reserved", err)
	}
	waiting.Close()
	if pass(t, b, clash).Close(); len(b.kernel.removedPassthroughs) != 2 {
		t.Errorf("got %v removed; want what was armed", b.kernel.removedPassthroughs)
	}
}

// The kernel is called for the first session and for the last.
func TestPassthroughShares(t *testing.T) {
	b := newBench(all)
	p, other := passthroughFrom("192.168.5.1", 50000, 50100), passthroughFrom("192.168.5.9", 50000, 50100)
	for round := range 2 {
		one, two, three := pass(t, b, p), pass(t, b, p), pass(t, b, other)
		if b.kernel.passthroughs[p] != 1 || b.kernel.passthroughs[other] != 1 {
			t.Errorf("got %v in the kernel; want each once", b.kernel.passthroughs)
		}
		one.Close()
		one.Close()
		if b.kernel.passthroughs[p] != 1 || len(b.kernel.removedPassthroughs) != 2*round {
			t.Errorf("got %v in the kernel; want the passthrough that a session still has",
				b.kernel.passthroughs)
		}
		two.Close()
		three.Close()
		if len(b.kernel.passthroughs) != 0 || len(b.kernel.removedPassthroughs) != 2*round+2 {
			t.Errorf("got %v in the kernel, %v removed; want each removed once", b.kernel.passthroughs,
				b.kernel.removedPassthroughs)
		}
	}
}

// Between a client and an address of the gateway a port has one target.
func TestPassthroughOverlap(t *testing.T) {
	b := newBench(all)
	p := passthroughFrom("192.168.5.1", 50000, 50100)
	handle := pass(t, b, p)
	elsewhere, wider, seenElsewhere := p, passthroughFrom("192.168.5.1", 50100, 50200), p
	elsewhere.Target = netip.MustParseAddr("203.0.113.22")
	seenElsewhere.SourceIP = netip.MustParseAddr("203.0.113.2")
	for _, clash := range []pinhole.Passthrough{elsewhere, wider, seenElsewhere} {
		_, err := b.OpenPassthrough(clash)
		if !errors.Is(err, kernelpath.ErrOverlap) || !strings.HasSuffix(err.Error(), p.String()) {
			t.Errorf("%s: got error %v; want it to name %s", clash, err, p)
		}
	}
	beside, atOther := passthroughFrom("192.168.5.1", 50101, 50200), elsewhere
	atOther.Listen = netip.MustParseAddr("192.168.5.3")
	for _, fits := range []pinhole.Passthrough{beside, atOther} {
		defer pass(t, b, fits).Close()
	}
	handle.Close()
	pass(t, b, elsewhere).Close()
}

// What the kernel refuses is returned or logged; the passthrough is free afterwards.
func TestPassthroughKernelFails(t *testing.T) {
	b := newBench(all)
	p, clash := passthroughFrom("192.168.5.1", 50000, 50100), passthroughFrom("192.168.5.1", 50000, 50000)
	b.kernel.errAddPassthrough = errors.New("no room")
	refused := reserve(t, b, p)
	err := refused.Arm()
	if !errors.Is(err, b.kernel.errAddPassthrough) || !strings.HasPrefix(err.Error(),
		"kernel path: arm passthrough "+p.String()) {
		t.Errorf("got error %v; want %v", err, b.kernel.errAddPassthrough)
	}
	refused.Close()
	b.kernel.errAddPassthrough, b.kernel.errRemovePassthrough = nil, errors.New("not listening")
	pass(t, b, p).Close()
	if got := strings.Count(b.log.String(), "not listening"); got != 1 {
		t.Errorf("got log\n%s\nwant what happened", b.log)
	}
	pass(t, b, clash).Close()
}

// However many sessions come and go, the owner of a handle has the passthrough in the kernel, once, and when
// all are gone it is not there.
func TestPassthroughAtOnce(t *testing.T) {
	b := newBench(all)
	p := passthroughFrom("192.168.5.1", 50000, 50100)
	var sessions sync.WaitGroup
	for range 50 {
		sessions.Go(func() {
			for range 200 {
				h, err := b.OpenPassthrough(p)
				if err == nil {
					err = h.Arm()
				}
				if err != nil {
					t.Error(err)
					return
				}
				b.kernel.mu.Lock()
				if n := b.kernel.passthroughs[p]; n != 1 {
					t.Errorf("the passthrough is in the kernel %d times", n)
				}
				b.kernel.mu.Unlock()
				var closers sync.WaitGroup
				for range 2 {
					closers.Go(h.Close)
				}
				closers.Wait()
			}
		})
	}
	sessions.Wait()
	if len(b.kernel.passthroughs) != 0 {
		t.Errorf("got %v in the kernel after all; want nothing", b.kernel.passthroughs)
	}
	pass(t, b, passthroughFrom("192.168.5.1", 50000, 50000)).Close() // nothing is held
}

// While the kernel hangs over a passthrough, pinholes are opened, and another session of the same client
// waits for the same answer.
func TestPassthroughHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(all)
		p := passthroughFrom("192.168.5.1", 50000, 50100)
		b.kernel.answer = make(chan struct{})
		handles := make(chan *kernelpath.Handle, 2)
		for range cap(handles) {
			go func() { handles <- pass(t, b, p) }()
		}
		synctest.Wait()
		h, err := b.Open(ports, holeFrom("192.168.5.9"))
		if err != nil {
			t.Fatal(err)
		}
		h.Close()
		if len(handles) != 0 {
			t.Errorf("got %d handles before the kernel has answered; want none", len(handles))
		}
		close(b.kernel.answer)
		for range cap(handles) {
			defer (<-handles).Close()
		}
		if n := b.kernel.passthroughs[p]; n != 1 {
			t.Errorf("got the passthrough %d times in the kernel; want once", n)
		}
	})
}
