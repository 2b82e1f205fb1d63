package health

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

// servers are those of a test: by address, whether they answer, and how long that takes.
type servers struct {
	mu      sync.Mutex
	silent  map[netip.Addr]bool
	takes   time.Duration
	asked   map[netip.Addr][]time.Time
	running map[netip.Addr]int
	most    int // checks at once
	overlap bool
}

func newServers() *servers {
	return &servers{silent: map[netip.Addr]bool{}, asked: map[netip.Addr][]time.Time{},
		running: map[netip.Addr]int{}}
}

func (s *servers) check(ctx context.Context, f forward.Resolved) *finding.Finding {
	s.mu.Lock()
	s.asked[f.Server4] = append(s.asked[f.Server4], time.Now())
	s.running[f.Server4]++
	s.overlap = s.overlap || s.running[f.Server4] > 1
	s.most = max(s.most, len(s.running))
	s.mu.Unlock()
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[f.Server4]--; s.running[f.Server4] == 0 {
		delete(s.running, f.Server4)
	}
	if s.silent[f.Server4] {
		return refused
	}
	return nil
}

func (s *servers) set(addr netip.Addr, silent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent[addr] = silent
}

func (s *servers) count(addr netip.Addr) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked[addr])
}

func server4(n int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, byte(n >> 8), byte(n)}) }

func withServer(name string, n int) forward.Resolved {
	f := forward.Resolved{Server4: server4(n)}
	f.Name, f.Server = name, forward.Server{Host: server4(n).String(), Port: 21}
	return f
}

// watch runs a watcher in a bubble until the function that it returns is called.
func watch(t *testing.T, s *servers, forwards ...forward.Resolved) (w *Watcher, log *bytes.Buffer,
	stop func()) {
	t.Helper()
	log = &bytes.Buffer{}
	w = New(s.check, slog.New(slog.NewTextHandler(log, nil)))
	w.SetForwards(30*time.Second, forwards)
	ctx, cancel := context.WithCancel(t.Context())
	wait := w.Start(ctx)
	return w, log, func() { cancel(); wait() }
}

// pass lets time pass, and then everything come to rest.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// A server that stops answering and answers again: state and log follow, with its second missed check.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, began := newServers(), time.Now()
		w, log, stop := watch(t, s, withServer("archive", 1))
		defer stop()
		pass(time.Second)
		if got := w.State("archive"); !got.Answers || !got.Since.Equal(began) {
			t.Errorf("got %+v; want that it answers since %s", got, began)
		}
		s.set(server4(1), true)
		pass(30 * time.Second)
		if got := w.State("archive"); !got.Answers {
			t.Errorf("after one missed check: got %+v; want that it answers", got)
		}
		pass(5 * time.Second)
		want := began.Add(30 * time.Second)
		if got := w.State("archive"); got.Answers || !got.Since.Equal(want) || got.Why != "refused" {
			t.Errorf("got %+v; want refused since %s", got, want)
		}
		if got := w.Answers(); len(got) != 1 || got["archive"] {
			t.Errorf("got %v; want that archive does not answer", got)
		}
		s.set(server4(1), false)
		pass(time.Minute)
		if got := w.State("archive"); !got.Answers {
			t.Errorf("got %+v; want that it answers again", got)
		}
		for _, want := range []string{
			`level=WARN msg="server does not answer" forward=archive server=203.0.0.1:21 reason=refused`,
			`level=INFO msg="server answers again" forward=archive server=203.0.0.1:21 silent_for=35s`,
		} {
			if n := strings.Count(log.String(), want); n != 1 {
				t.Errorf("got\n%s\nwant %q once, not %d times", log, want, n)
			}
		}
	})
}

// Forwards to one server share its answer; it is never asked twice at once. A forward without an address of
// its server is not asked for.
func TestOneServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		encrypted := withServer("c", 1)
		encrypted.TLS.Server = forward.ServerTLSRequired
		nowhere := withServer("d", 1)
		nowhere.Server4 = netip.Addr{}
		s := newServers()
		s.takes = time.Second
		w, log, stop := watch(t, s, withServer("a", 1), withServer("b", 1), encrypted, nowhere)
		defer stop()
		s.set(server4(1), true)
		pass(10 * time.Second)
		if n := s.count(server4(1)); n != 2 || s.overlap {
			t.Errorf("got %d checks, at once: %t; want one in clear and one with TLS, one after the other", n,
				s.overlap)
		}
		if got := w.Answers(); len(got) != 3 {
			t.Errorf("got %v; want a, b and c", got)
		}
		if want := `forward="a, b"`; strings.Count(log.String(), "does not answer") != 2 ||
			!strings.Contains(log.String(), want) {
			t.Errorf("got\n%s\nwant two lines, one with %s", log, want)
		}
	})
}

