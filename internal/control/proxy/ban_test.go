package proxy

import (
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
)

// A failed login whose answer is delayed is logged at once, with the user, also if the client does not wait.
func TestFailedLoginOfImpatientClient(t *testing.T) {
	b := newStage(t, func(p *Proxy, _ *forward.Resolved) { p.loginDelay = time.Hour }).connect()
	b.ask("USER a", "331 password").ask("PASS a", "530 no").ask("PASS b", "530 no")
	b.client.say("PASS c\r\n")
	b.server.hear("PASS c")
	b.server.say("530 no\r\n")
	b.await("the third line", func() bool {
		return strings.Count(b.logs.String(), `msg="login failed" forward=test `) == 3
	})
	if got := strings.Count(b.logs.String(), " user=a kind=login "); got < 2 {
		t.Errorf("got %d lines with the user; want 2 at least:\n%s", got, b.logs)
	}
	b.client.Close()
	b.server.heardAll()
}

// A banned client is sent away with a reason; one whose session runs when it is banned reads that, too.
func TestBanned(t *testing.T) {
	var banned atomic.Bool
	b := newStage(t, func(p *Proxy, _ *forward.Resolved) {
		p.Banned = func(client netip.Addr) bool { return client.IsLoopback() && banned.Load() }
	}).connect().login()
	j := b.proxy.SessionLog
	banned.Store(true)
	for s := range j.Running() {
		if err := j.Find(s.ID).Kill(); err != nil {
			t.Error(err)
		}
	}
	b.client.hear("421 your address is banned")
	b.client.heardAll()
	other := b.dial()
	other.hear("421 your address is banned")
	other.heardAll()
	b.wantRefused("banned=1")
	for s := range j.Ended() {
		if s.Verdict.Code != verdict.CodeBanned || s.Failed() {
			t.Errorf("got verdict %v, failed %t; want %s, and no failure", s.Verdict, s.Failed(),
				verdict.CodeBanned)
		}
	}
}

// Every failed login has its line, also in a session whose other refusals have none any more.
func TestEveryFailedLoginIsLogged(t *testing.T) {
	const failures = 15
	b := newStage(t, limited(forward.Limits{LoginFailures: failures + 1}),
		func(p *Proxy, _ *forward.Resolved) { p.loginDelay = time.Nanosecond }).connect()
	for range failures {
		b.ask("PASS a", "530 no")
	}
	if got := strings.Count(b.logs.String(), `msg="login failed"`); got != failures {
		t.Errorf("got %d lines; want %d:\n%s", got, failures, b.logs)
	}
}
