package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// keptEnded is how many sessions that had a server are kept after their end (docs/api.md).
const keptEnded = 1000

// attend greets everybody who comes to a server, and hangs up on QUIT, until the server is closed.
func attend(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = io.WriteString(c, "220 ready\r\n") // the client may have gone
			_, _ = c.Read(make([]byte, 64))
			_, _ = io.WriteString(c, "221 bye\r\n")
		}()
	}
}

// flood has so many sessions come and go, a few at a time.
func (s *stage) flood(sessions int) {
	s.t.Helper()
	next := make(chan struct{}, sessions)
	for range sessions {
		next <- struct{}{}
	}
	close(next)
	var wait sync.WaitGroup
	errs := make(chan error, sessions)
	for range 16 {
		wait.Go(func() {
			for range next {
				if err := s.pop(); err != nil {
					errs <- err
				}
			}
		})
	}
	wait.Wait()
	close(errs)
	for err := range errs {
		s.t.Error(err)
	}
}

// pop is a session that is over at once.
func (s *stage) pop() error {
	c, err := s.Client().Dial(s.t.Context(), "tcp", s.dial)
	if err != nil {
		return err
	}
	_, err = io.WriteString(c, "QUIT\r\n")
	said, errRead := io.ReadAll(c)
	if err = errors.Join(err, errRead, c.Close()); err != nil || string(said) != "220 ready\r\n221 bye\r\n" {
		return fmt.Errorf("got %q, error %v; want a greeting and a farewell", said, err)
	}
	return nil
}

var residentLine = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB$`)

// resident is the memory that ftpgate has, in bytes.
func (s *shown) resident() int64 {
	s.t.Helper()
	fields := residentLine.FindStringSubmatch(contents(s.t, fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid)))
	if fields == nil {
		s.t.Fatal("got no VmRSS")
	}
	kb, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return kb << 10
}

// Sessions that come and go by the thousand leave the last ones behind, and no memory that grows.
func TestShowFlood(t *testing.T) {
	t.Parallel()
	st, s := newShownStage(t, fmt.Sprintf(oneForward, "files", gateway4))
	go attend(st.control)
	over := func(sessions int) []seen {
		until(t, fmt.Sprintf("%d sessions, all over", sessions), func() bool {
			f := s.status().Forwards[0]
			return f.Total == sessions && f.Sessions == 0
		})
		return s.sessions("--ended")
	}
	st.flood(keptEnded)
	first := over(keptEnded)
	st.flood(2 * keptEnded)
	over(3 * keptEnded) // and the heap is above its floor
	before := s.resident()
	st.flood(2 * keptEnded)
	last := over(5 * keptEnded)
	after := s.resident()
	if len(first) != keptEnded || len(last) != keptEnded {
		t.Fatalf("got %d and %d sessions; want %d", len(first), len(last), keptEnded)
	}
	const bound = 24 << 20 // the race detector and the garbage collector have their part of it
	t.Logf("%d bytes of memory after three thousand, %d after five", before, after)
	if after-before > bound {
		t.Errorf("got %d bytes more after two thousand sessions more; want less than %d", after-before, bound)
	}
	known := map[string]bool{}
	for _, one := range last {
		known[one.ID] = true
		if one.State != "ended" || one.Verdict.Code == "" || one.Client == "" || one.Server != server4 {
			t.Errorf("got %+v; want it ended", one)
		}
	}
	if len(known) != keptEnded || known[first[0].ID] {
		t.Errorf("got %d different sessions, the first of all among them: %v; want %d without it", len(known), known[first[0].ID], keptEnded)
	}
	newest := last[len(last)-1].ID
	wantLines(t, s.answer("explain", newest), "session    "+newest+" of forward files", "command ", "QUIT", "reply", "220 ready")
	_, stderr, status := s.ask("explain", first[0].ID)
	if status != 1 || !strings.Contains(stderr, "there is no session "+first[0].ID) {
		t.Errorf("explain of the first one: got exit status %d, %q; want 1", status, stderr)
	}
	if n := strings.Count(s.text(), `msg="session ends"`); n != 5*keptEnded {
		t.Errorf("got %d ends in the log; want %d", n, 5*keptEnded)
	}
}