// Ten thousand servers are asked once in an interval, spread over it. When all go, the log stays short.
func TestMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 10_000
		var forwards []forward.Resolved
		for i := range n {
			forwards = append(forwards, withServer(fmt.Sprint("f", i), i))
		}
		s := newServers()
		s.takes = 50 * time.Millisecond
		w, log, stop := watch(t, s, forwards...)
		defer stop()
		pass(31 * time.Second)
		if got := len(w.Answers()); got != n || s.most > 2*n/30/20+2 {
			t.Errorf("got %d servers, %d at once; want %d, evenly spread", got, s.most, n)
		}
		for i := range n {
			s.set(server4(i), true)
		}
		pass(3 * time.Minute)
		silent := 0
		for _, up := range w.Answers() {
			if !up {
				silent++
			}
		}
		single := strings.Count(log.String(), "server does not answer")
		if silent != n || single > 2*linesAtOnce {
			t.Errorf("got %d silent servers and %d lines; want %d, and no flood", silent, single, n)
		}
		counted := 0
		for line := range strings.Lines(log.String()) {
			var c, again int
			if _, rest, found := strings.Cut(line, "ftpgate status lists them\" "); found {
				if _, err := fmt.Sscanf(rest, "silent=%d again=%d", &c, &again); err != nil {
					t.Error(err)
				}
				counted += c
			}
		}
		if single+counted != n {
			t.Errorf("got %d lines and %d counted; want %d together", single, counted, n)
		}
	})
}

// Silent servers take their time: no more than atOnce are asked at once, and a stop does not wait for them.
func TestBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var forwards []forward.Resolved
		for i := range 3 * atOnce {
			forwards = append(forwards, withServer(fmt.Sprint("f", i), i))
		}
		s := newServers()
		s.takes = time.Hour // until the check's time is up
		_, _, stop := watch(t, s, forwards...)
		pass(25 * time.Second)
		if s.most != atOnce {
			t.Errorf("got %d checks at once; want %d", s.most, atOnce)
		}
		began := time.Now()
		if stop(); time.Since(began) > 0 {
			t.Errorf("the stop took %s; want none", time.Since(began))
		}
	})
}

// A reload keeps what is known, also of a name with a new address; it forgets forwards that are gone, and off
// ends it all.
func TestSetForwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, began := newServers(), time.Now()
		moved := withServer("moved", 2)
		moved.Server.Host = "ftp.example.com"
		w, _, stop := watch(t, s, withServer("stays", 1), moved, withServer("goes", 3))
		defer stop()
		pass(10 * time.Second)
		moved.Server4 = server4(4)
		w.SetForwards(30*time.Second, []forward.Resolved{withServer("stays", 1), moved, withServer("new", 5)})
		pass(time.Second)
		var known []string
		for name := range w.Answers() {
			known = append(known, name)
		}
		if slices.Sort(known); !slices.Equal(known, []string{"moved", "new", "stays"}) {
			t.Errorf("got %q; want moved, new and stays", known)
		}
		if got := w.State("moved").Since; got.Sub(began) > time.Second {
			t.Errorf("got since %s; want that of its address before", got.Sub(began))
		}
		if s.count(server4(1)) != 1 || s.count(server4(4)) != 1 {
			t.Errorf("got %d checks of a server that stays, %d of a new address; want one each",
				s.count(server4(1)), s.count(server4(4)))
		}
		w.SetForwards(0, []forward.Resolved{withServer("stays", 1)})
		pass(time.Hour)
		if got := w.Answers(); len(got) > 0 || s.count(server4(1)) > 1 {
			t.Errorf("got %v, %d checks; want nothing while it is off", got, s.count(server4(1)))
		}
	})
}
