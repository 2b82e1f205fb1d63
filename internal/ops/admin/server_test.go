package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/observe/sessions"
)

// TestClient: the client gets what the source has.
func TestClient(t *testing.T) {
	source := fixed()
	s := serve(t, source, Options{}, nil)
	c, ctx := s.client(t), t.Context()

	status, err := c.Status(ctx)
	if want := fixedStatus(); err != nil || !reflect.DeepEqual(status, want) {
		t.Errorf("status: got %+v, %v; want %+v", status, err, want)
	}
	explained, err := c.Explain(ctx, "3p5kx-17")
	if err != nil || !reflect.DeepEqual(explained,
		sessions.Explained{Session: source.running[0], Events: fixedEvents()}) {
		t.Errorf("explain: got %+v, %v; want what the source has", explained, err)
	}
	if _, err := c.Explain(ctx, "3p5kx-18"); !errors.Is(err, ErrNoSession) ||
		!strings.Contains(err.Error(), "no session 3p5kx-18") {
		t.Errorf("explain a session that is not there: got %v; want ErrNoSession with its name", err)
	}
	if err := c.Kill(ctx, "3p5kx-17"); err != nil {
		t.Errorf("kill: got %v; want nil", err)
	}
	if err := c.Kill(ctx, "3p5kx-9"); !errors.Is(err, ErrNotNow) {
		t.Errorf("kill one that has ended: got %v; want ErrNotNow", err)
	}
	if err := c.Kill(ctx, "../status"); !errors.Is(err, ErrNoSession) {
		t.Errorf("kill: got %v; want ErrNoSession", err)
	}
	if err := c.Reload(ctx); err != nil {
		t.Errorf("reload: got %v; want nil", err)
	}
	want := fmt.Sprintf("by=\"user %d, process %d\"", os.Geteuid(), os.Getpid())
	if got := s.log.String(); !strings.Contains(got, `msg="session killed" session=3p5kx-17 `+want) ||
		!strings.Contains(got, `msg="reload requested" `+want) {
		t.Errorf("got the log %s; want who has killed what, and who has reloaded", got)
	}
}

// TestReloadFaults: the faults of a file arrive line by line, with their kind of error.
func TestReloadFaults(t *testing.T) {
	for _, tt := range []struct {
		err  error
		kind error
		want string
	}{
		{fmt.Errorf("%w:\nf.toml:3:1: no listen\nf.toml:9:1: no server", ErrFile), ErrFile,
			"the file is invalid, and nothing has changed:\nf.toml:3:1: no listen\nf.toml:9:1: no server"},
		{&Error{Text: "no file was given", Remedy: "start ftpgate run", Kind: ErrNotNow}, ErrNotNow,
			"no file was given: start ftpgate run"},
		{errors.New("nft: apply table ftpgate: busy"), nil, "nft: apply table ftpgate: busy"},
	} {
		source := fixed()
		source.reload = func(context.Context) error { return tt.err }
		err := serve(t, source, Options{}, nil).client(t).Reload(t.Context())
		if err == nil || err.Error() != tt.want || tt.kind != nil && !errors.Is(err, tt.kind) {
			t.Errorf("got %v; want %q, a %v", err, tt.want, tt.kind)
		}
	}
}

