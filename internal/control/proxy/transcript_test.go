package proxy

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/observe/sessions"
)

// timeline returns that of the only session that has ended, an event a line.
func (b *stage) timeline(j *sessions.Log) (sessions.Explained, string) {
	b.t.Helper()
	ended := slices.Collect(j.Ended())
	if len(ended) != 1 {
		b.t.Fatalf("%d sessions have ended; want one", len(ended))
	}
	e, _ := j.Explain(ended[0].ID)
	var text strings.Builder
	for _, ev := range e.Events {
		fmt.Fprintf(&text, "%s: %s\n", ev.Kind, ev.Text)
	}
	return e, text.String()
}

// withJournal has j keep the records of the sessions.
func withJournal(j *sessions.Log) setup {
	return func(p *Proxy, _ *forward.Resolved) { p.SessionLog = j }
}

// in returns the first line that does not stand in text, in this order; "": all do.
func in(text string, lines ...string) string {
	for _, l := range lines {
		_, after, found := strings.Cut(text, l)
		if !found {
			return l
		}
		text = after
	}
	return ""
}

// The record of a session has what both ends said, and no secret.
func TestSessionRecords(t *testing.T) {
	j := sessions.New(time.Now())
	var finished []sessions.Transfer
	j.Finished = func(t sessions.Transfer) { finished = append(finished, t) }
	b := newStage(t, withJournal(j)).connect()
	b.ask("USER anna", "331 password for anna")
	b.client.say("PASS hunter2\r\n")
	b.server.hear("PASS hunter2")
	for _, line := range []string{"230-hunter2 is your password", "230-more", "230 welcome"} {
		b.server.say("%s\r\n", line)
		b.client.hear(line)
	}
	b.ask("hunt", "500 hunt unknown")
	b.ask("SITE PSWD hunter2 hunter4", "200 changed from hunter2 to hunter4")
	b.ask("TYPE I", "200 ok")
	close(b.transfer().done)
	b.server.say("226 done\r\n")
	b.client.hear("226 done")
	b.client.say("PORT 10,0,0,1,1,1\r\n")
	b.client.hear("504 use your own address (127.0.0.1) for data connections")
	b.ask("QUIT", "221 bye")
	b.client.Close()
	b.drain()
	b.finished()
	e, text := b.timeline(j)
	if missing := in(text,
		"session: connected to ", "reply: 220 ",
		"command: USER anna", "reply: 331 password for anna",
		"command: PASS (not shown)", "reply: 230-(not shown) is your password", "reply: 230 welcome",
		"command: (unknown command)", "reply: 500 (not shown)",
		"command: SITE (not shown)",
		"command: PASV", "reply: 227 Entering Passive Mode (10,0,0,1,195,80)",
		"pinhole: opened by the", "127.0.0.1 can connect to 127.0.0.1:50000",
		"answer: 227 Entering Passive Mode (127,0,0,1,195,80)",
		"command: RETR x", "reply: 150 here", "reply: 226 done", "transfer: RETR complete",
		"command: PORT 10,0,0,1,1,1", "fault: the client's PORT names another address", "answer: 504",
		"command: QUIT", "reply: 221 bye", "session: ended",
	); missing != "" {
		t.Errorf("no %q, or not in order, in\n%s", missing, text)
	}
	for _, secret := range []string{"hunt"} {
		if strings.Contains(strings.ToLower(text), secret) {
			t.Errorf("%s stands in the record:\n%s", secret, text)
		}
	}
	if e.User != "anna" || e.Totals.Transfers != 1 || e.Mode != "PASV" || e.State != sessions.StateEnded ||
		e.Verdict.Code != verdict.CodeThirdPartyPort {
		t.Errorf("got %+v", e.Session)
	}
	if len(finished) != 1 || finished[0].Verb != "RETR" || finished[0].File != "x" ||
		finished[0].Type != "I" || !finished[0].Complete {
		t.Errorf("got %+v; want one transfer", finished)
	}
}

// failings are sessions that fail, and why.
var failings = []struct {
	name  string
	setup setup
	do    func(*stage)
	code  verdict.Code
}{
	{"login", nil, func(b *stage) { b.connect().ask("USER x", "331 go on").ask("PASS x", "530 no") },
		verdict.CodeLoginFailed},
	{"PASV refused", nil, func(b *stage) {
		b.connect().login().client.say("PASV\r\n")
		b.server.hear("PASV")
		b.server.say("500 no\r\n")
		b.server.hear("EPSV")
		b.server.say("500 no\r\n")
		b.client.hear("500 no")
	}, verdict.CodeServerRefusedPASV},
	{"transfer refused", nil, func(b *stage) {
		b.connect().login()
		b.pasv()
		b.ask("RETR x", "550 no such file")
	}, verdict.CodeServerRefusedTransfer},
	{"greeting", nil, func(b *stage) {
		b.client = b.dial()
		b.accept()
		b.server.say("421 full\r\n")
		b.client.hear("421 full")
	}, verdict.CodeServerTurnedAway},
	{"server leaves", nil, func(b *stage) {
		b.connect().login()
		b.server.Close()
		b.client.hear("421 the server closed the connection")
	}, verdict.CodeServerLeft},
	{"low port", nil, func(b *stage) {
		b.connect().login().client.say("PORT 127,0,0,1,0,80\r\n")
		b.client.hear("504 data ports below 1024 are not allowed")
	}, verdict.CodeLowPort},
	{"the server's low port", nil, func(b *stage) {
		b.connect().login().client.say("PASV\r\n")
		b.server.hear("PASV")
		b.server.say("227 (1,1,1,1,0,80)\r\n")
		b.client.hear("425 the server offers port 80: data ports below 1024 are not allowed")
	}, verdict.CodeServerLowPort},
	{"TLS", nil, func(b *stage) {
		b.connect().login().client.say("AUTH TLS\r\n")
		b.client.hear("534 this gateway cannot carry an encrypted session to this server")
	}, verdict.CodeTLSRefused},
	{"address", func(_ *Proxy, f *forward.Resolved) {
		f.Clients = append(f.Clients, netip.MustParsePrefix("192.0.2.0/24"))
	}, func(b *stage) {
		b.client = b.dial()
		b.client.hear("421 this address may not use this gateway")
	}, verdict.CodeClientNotAllowed},
}

// Each session fails in one way, and its record says why.
func TestSessionRecordsFaults(t *testing.T) {
	for _, test := range failings {
		t.Run(test.name, func(t *testing.T) {
			j := sessions.New(time.Now())
			setups := []setup{withJournal(j)}
			if test.setup != nil {
				setups = append(setups, test.setup)
			}
			b := newStage(t, setups...)
			test.do(b)
			b.client.Close()
			if b.server != nil {
				_, _ = io.ReadAll(b.server.lines) // until it sees the client's end, if it has not closed
				b.server.Close()
			}
			b.await("the session's end", func() bool { return j.Count() == 0 })
			b.drain()
			if e, text := b.timeline(j); e.Verdict.Code != test.code {
				t.Errorf("got %+v; want %s:\n%s", e.Verdict, test.code, text)
			}
		})
	}
}
