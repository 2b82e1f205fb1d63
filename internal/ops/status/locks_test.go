package status

import (
	"log/slog"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/gateway"
)

// slowKernel takes a table only when the test says so.
type slowKernel struct{ entered, resume chan struct{} }

func (k slowKernel) Apply(ruleset.Table, ...string) error {
	k.entered <- struct{}{}
	<-k.resume
	return nil
}

func (k slowKernel) Repair(ruleset.Table) ([]string, bool, error) { return nil, false, nil }

func (k slowKernel) Remove(string) error { return nil }

// Status answers while the kernel takes its time to apply a table.
func TestStatusWhileKernelApplies(t *testing.T) {
	kernel := slowKernel{make(chan struct{}), make(chan struct{})}
	g := gateway.New("ftpgate", kernel, nil, slog.New(slog.DiscardHandler))
	s := newSource()
	s.Gateway = g
	s.SetKernel(true, nil)
	published := make(chan error)
	go func() { published <- g.Publish([]forward.Resolved{archive()}) }()
	<-kernel.entered
	answered := make(chan int)
	go func() { answered <- len(s.Status().Forwards) }()
	select {
	case n := <-answered:
		if n != 0 {
			t.Errorf("got %d forwards; want those that the kernel has, none", n)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Status waits for the kernel")
	}
	close(kernel.resume)
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	if n := len(s.Status().Forwards); n != 1 {
		t.Errorf("got %d forwards after the kernel has the table; want 1", n)
	}
}
