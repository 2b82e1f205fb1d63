package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ftpgate/internal/core/ban"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/observe/sessions"
)

// began is the time at which everything in the fake began.
var began = time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)

// fake is a source with fixed answers, apart from what a test sets.
type fake struct {
	running, ended []sessions.Session
	reload         func(context.Context) error
}

func (f *fake) Status() Status { return fixedStatus() }

func (f *fake) Sessions(ended bool) iter.Seq[sessions.Session] {
	if ended {
		return slices.Values(f.ended)
	}
	return slices.Values(f.running)
}

func (f *fake) Explain(id string) (sessions.Explained, bool) {
	plainID(id)
	for _, s := range slices.Concat(f.running, f.ended) {
		if s.ID == id {
			return sessions.Explained{Session: s, Events: fixedEvents()}, true
		}
	}
	return sessions.Explained{}, false
}

func (f *fake) Kill(id string) error {
	plainID(id)
	named := func(s sessions.Session) bool { return s.ID == id }
	switch {
	case slices.ContainsFunc(f.running, named):
		return nil
	case slices.ContainsFunc(f.ended, named):
		return &Error{Text: "session " + id + " has ended already", Kind: ErrNotNow}
	}
	return fmt.Errorf("source: %w", ErrNoSession)
}

func (f *fake) Reload(ctx context.Context) error {
	if f.reload != nil {
		return f.reload(ctx)
	}
	return nil
}

func (f *fake) Doctor(context.Context) (Findings, error) {
	return Findings{At: began, Findings: []finding.Finding{
		{Code: "capabilities", Severity: finding.OK, Text: "ftpgate may change the network"},
		{Code: "input_refused", Severity: finding.Warning, Forward: "archive",
			Text:   "chain INPUT of table ip filter refuses port 2121",
			Remedy: "iptables -I INPUT -p tcp --dport 2121 -j ACCEPT"},
	}}, nil
}

func (f *fake) Bans() Bans { return fixedBans() }

func (f *fake) Ban(b BanRequest) (Banned, error) {
	if err := ban.Check(b.Prefix); err != nil {
		return Banned{}, err
	}
	banned := ban.Ban{Prefix: b.Prefix, Since: began, Reason: b.Reason}
	if b.For > 0 {
		banned.Until = began.Add(b.For)
	}
	return Banned{Ban: banned, Ended: 1}, nil
}

func (f *fake) Unban(p netip.Prefix) (Unbanned, error) {
	if p != fixedBans().Bans[0].Prefix {
		return Unbanned{}, fmt.Errorf("%s is %w", ban.Name(p), ban.ErrNotBanned)
	}
	return Unbanned{Prefix: p, Refused: "deny in the file has 192.0.2.0/24"}, nil
}

func fixedBans() Bans {
	return Bans{Denied: 1312, Bans: []ban.Ban{
		{Prefix: netip.MustParsePrefix("192.0.2.7/32"), Since: began, Until: began.Add(time.Hour),
			Reason: "fail2ban: 5 failures in jail ftpgate"},
		{Prefix: netip.MustParsePrefix("2001:db8:7::/64"), Since: began},
	}}
}

// plainID panics if the server asks for an impossible session: the server then breaks off its answer.
func plainID(id string) {
	if len(id) > 40 || strings.ContainsFunc(id, func(r rune) bool {
		return r <= ' ' ||
			strings.ContainsRune("/.%", r)
	}) {
		panic("admin: the source is asked for session " + id)
	}
}

// shown decodes the answer that stands below the first command of the document that ends with end. Package
// status checks that ftpgate answers so.
func shown[T any](end string) (answer T) {
	text, err := os.ReadFile(document)
	if err != nil {
		panic(err)
	}
	_, after, _ := strings.Cut(string(text), end+"\n```\n```json\n")
	block, _, _ := strings.Cut(after, "\n```\n")
	if err := json.Unmarshal([]byte(block), &answer); err != nil {
		panic(fmt.Sprintf("%s: the example of %s: %v", document, end, err))
	}
	return answer
}

func fixedStatus() Status { return shown[Status](statusPath) }

func fixedEvents() []sessions.Event {
	return shown[sessions.Explained](".sock http://localhost/v1/sessions/3p5kx-17").Events
}

// fixedSessions returns one session that transfers a file, and one that has ended.
func fixedSessions() (running, ended []sessions.Session) {
	type list struct{ Sessions []sessions.Session }
	return shown[list](sessionsPath).Sessions, shown[list]("?state=ended&client=192.168.5.0/24'").Sessions
}

func fixed() *fake {
	f := &fake{}
	f.running, f.ended = fixedSessions()
	return f
}

// fixedMetrics stands in for the metrics of Serve's caller.
func fixedMetrics() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter,
		_ *http.Request) {
		io.WriteString(w, "ftpgate_up 1\n")
	})
}

// noGroup is a group that no host has.
const noGroup = "ftpgate-no-such-group"

// serving is a server that runs until the test ends.
type serving struct {
	*Server
	socket string
	log    *lines
	stop   func() error // ends it, and returns what Serve has
}

// serve runs a server; change may alter it before.
func serve(t *testing.T, source Source, o Options, change func(*Server)) *serving {
	t.Helper()
	if o.Socket == "" {
		o.Socket = filepath.Join(t.TempDir(), "s")
	}
	o.Group = cmp.Or(o.Group, noGroup)
	s, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(s)
	}
	log := &lines{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- s.Serve(ctx, source, fixedMetrics(),
			slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelInfo})))
	}()
	stopped := false
	stop := func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("serve: got %v; want nil", err)
		}
	})
	return &serving{s, o.Socket, log, stop}
}

// client returns a client of the socket.
func (s *serving) client(t *testing.T) *Client {
	c := NewClient(s.socket, "")
	t.Cleanup(c.Close)
	return c
}

// tcp returns the address of the TCP port.
func (s *serving) tcp() string { return s.endpoints[0].Addr().String() }

// dial connects to the socket, with a deadline that no test should meet.
func (s *serving) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

// raw sends a request as it is, and returns the answer's status and body.
func raw(t *testing.T, network, addr, request string) (status int, header http.Header, body string) {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	go io.WriteString(c, request) // the server may answer before it has all of it
	return readAnswer(t, c, request)
}

func readAnswer(t *testing.T, c net.Conn, request string) (int, http.Header, string) {
	t.Helper()
	method, _, _ := strings.Cut(request, " ")
	answer, err := http.ReadResponse(newReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%.40q: %v", request, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) { // it has not read all of the request
		t.Fatal(err)
	}
	return answer.StatusCode, answer.Header, string(text)
}

// serveBench is serve for a benchmark; what it returns ends the server.
func serveBench(b *testing.B, s *Server, source Source) func() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, source, nil, slog.New(slog.DiscardHandler)) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}
