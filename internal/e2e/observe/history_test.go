package observe

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

	"ftpgate/internal/e2e/harness"
)

// endedSessionsKept is how many ended sessions the gateway keeps (docs/api.md).
const endedSessionsKept = 1000

// greetAndQuit greets every client and closes on QUIT, until the listener is closed.
func greetAndQuit(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = io.WriteString(c, "220 ready\r\n") // an error means that the client is gone
			_, _ = c.Read(make([]byte, 64))
			_, _ = io.WriteString(c, "221 bye\r\n")
		}()
	}
}

// runShortSessions runs sessions, a few at a time.
func runShortSessions(s *harness.Testbed, sessions int) {
	s.T.Helper()
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
				if err := runShortSession(s); err != nil {
					errs <- err
				}
			}
		})
	}
	wait.Wait()
	close(errs)
	for err := range errs {
		s.T.Error(err)
	}
}

// runShortSession connects and quits.
func runShortSession(s *harness.Testbed) error {
	c, err := s.Client().Dial(s.T.Context(), "tcp", s.Address)
	if err != nil {
		return err
	}
	_, err = io.WriteString(c, "QUIT\r\n")
	got, errRead := io.ReadAll(c)
	if err = errors.Join(err, errRead, c.Close()); err != nil || string(got) != "220 ready\r\n221 bye\r\n" {
		return fmt.Errorf("got %q, error %v; want a greeting and a farewell", got, err)
	}
	return nil
}

var residentPattern = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB$`)

// residentMemory returns ftpgate's resident memory in bytes.
func residentMemory(s *harness.AdminGateway) int64 {
	s.T.Helper()
	fields := residentPattern.FindStringSubmatch(harness.ReadFile(s.T,
		fmt.Sprintf("/proc/%d/status", s.Cmd.Process.Pid)))
	if fields == nil {
		s.T.Fatal("got no VmRSS")
	}
	kb, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		s.T.Fatal(err)
	}
	return kb << 10
}

// Of thousands of sessions the gateway keeps the last ones, and its memory does not grow.
func TestEndedSessionsKept(t *testing.T) {
	t.Parallel()
	st, s := harness.NewAdminTestbed(t, fmt.Sprintf(harness.ForwardConfig, "files", harness.Gateway4))
	go greetAndQuit(st.Listener)
	over := func(sessions int) []harness.SessionInfo {
		harness.Await(t, fmt.Sprintf("%d sessions, all over", sessions), func() bool {
			f := s.Status().Forwards[0]
			return f.Total == sessions && f.Sessions == 0
		})
		return s.Sessions("--ended")
	}
	runShortSessions(st, endedSessionsKept)
	first := over(endedSessionsKept)
	runShortSessions(st, 2*endedSessionsKept)
	over(3 * endedSessionsKept) // now the heap has its size
	before := residentMemory(s)
	runShortSessions(st, 2*endedSessionsKept)
	last := over(5 * endedSessionsKept)
	after := residentMemory(s)
	if len(first) != endedSessionsKept || len(last) != endedSessionsKept {
		t.Fatalf("got %d and %d sessions; want %d", len(first), len(last), endedSessionsKept)
	}
	const bound = 24 << 20 // with room for the race detector and the garbage collector
	t.Logf("%d bytes of memory after three thousand, %d after five", before, after)
	if after-before > bound {
		t.Errorf("got %d bytes more after two thousand sessions more; want less than %d", after-before, bound)
	}
	known := map[string]bool{}
	for _, one := range last {
		known[one.ID] = true
		if one.State != "ended" || one.Verdict.Code == "" || one.Client == "" ||
			one.Server != harness.Server4 {
			t.Errorf("got %+v; want it ended", one)
		}
	}
	if len(known) != endedSessionsKept || known[first[0].ID] {
		t.Errorf("got %d different sessions, the first of all among them: %v; want %d without it", len(known),
			known[first[0].ID], endedSessionsKept)
	}
	newest := last[len(last)-1].ID
	harness.WantContains(t, s.Output("explain", newest), "session    "+newest+" of forward files", "command ",
		"QUIT", "reply", "220 ready")
	_, stderr, status := s.Run("explain", first[0].ID)
	if status != 1 || !strings.Contains(stderr, "there is no session "+first[0].ID) {
		t.Errorf("explain of the first one: got exit status %d, %q; want 1", status, stderr)
	}
	if n := strings.Count(s.Log(), `msg="session ends"`); n == 0 || n >= 5*endedSessionsKept {
		t.Errorf("got %d ends of one client's %d sessions in the log; want some of them", n,
			5*endedSessionsKept)
	}
}
