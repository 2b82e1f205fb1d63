package gateway_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/gateway"
)

// promptly fails the test if f does not return.
func promptly(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s waits", what)
	}
}

// While the kernel applies a table, which may take seconds, status and sessions still get their answers.
func TestReadersDoNotWaitForTheKernel(t *testing.T) {
	for what, change := range map[string]func(*bench) error{
		"publish": func(b *bench) error { return b.Publish(nil) },
		"repair": func(b *bench) error {
			_, _, err := b.Repair(nil)
			return err
		},
		"stop": func(b *bench) error { return b.Stop() },
		"refresh": func(b *bench) error {
			b.names.is(name, "203.0.113.10")
			_, err := b.Refresh(context.Background(), sound)
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench()
			b.names.is(name, "203.0.113.9")
			b.publish(t, plain("main", ":2121", name))
			b.kernel.entered, b.kernel.resume = make(chan struct{}), make(chan struct{})
			done := make(chan error)
			go func() { done <- change(b) }()
			<-b.kernel.entered // and it stays there until resume
			promptly(t, "Forwards", func() {
				if got := len(b.Forwards()); got != 1 && what != "stop" {
					t.Errorf("got %d forwards; want the one that the kernel has", got)
				}
			})
			promptly(t, "Installed", func() {
				if !b.Installed() {
					t.Error("got no table installed; want the one that the kernel has")
				}
			})
			promptly(t, "UsesNames", func() {
				if got := b.UsesNames(); got == (what == "stop") {
					t.Errorf("got uses names %t; want that of the published forwards", got)
				}
			})
			promptly(
				t,
				"Resolve",
				func() { b.Resolve(context.Background(), []forward.Forward{plain("x", ":1", name)}) },
			)
			close(b.kernel.resume)
			for finished := false; !finished; {
				select {
				case <-b.kernel.entered: // reinstall removes and applies
				case err := <-done:
					finished = true
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
}

// publisher is a log handler that publishes when it gets a record: it needs every lock of the gateway.
type publisher struct {
	slog.Handler
	publish func()
}

func (p publisher) Handle(context.Context, slog.Record) error {
	p.publish()
	return nil
}

// A log may block, so that no lock is held while Refresh writes to it.
func TestRefreshLogsWithoutLocks(t *testing.T) {
	resolver := newNames()
	resolver.is(name, "203.0.113.9")
	var g *gateway.Gateway
	records := 0
	handler := publisher{&diary{}, func() {
		records++
		if err := g.Publish(nil); err != nil {
			t.Error(err)
		}
	}}
	g = gateway.New("ftpgate", &kernel{}, resolver, slog.New(handler))
	resolved, _ := g.Resolve(t.Context(), []forward.Forward{plain("main", ":2121", name)})
	if err := g.Publish(resolved); err != nil {
		t.Fatal(err)
	}
	resolver.is(name, "203.0.113.10")
	promptly(t, "Refresh", func() {
		if changed, err := g.Refresh(t.Context(), sound); !changed || err != nil || records != 1 {
			t.Errorf(
				"got changed %t, error %v, %d records; want a change, and one record",
				changed,
				err,
				records,
			)
		}
	})
}

// One name that does not resolve does not keep the others from serving; if none resolves, there is nothing
// to serve.
func TestTolerate(t *testing.T) {
	b := newBench()
	for want, hosts := range map[finding.Severity][]string{
		finding.Warning: {"203.0.113.21", name},
		finding.Fault:   {name, "other.example.com"},
	} {
		var forwards []forward.Forward
		for _, host := range hosts {
			forwards = append(forwards, plain(host, ":2121", host))
		}
		resolved, unresolved := b.Resolve(t.Context(), forwards)
		tolerated := gateway.Tolerate(resolved, unresolved)
		if len(tolerated) != len(unresolved) || tolerated[0].Severity != want || !unresolved[0].IsFault() {
			t.Errorf("%q: got %v; want %s, and the findings of Resolve as they were", hosts, tolerated, want)
		}
	}
}
