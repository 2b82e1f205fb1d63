package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ftpgate/internal/core/verdict"
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
		return fmt.Errorf("session %s has ended: %w", id, ErrNotNow)
	}
	return fmt.Errorf("source: %w", ErrNoSession)
}

func (f *fake) Reload(ctx context.Context) error {
	if f.reload != nil {
		return f.reload(ctx)
	}
	return nil
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

func fixedStatus() Status {
	return Status{
		Version: "v1.5.0", Build: "linux/amd64, go1.26.0", PID: 4711, Since: began,
		File: "/etc/ftpgate/ftpgate.toml", Table: "inet ftpgate",
		Capabilities: []string{"the kernel carries data connections: nftables can be programmed"},
		Forwards: []Forward{{
			Name: "archive", Listen: "192.168.5.2:2121", Server: "ftp.example.com:21",
			Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.21")},
			Tracking:  "proxy", DataPath: "kernel", FTPS: "terminated", FTPSWhy: "tls.client is optional",
			Sessions: 1, Total: 240, Transfers: 1312, Failed: 2, Up: 52_428_800, Down: 734_003_200,
			Clients: 1, Refused: 3,
			Problem: "the server has not answered since 2026-03-14 10:25:53: no connection: " +
				"203.0.113.21:21: i/o timeout",
			Health: &Health{Since: began.Add(59 * time.Minute), Checked: began.Add(time.Hour),
				Why: "no connection: 203.0.113.21:21: i/o timeout",
				Remedy: "see that the server runs, and that " +
					"firewalls let this gateway reach it"},
		}},
		Certificates: []Certificate{{
			Forward: "archive", File: "/etc/ftpgate/cert.pem", Subject: "CN=gw.example.com",
			Expires: began.Add(20 * 24 * time.Hour), DaysLeft: 20, Warning: "expires in 20 days: renew it",
		}},
		Reload: &Reload{At: began.Add(time.Hour), OK: false,
			Error: `/etc/ftpgate/ftpgate.toml:3:1: key "listen" is not known`},
		Conntrack: &Conntrack{Count: 312, Max: 262_144},
		Warnings:  []string{"the last reload has changed nothing: the file is invalid"},
	}
}

func fixedEvents() []sessions.Event {
	at := func(d time.Duration) time.Time { return began.Add(d) }
	return []sessions.Event{
		{At: began, Kind: sessions.KindSession, Text: "192.168.5.17:40112 has connected to 192.168.5.2:2121"},
		{At: at(412 * time.Millisecond), Kind: sessions.KindCommand, Text: "PASV"},
		{At: at(413 * time.Millisecond), Kind: sessions.KindPinhole, Data: 1,
			Text: "opened: 192.168.5.17 to 192.168.5.2:51234"},
	}
}

// fixedSessions returns one session that transfers a file, and one that has ended.
func fixedSessions() (running, ended []sessions.Session) {
	client, server := netip.MustParseAddrPort("192.168.5.17:40112"),
		netip.MustParseAddrPort("203.0.113.21:21")
	s := sessions.Session{
		ID: "3p5kx-17", Forward: "archive", Tracking: "proxy",
		Client: client, Gateway: netip.MustParseAddrPort("192.168.5.2:2121"), Server: server,
		User: "anna", Since: began, Active: began.Add(time.Second), State: sessions.StateTransfer,
		Mode: "PASV", TLS: sessions.TLS{Client: "TLS 1.3"}, Path: "relay",
		Transfer: &sessions.Transfer{
			Session: "3p5kx-17", Forward: "archive", Client: client.Addr(), Server: server, User: "anna",
			Verb: "RETR", Direction: sessions.Download, File: "/pub/a.iso", Type: "I", Mode: "PASV",
			Path: "relay",
			TLS:  sessions.TLS{Client: "TLS 1.3"}, Began: began.Add(time.Second),
			Connected: began.Add(time.Second),
			Bytes:     10_485_760, Rate: 5_242_880,
		},
		Totals: sessions.Totals{Transfers: 2, Up: 0, Down: 20_480},
		Verdict: verdict.Verdict{Code: verdict.CodeFine,
			Text: "nothing went wrong: 2 transfers, 0 bytes up, 20480 down"},
	}
	e := s
	e.ID, e.Since, e.Active = "3p5kx-9", began.Add(-time.Hour), began.Add(-50*time.Minute)
	e.Ended, e.State, e.Transfer, e.TLS = e.Active, sessions.StateEnded, nil, sessions.TLS{}
	e.Totals = sessions.Totals{Failed: 1}
	e.Refused = 1
	e.Verdict = verdict.Verdict{Code: verdict.CodeClientNeverConnected,
		Text:   "the client never connected to 192.168.5.2:51234 within 30 s",
		Remedy: "let the client reach ports 49152-65535 of the gateway"}
	return []sessions.Session{s}, []sessions.Session{e}
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
