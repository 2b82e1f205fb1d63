package gateway_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

const name = "ftp.example.com"

// A name with several addresses keeps the one in use; if that is gone, another one is published.
func TestRefresh(t *testing.T) {
	b := newBench()
	b.names.is(name, "203.0.113.9", "2001:db8::9")
	b.publish(t, plain("main", ":2121", name), plain("fixed", ":2122", "203.0.113.21"))
	if !b.UsesNames() {
		t.Fatal("got no named servers; want one")
	}
	b.refresh(t, false)
	b.names.is(name, "203.0.113.1", "203.0.113.9", "2001:db8::1", "2001:db8::9") // others before it
	b.refresh(t, false)
	if got := b.kernel.applies(); got != 1 {
		t.Errorf("got %d applies; want none but the first while the addresses are good", got)
	}
	b.log.wantNew(t)

	b.names.is(name, "203.0.113.1", "203.0.113.2", "2001:db8::9")
	b.refresh(t, true)
	if got, want := servers(
		b.Forwards(),
	), []string{
		"203.0.113.1 2001:db8::9",
		"203.0.113.21 -",
	}; !slices.Equal(
		got,
		want,
	) {
		t.Errorf("got servers %q; want %q", got, want)
	}
	if got := b.kernel.applies(); got != 2 || !strings.Contains(b.kernel.last(), "203.0.113.1 . 21") ||
		strings.Contains(b.kernel.last(), "203.0.113.9") {
		t.Errorf(
			"got %d applies, the last\n%s\nwant one more, with 203.0.113.1 for 203.0.113.9",
			got,
			b.kernel.last(),
		)
	}
	b.log.wantNew(
		t,
		"INFO server address changed forward=main from=203.0.113.9 2001:db8::9 to=203.0.113.1 2001:db8::9",
	)
	b.refresh(t, false)

	b.names.is(name, "203.0.113.1") // a family goes
	b.refresh(t, true)
	b.log.wantNew(t, "INFO server address changed forward=main from=203.0.113.1 2001:db8::9 to=203.0.113.1")
}

// Forwards of each family to one server do not lose their address to one another.
func TestRefreshFamiliesApart(t *testing.T) {
	b := newBench()
	b.names.is(name, "203.0.113.9", "2001:db8::9")
	b.publish(t, plain("four", "192.168.5.2:2121", name), plain("six", "[2001:db8:5::2]:2121", name))
	want := []string{"203.0.113.9 -", "- 2001:db8::9"}
	for _, step := range []struct {
		what  string
		known []string
	}{
		{"other addresses before them", []string{"203.0.113.1", "203.0.113.9", "2001:db8::1", "2001:db8::9"}},
		{"a failure", nil},
	} {
		if b.names.is(name, step.known...); step.known == nil {
			delete(b.names.known, name)
		}
		b.refresh(t, false)
		if got := servers(b.Forwards()); !slices.Equal(got, want) {
			t.Errorf("%s: got servers %q; want %q", step.what, got, want)
		}
	}
}

// A name that does not resolve keeps its address, and is logged once.
func TestRefreshFailure(t *testing.T) {
	b := newBench()
	b.names.is(name, "203.0.113.9")
	b.publish(t, plain("main", ":2121", name), plain("fixed", ":2122", "203.0.113.21"))
	b.names.err = errors.New("server misbehaving")
	for range 3 {
		b.refresh(t, false)
	}
	if got, want := servers(
		b.Forwards(),
	), []string{
		"203.0.113.9 -",
		"203.0.113.21 -",
	}; !slices.Equal(
		got,
		want,
	) {
		t.Errorf("got servers %q; want %q", got, want)
	}
	b.log.wantNew(t, `WARN server name "ftp.example.com" cannot be resolved: server misbehaving forward=main`)
	b.names.err = nil
	for range 2 {
		b.refresh(t, false)
	}
	b.log.wantNew(t, "INFO server name resolves again forward=main")

	b.names.err = errors.New("server misbehaving")
	b.refresh(t, false)
	b.names.err = nil
	b.names.is(name, "203.0.113.10")
	b.refresh(t, true)
	b.log.wantNew(t, `WARN server name "ftp.example.com" cannot be resolved: server misbehaving forward=main`,
		"INFO server name resolves again forward=main",
		"INFO server address changed forward=main from=203.0.113.9 to=203.0.113.10")
	if got := b.kernel.applies(); got != 2 {
		t.Errorf("got %d applies; want one more than the first", got)
	}
}

// A forward that was removed is not logged as one that resolves again.
func TestRefreshFailureOfRemoved(t *testing.T) {
	b := newBench()
	b.names.is(name, "203.0.113.9")
	b.publish(t, plain("main", ":2121", name))
	b.names.err = errors.New("server misbehaving")
	b.refresh(t, false)
	b.names.err = nil
	b.publish(t, plain("other", ":2122", name))
	b.log.wantNew(t, `WARN server name "ftp.example.com" cannot be resolved: server misbehaving forward=main`)
	b.refresh(t, false)
	b.log.wantNew(t)
}

// A name that did not resolve at start is published once it does.
func TestRefreshPublishesLateNames(t *testing.T) {
	b := newBench()
	b.publish(t, plain("main", ":2121", name), plain("fixed", ":2122", "203.0.113.21"))
	if strings.Contains(b.kernel.last(), "2121 :") {
		t.Errorf("got\n%s\nwant nothing at port 2121", b.kernel.last())
	}
	b.refresh(t, false)
	b.log.wantNew(t) // the caller of Resolve has the finding
	b.names.is(name, "203.0.113.9")
	b.refresh(t, true)
	b.log.wantNew(t, "INFO server name resolves again forward=main",
		"INFO server address changed forward=main from=none to=203.0.113.9")
	if got := servers(b.Forwards()); got[0] != "203.0.113.9 -" {
		t.Errorf("got servers %q; want 203.0.113.9 published", got)
	}
}

