package kernelpath_test

import (
	"testing"
)

// A pinhole whose connection has arrived is closed once, without a wait; its port stays reserved.
// Of one whose transfer fails then, Close waits until no peer can connect.
func TestComplete(t *testing.T) {
	for _, used := range []bool{true, false} {
		b := newBench(all)
		h, err := b.Open(ports, holeFrom("192.168.5.1"))
		if err != nil {
			t.Fatal(err)
		}
		if h.Complete(); len(b.kernel.later) != 0 {
			t.Errorf("got %v removed; want nothing before Arm", b.kernel.later)
		}
		if err := h.Arm(); err != nil {
			t.Fatal(err)
		}
		h.Use()
		h.Complete()
		h.Complete()
		p := b.kernel.later[0]
		if len(b.kernel.later) != 1 || p.Listen != h.Listen() || b.kernel.wanted() || !b.Used(p) {
			t.Errorf("got %v removed later; want the pinhole, once, and not wanted", b.kernel.later)
		}
		if used {
			h.MarkUsed()
		}
		h.Close()
		if h.Complete(); len(b.kernel.later) != 1 || (len(b.kernel.removed) == 0) != used {
			t.Errorf("used %v: got %v removed later, %v removed", used, b.kernel.later, b.kernel.removed)
		}
	}
}

// Shut returns when no peer can connect any more.
func TestShut(t *testing.T) {
	b := newBench(all)
	h := b.armed(t)
	h.Complete()
	if h.Shut(); len(b.kernel.removed) != 1 {
		t.Errorf("got %v removed; want the pinhole, however soon Complete removes it", b.kernel.removed)
	}
	h.MarkUsed()
	h.Close()
	if h.Shut(); len(b.kernel.removed) != 1 || len(b.kernel.later) != 1 {
		t.Errorf("got %v removed; want nothing more: the port may be another's", b.kernel.removed)
	}
}