// TestReloadOutlastsTimeouts: the client waits for a reload longer than for other answers.
func TestReloadOutlastsTimeouts(t *testing.T) {
	source := fixed()
	short := times{50 * time.Millisecond, 50 * time.Millisecond, time.Millisecond}
	source.reload = func(ctx context.Context) error {
		select {
		case <-time.After(4 * short.read): // the deadlines pass: there is no event to wait for
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s := serve(t, source, Options{}, func(s *Server) { s.times = short })
	if err := s.client(t).Reload(t.Context()); err != nil {
		t.Errorf("got %v; want nil", err)
	}
}

// TestReloadStopped: a client that waits gets an answer when the daemon stops.
func TestReloadStopped(t *testing.T) {
	source := fixed()
	asked := make(chan struct{})
	source.reload = func(ctx context.Context) error {
		close(asked)
		<-ctx.Done()
		return ctx.Err()
	}
	s := serve(t, source, Options{}, nil)
	got := make(chan error, 1)
	go func() { got <- s.client(t).Reload(t.Context()) }()
	<-asked
	if err := s.stop(); err != nil {
		t.Errorf("serve: got %v; want nil", err)
	}
	if err := <-got; err == nil || !strings.Contains(err.Error(), "is stopping") {
		t.Errorf("got %v; want that it is stopping", err)
	}
}

// TestSessions: filters, order, and no session twice.
func TestSessions(t *testing.T) {
	source := manySessions(40)
	for i := range 10 { // every fourth has ended, and the ended ones are older and younger than others
		s := source.running[4*i]
		s.State, s.Ended = sessions.StateEnded, s.Since.Add(time.Second)
		source.ended = append(source.ended, s)
	}
	// Numbers 0 to 32 have ended; 36 ends between the two calls, and so is in both lists.
	source.running[36] = source.ended[9]
	source.running = slices.DeleteFunc(source.running, func(s sessions.Session) bool {
		return slices.ContainsFunc(source.ended[:9], func(e sessions.Session) bool { return e.ID == s.ID })
	})
	c := serve(t, source, Options{}, nil).client(t)
	for _, tt := range []struct {
		f    Filter
		want func(i int) bool
	}{
		{Filter{}, func(i int) bool { return i%4 != 0 }},
		{Filter{Ended: true}, func(int) bool { return true }},
		{Filter{State: sessions.StateEnded}, func(i int) bool { return i%4 == 0 }},
		{Filter{State: sessions.StateTransfer}, func(i int) bool { return i%4 != 0 && i%2 == 1 }},
		{Filter{Forward: "archive 1"}, func(i int) bool { return i%4 != 0 && i%3 == 1 }},
		{Filter{Client: netip.MustParsePrefix("192.168.5.17/32"), Ended: true},
			func(i int) bool { return i == 17 }},
		{Filter{Client: netip.MustParsePrefix("192.168.5.32/29"), Ended: true},
			func(i int) bool { return 32 <= i }},
		{Filter{Forward: "none & such"}, func(int) bool { return false }},
	} {
		var want, got []string
		for i := range 40 {
			if tt.want(i) {
				want = append(want, fmt.Sprintf("x-%d", i))
			}
		}
		for s, err := range c.Sessions(t.Context(), tt.f) {
			if err != nil {
				t.Fatalf("%+v: %v", tt.f, err)
			}
			got = append(got, s.ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%+v: got %q; want %q", tt.f, got, want)
		}
	}
}

// TestBadFilters: an unknown filter is an error.
func TestBadFilters(t *testing.T) {
	s := serve(t, fixed(), Options{}, nil)
	for query, want := range map[string]string{
		"froward=archive":        `no filter \"froward\"`,
		"state=asleep":           `no state \"asleep\": there are connecting, `,
		"client=192.168.5.300":   "want an address or a prefix",
		"client=192.168.5.1/24":  "want 192.168.5.0/24",
		"ended=perhaps":          "want true or false",
		"forward=a&forward=b":    "is given 2 times",
		"forward=a;ended=true":   "cannot be read",
		"forward=%zz":            "cannot be read",
		"state=idle&state=ended": "is given 2 times",
	} {
		status, _, body := raw(t, "unix", s.socket, "GET /v1/sessions?"+query+" HTTP/1.1\r\nHost: x\r\n\r\n")
		if status != http.StatusBadRequest || !strings.Contains(body, want) {
			t.Errorf("%s: got %d %s; want 400 and %s", query, status, body, want)
		}
	}
}

// TestSessionsStream: a list is streamed, however long it is.
func TestSessionsStream(t *testing.T) {
	source := manySessions(1)
	endless := func(yield func(sessions.Session) bool) {
		for yield(source.running[0]) {
		}
	}
	if err := writeSessions(&full{room: 10 << 20}, endless); !errors.Is(err, errFull) {
		t.Errorf("got %v; want the error of who reads, and no more sessions after it", err)
	}
}

var errFull = errors.New("full")

// full accepts so many bytes, in pieces of at most pieceSize.
type full struct{ room int }

func (f *full) Write(p []byte) (int, error) {
	f.room -= len(p)
	if f.room < 0 || len(p) > pieceSize {
		return 0, errFull
	}
	return len(p), nil
}

// TestAnswersBreakOff: half a list is an error.
func TestAnswersBreakOff(t *testing.T) {
	text := `{"sessions": [` + "\n" + `{"id":"x-1"},`
	s := serve(t, fixed(), Options{}, nil)
	s.stop()
	other := plainServer(t, text)
	var last error
	for _, err := range NewClient(other, "").Sessions(t.Context(), Filter{}) {
		last = err
	}
	if last == nil || !strings.Contains(last.Error(), "breaks off") {
		t.Errorf("got %v; want an error", last)
	}
	if _, err := NewClient(other, "").Status(t.Context()); err != nil {
		if strings.Contains(err.Error(), "breaks off") {
			return
		}
	}
	t.Error("status: got an answer; want an error")
}

// TestUnreached: the error says in one line why there is no answer.
func TestUnreached(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(dir, "stale")
	leaveStale(t, stale)
	for _, path := range []string{filepath.Join(dir, "none"), file, stale} {
		_, err := NewClient(path, "").Status(t.Context())
		if want := "ftpgate is not running here: nothing answers at " +
			path; !errors.Is(err, ErrNotRunning) || err.Error() != want {
			t.Errorf("got %v; want %s", err, want)
		}
	}
	other := plainServer(t, "")
	err := NewClient(other, "").Kill(t.Context(), "x-1")
	if err == nil || !strings.Contains(err.Error(), "is not ftpgate") {
		t.Errorf("another program: got %v; want that it is not ftpgate", err)
	}
}

// TestListed: empty lists are [] in JSON.
func TestListed(t *testing.T) {
	text, err := json.Marshal(Status{Forwards: []Forward{{}}}.withoutNulls())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"capabilities", "addresses", "certificates", "warnings"} {
		if !strings.Contains(string(text), `"`+name+`":[]`) {
			t.Errorf("got %s; want an empty list of %s", text, name)
		}
	}
}
