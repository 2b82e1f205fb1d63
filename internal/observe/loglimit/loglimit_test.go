package loglimit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// stage is a handler, and what it lets pass.
type stage struct {
	*Handler
	t   *testing.T
	out bytes.Buffer
	now time.Time

	logins bool // the lines are about failed logins
}

func newStage(t *testing.T) *stage {
	s := &stage{t: t, now: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)}
	s.Handler = New(slog.NewTextHandler(&s.out, &slog.HandlerOptions{Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
	return s
}

// log logs a line so many times at the stage's time, and returns how many passed.
func (s *stage) log(times int, h slog.Handler, level slog.Level, attrs ...slog.Attr) (passed int) {
	s.t.Helper()
	before := bytes.Count(s.out.Bytes(), []byte{'\n'})
	for range times {
		message := "line"
		if s.logins {
			message = loginFailed
		}
		r := slog.NewRecord(s.now, level, message, 0)
		r.AddAttrs(attrs...)
		if err := h.Handle(context.Background(), r); err != nil {
			s.t.Fatal(err)
		}
	}
	return bytes.Count(s.out.Bytes(), []byte{'\n'}) - before
}

func client(address string) slog.Attr { return slog.String("client", address) }

// A peer has a budget for each class of lines, which fills again as time goes by.
func TestOnePeer(t *testing.T) {
	for name, tt := range map[string]struct {
		level slog.Level
		attr  slog.Attr
		burst int
		every time.Duration
	}{
		"sessions": {slog.LevelInfo, client("192.0.2.1:40000"), 500, time.Second},
		"refusals": {slog.LevelWarn, client("192.0.2.1:40000"), 200, 2 * time.Second},
		"errors":   {slog.LevelError, client("192.0.2.1:40000"), 200, 2 * time.Second},
		"an address": {slog.LevelWarn, slog.Any("client", netip.MustParseAddr("::1")), 200,
			2 * time.Second},
		"who asks":            {slog.LevelWarn, slog.String("by", "192.0.2.1:40000"), 200, 2 * time.Second},
		"where they come":     {slog.LevelError, slog.String("listen", "0.0.0.0:21"), 200, 2 * time.Second},
		"a command by a user": {slog.LevelInfo, slog.String("by", "user 0, process 7"), 9999, 0},
		"no peer":             {slog.LevelWarn, slog.String("file", "x"), 9999, 0},
		"asked for":           {slog.LevelDebug, client("192.0.2.1:40000"), 9999, 0},
	} {
		s := newStage(t)
		if got := s.log(9999, s, tt.level, tt.attr); got != tt.burst {
			t.Errorf("%s: got %d lines of 9999; want %d", name, got, tt.burst)
		}
		if tt.every == 0 {
			continue
		}
		s.now = s.now.Add(3*tt.every - 1)
		if got := s.log(99, s, tt.level, tt.attr); got != 2 {
			t.Errorf("%s: after not quite three times %s got %d lines; want 2", name, tt.every, got)
		}
		s.now = s.now.Add(1)
		if got := s.log(99, s, tt.level, tt.attr); got != 1 {
			t.Errorf("%s: after three times %s got %d lines more; want 1", name, tt.every, got)
		}
		s.now = s.now.Add(time.Hour)
		if got := s.log(9999, s, tt.level, tt.attr); got != tt.burst {
			t.Errorf("%s: after an hour got %d lines; want %d", name, got, tt.burst)
		}
	}
}

// No flood of other lines makes failed logins disappear, neither of the same peer nor of others.
func TestFailedLogins(t *testing.T) {
	s := newStage(t)
	for i := range 100 {
		s.log(300, s, slog.LevelWarn, client(fmt.Sprintf("192.0.2.%d:1", i)))
	}
	if got := s.log(1, s, slog.LevelWarn, client("198.51.100.1:1")); got != 0 {
		t.Fatalf("got a line of %d other peers; want the budget of all spent", got)
	}
	s.logins = true
	for _, peer := range []string{"192.0.2.1:1", "198.51.100.1:1"} {
		if got := s.log(300, s, slog.LevelWarn, client(peer)); got != 200 {
			t.Errorf("%s: got %d failed logins; want 200", peer, got)
		}
	}
	s.out.Reset()
	s.Report(s.now)
	if want := "peers=91 failed_logins=200 warnings=22001 others=0"; !strings.Contains(s.out.String(), want) {
		t.Errorf("got %s; want %s", s.out.String(), want)
	}
}

// A client with one address of IPv6 has its /64, and every port; a user has every process.
func TestSamePeer(t *testing.T) {
	for name, tt := range map[string]struct{ key, a, b, c string }{
		"ports":    {"client", "192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1"},
		"mapped":   {"client", "[::ffff:192.0.2.1]:1", "192.0.2.1:2", "[::ffff:192.0.2.2]:1"},
		"networks": {"client", "[2001:db8::1]:1", "[2001:db8::2:2]:1", "[2001:db8:0:1::1]:1"},
		"zones":    {"client", "[fe80::1%eth0]:1", "[fe80::2%eth1]:1", "[2001:db8::1]:1"},
		"users":    {"by", "user 0, process 1", "user 0, process 2", "user 1, process 1"},
	} {
		s := newStage(t)
		s.log(200, s, slog.LevelWarn, slog.String(tt.key, tt.a))
		if got := s.log(1, s, slog.LevelWarn, slog.String(tt.key, tt.b)); got != 0 {
			t.Errorf("%s: %s has lines of its own beside %s", name, tt.b, tt.a)
		}
		if got := s.log(1, s, slog.LevelWarn, slog.String(tt.key, tt.c)); got != 1 {
			t.Errorf("%s: %s has no lines of its own beside %s", name, tt.c, tt.a)
		}
	}
}

// Handlers that are derived share the budgets.
func TestDerived(t *testing.T) {
	s := newStage(t)
	with := s.WithAttrs([]slog.Attr{client("192.0.2.1:1")})
	if got := s.log(210, with, slog.LevelWarn); got != 200 {
		t.Errorf("got %d lines; want 200", got)
	}
	if got := s.log(210, with.WithGroup("g"), slog.LevelWarn) +
		s.log(30, s, slog.LevelWarn, client("192.0.2.1:2")); got != 0 {
		t.Errorf("got %d lines more; want none", got)
	}
}

// Many peers together have a budget, too, and their number does not fill the memory.
func TestManyPeers(t *testing.T) {
	for level, want := range map[slog.Level]int{slog.LevelInfo: 5000, slog.LevelWarn: 5000} {
		rest := map[slog.Level]string{ // all that have no budgets of their own
			slog.LevelInfo: " peers=1 failed_logins=0 warnings=0 others=15000\n",
			slog.LevelWarn: " peers=1 failed_logins=0 warnings=15000 others=0\n",
		}[level]
		s := newStage(t)
		got := 0
		for i := range 20_000 {
			got += s.log(1, s, level, client(fmt.Sprintf("[2001:db8:%x:%x::1]:1", i>>16, i&0xffff)))
		}
		if got != want || len(s.peers.known) != maxPeers {
			t.Errorf("%s: got %d lines, %d peers; want %d and %d", level, got, len(s.peers.known), want,
				maxPeers)
		}
		if s.Report(s.now); !strings.HasSuffix(s.out.String(), rest) {
			t.Errorf("%s: got %s; want %s at the end", level, s.out.String()[s.out.Len()-200:], rest)
		}
		s.now = s.now.Add(time.Hour)
		if got := s.log(1, s, level, client("198.51.100.1:1")); got != 1 || len(s.peers.known) != 1 {
			t.Errorf("%s: an hour later got %d lines, %d peers; want 1 and 1", level, got, len(s.peers.known))
		}
	}
}

// Omitted lines are counted, and reported once.
func TestReport(t *testing.T) {
	s := newStage(t)
	s.log(210, s, slog.LevelWarn, client("192.0.2.1:1"))
	s.log(503, s, slog.LevelInfo, client("192.0.2.1:1"))
	s.log(501, s, slog.LevelInfo, client("[2001:db8::1]:1"))
	s.out.Reset()
	s.Report(s.now)
	want := `level=WARN msg="the log leaves out lines about a peer: there are too many" ` +
		"peer=192.0.2.1 failed_logins=0 warnings=10 others=3\n" +
		`level=WARN msg="the log leaves out lines about a peer: there are too many" ` +
		"peer=2001:db8::/64 failed_logins=0 warnings=0 others=1\n"
	if got := s.out.String(); got != want {
		t.Errorf("got %s; want %s", got, want)
	}
	s.out.Reset()
	if s.Report(s.now); s.out.Len() > 0 {
		t.Errorf("got %s a second time", s.out.String())
	}
	for i := range 40 {
		s.now = s.now.Add(time.Minute)
		s.log(201+i, s, slog.LevelWarn, client(fmt.Sprintf("192.0.2.%d:1", 100+i)))
	}
	s.out.Reset()
	s.Report(s.now)
	lines := strings.Split(strings.TrimSpace(s.out.String()), "\n")
	if len(lines) != maxReported+1 || !strings.Contains(lines[0],
		"peer=192.0.2.139 failed_logins=0 warnings=40 others=0") ||
		!strings.HasSuffix(lines[maxReported], "more peers: there are too many\" peers=30 failed_logins=0 "+
			"warnings=465 "+
			"others=0") {
		t.Errorf("got %d lines: %s", len(lines), strings.Join(lines, "\n"))
	}
}

// Long values are cut, those of peers only.
func TestLongValues(t *testing.T) {
	long := strings.Repeat("ä", 5000)
	s := newStage(t)
	s.log(1, s, slog.LevelWarn, client("192.0.2.1:1"), slog.String("said", long),
		slog.Any("err", errors.New(long)), slog.Int("n", 7))
	cut := strings.Repeat("ä", maxValue/2) + "... (10000 bytes)"
	want := `level=WARN msg=line client=192.0.2.1:1 said="` + cut + `" err="` + cut + "\" n=7\n"
	if got := s.out.String(); got != want {
		t.Errorf("got %s; want %s", got, want)
	}
	s.out.Reset()
	if s.log(1, s, slog.LevelError, slog.String("err", long)); !strings.Contains(s.out.String(), long) {
		t.Errorf("a line about no peer: got %.200s; want all of it", s.out.String())
	}
}