// After an error the state is as it was, and the next time tries again.
func TestRefreshApplyError(t *testing.T) {
	b := newBench()
	b.names.is(name, "203.0.113.9")
	b.publish(t, plain("main", ":2121", name))
	broken := errors.New("nft: no room")
	b.kernel.fail(broken)
	b.names.is(name, "203.0.113.10")
	for range 2 {
		if _, err := b.Refresh(t.Context(), sound); !errors.Is(err, broken) {
			t.Errorf("got error %v; want %v", err, broken)
		}
		if got := servers(b.Forwards()); !slices.Equal(got, []string{"203.0.113.9 -"}) {
			t.Errorf("got servers %q; want the address that the kernel has", got)
		}
	}
	b.kernel.fail(nil)
	b.refresh(t, true)
	if got := b.kernel.applies(); got != 2 || !strings.Contains(b.kernel.last(), "203.0.113.10") {
		t.Errorf("got %d applies, the last\n%s\nwant the new address in the second", got, b.kernel.last())
	}
}

// What is published during a lookup stands: the lookup does not bring back what was removed.
func TestRefreshOvertaken(t *testing.T) {
	for what, overtake := range map[string]func(*bench){
		"publish": func(b *bench) {
			if err := b.Publish([]forward.Resolved{testForward(":990", "203.0.113.99")}); err != nil {
				t.Error(err)
			}
		},
		"stop": func(b *bench) {
			if err := b.Stop(); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				b.names.is(name, "203.0.113.9")
				b.publish(t, plain("main", ":2121", name))
				b.names.is(name, "203.0.113.10")
				answer := make(chan struct{})
				b.names.block = answer
				done := make(chan bool)
				go func() {
					changed, err := b.Refresh(t.Context(), sound)
					if err != nil {
						t.Error(err)
					}
					done <- changed
				}()
				synctest.Wait() // it is being looked up
				overtake(b)
				applies, before := b.kernel.applies(), servers(b.Forwards())
				close(answer)
				if <-done {
					t.Error("got a change; want none")
				}
				if got := b.kernel.applies(); got != applies || !slices.Equal(servers(b.Forwards()), before) {
					t.Errorf("got %d more applies and servers %q; want what was published meanwhile, %q",
						got-applies, servers(b.Forwards()), before)
				}
			})
		})
	}
}

// Everything at once, for the race detector: the published forwards and the kernel's table agree.
func TestConcurrentUse(t *testing.T) {
	b := newBench()
	b.names.is(name, "203.0.113.9")
	b.publish(t, plain("main", ":2121", name))
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for range 50 {
				b.names.is(name, fmt.Sprintf("203.0.113.%d", 10+i))
				b.Refresh(t.Context(), sound)
			}
		})
		all.Go(func() {
			for range 50 {
				b.publish(
					t,
					plain("main", ":2121", name),
					plain(fmt.Sprint("extra ", i), fmt.Sprint(":", 3000+i), "203.0.113.21"),
				)
				b.UsesNames()
				b.Forwards()
			}
		})
	}
	all.Wait()
	for _, f := range b.Forwards() {
		if !strings.Contains(b.kernel.last(), f.Server4.String()+" . 21") {
			t.Errorf("%s leads to %s; the kernel has\n%s", f.Listen, f.Server4, b.kernel.last())
		}
	}
}

// A name that starts to mean the gateway itself keeps its address, until it means a server again; other
// names change meanwhile.
func TestRefreshKeepsSound(t *testing.T) {
	b := newBench()
	b.names.is(name, "203.0.113.9")
	b.names.is("other.example.com", "203.0.113.8")
	b.publish(t, plain("main", ":2121", name), plain("other", ":2122", "other.example.com"))
	b.names.is(name, "203.0.113.1")
	b.names.is("other.example.com", "203.0.113.7")
	astray := func(forwards []forward.Resolved) []finding.Finding {
		var found []finding.Finding
		for _, f := range forwards {
			if f.Server4.String() == "203.0.113.1" {
				found = append(
					found,
					finding.Finding{Forward: f.Name, Text: "is this gateway itself", Remedy: "mend it"},
				)
			}
			found = append(
				found,
				finding.Finding{Forward: f.Name, Text: "by the way", Severity: finding.Warning},
			)
		}
		return found
	}
	if changed, err := b.Refresh(t.Context(), astray); !changed || err != nil {
		t.Errorf("got changed %t, error %v; want the other one followed", changed, err)
	}
	if got, want := servers(
		b.Forwards(),
	), []string{
		"203.0.113.9 -",
		"203.0.113.7 -",
	}; !slices.Equal(
		got,
		want,
	) {
		t.Errorf("got servers %q; want %q", got, want)
	}
	b.log.wantNew(t, "WARN is this gateway itself forward=main",
		"INFO server address changed forward=other from=203.0.113.8 to=203.0.113.7")
	b.names.is(name, "203.0.113.10")
	if changed, err := b.Refresh(t.Context(), astray); !changed || err != nil {
		t.Errorf("got changed %t, error %v; want it followed again", changed, err)
	}
}

// sound examines forwards, and finds nothing.
func sound([]forward.Resolved) []finding.Finding { return nil }
