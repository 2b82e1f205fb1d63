package conntrack_test

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/kernel/conntrack"
)

// withoutRights runs f on a thread without capabilities. The thread ends afterwards.
func withoutRights(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// A watcher gets the changes that it subscribed to, of wanted flows only. It does not miss what happens
// between Subscribe and Run.
func TestSubscribe(t *testing.T) {
	h := accounting(t)
	c := open(t, h)
	w := opened(t, h, func() (*conntrack.Watcher, error) { return conntrack.Subscribe(netflow.FlowNew) })
	tuples := fill(t, c, 100)
	for _, original := range tuples[:50] {
		if err := c.Delete(original, one(t, c, original).ID); err != nil {
			t.Fatal(err)
		}
	}
	events := run(t, w, func(original, _ netflow.Tuple) bool {
		return original == tuples[3] || original == tuples[99]
	})
	for _, want := range []netflow.Tuple{tuples[3], tuples[99]} {
		e := await(t, events, "anything", func(netflow.FlowEvent) bool { return true })
		if e.Change != netflow.FlowNew || e.Flow.Original != want || e.At.IsZero() {
			t.Errorf("got %+v; want the new flow from %s", e, want.From)
		}
	}
	if len(events) != 0 {
		t.Errorf("got %+v; want nothing more", <-events)
	}
}

// The kernel does not deliver events of other protocols.
func TestOnlyTCP(t *testing.T) {
	h := accounting(t)
	c := open(t, h)
	w := opened(t, h, func() (*conntrack.Watcher, error) { return conntrack.Subscribe(netflow.FlowNew) })
	datagram(t, h)
	for i := range 4 {
		if err := c.Create(numbered(i)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := w.Waiting(); got != 4 || err != nil {
		t.Errorf("got %d events, %v; want those of 4 TCP connections", got, err)
	}
}

// If more events happen than the buffer holds, the watcher reports the loss after the events that were kept.
// Later events are not lost.
func TestMissed(t *testing.T) {
	h := accounting(t)
	c := open(t, h)
	w := opened(t, h,
		func() (*conntrack.Watcher, error) { return conntrack.Subscribe(netflow.FlowNew, netflow.FlowGone) })
	if err := w.ShrinkBuffer(1); err != nil {
		t.Fatal(err)
	}
	tuples := fill(t, c, 200)
	events := run(t, w, nil)
	kept := 0
	await(t, events, "events were missed", func(e netflow.FlowEvent) bool {
		if e.Change == netflow.FlowNew {
			kept++
		}
		return e.Change == netflow.FlowsMissed && e.Flow == netflow.Flow{} && !e.At.IsZero()
	})
	if kept == 0 || kept >= len(tuples) {
		t.Errorf("got %d events before the loss; want some, not all %d", kept, len(tuples))
	}
	if err := c.Delete(tuples[0], one(t, c, tuples[0]).ID); err != nil {
		t.Fatal(err)
	}
	if e := await(t, events, "anything",
		func(netflow.FlowEvent) bool { return true }); e.Change != netflow.FlowGone ||
		e.Flow.Original != tuples[0] {
		t.Errorf("got %+v after the loss; want the flow from %s gone", e, tuples[0].From)
	}
}

// A watcher that is closed ends its Run.
func TestWatcherClosed(t *testing.T) {
	w := opened(t, accounting(t),
		func() (*conntrack.Watcher, error) { return conntrack.Subscribe(netflow.FlowNew) })
	ended := make(chan error)
	go func() { ended <- w.Run(t.Context(), nil, func(netflow.FlowEvent) {}) }()
	w.Close()
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v; want %v", err, os.ErrClosed)
	}
}
