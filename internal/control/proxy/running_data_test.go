package proxy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/observe/sessions"
)

func goesOn(p *Proxy, _ *forward.Resolved) { p.Path.(*fakePath).goesOn = true }

// dropControl closes both control connections of a session whose data goes on, and waits until the session
// is known to be in that state.
func (b *stage) dropControl(j *sessions.Log) {
	b.t.Helper()
	b.client.Close()
	b.server.heardAll()
	b.server.Close()
	b.await("the end of the control connections", func() bool {
		running := slices.Collect(j.Running())
		return len(running) == 1 && running[0].State == sessions.StateData
	})
}

// A session whose data goes on counts, and is over with its data.
func TestSessionCountsWhileDataGoesOn(t *testing.T) {
	j := sessions.New(time.Now())
	b := newStage(t, withJournal(j), goesOn, limited(forward.Limits{PerClient: 1})).connect().login()
	data := b.pasv()
	b.ask("STOR x", "150 go")
	b.dropControl(j)
	if isClosed(data.severed) {
		t.Error("the data is severed with the control connections")
	}
	refused := b.dial()
	refused.hear("421 too many sessions from your address")
	refused.heardAll()
	if strings.Contains(b.logs.String(), "session ends") {
		t.Error("log: the session ends; want its data to end first")
	}
	close(data.done)
	b.await("the session's end", func() bool { return b.counts.Running() == 0 })
	b.await("the log", func() bool { return strings.Contains(b.logs.String(), "session ends") })
	b.connect() // there is room for one
}

// An operator ends data that goes on.
func TestSessionKilledWhileDataGoesOn(t *testing.T) {
	j := sessions.New(time.Now())
	b := newStage(t, withJournal(j), goesOn).connect().login()
	data := b.transfer()
	b.dropControl(j)
	running := slices.Collect(j.Running())
	if !j.Find(running[0].ID).Kill() {
		t.Fatal("the session cannot be killed")
	}
	<-data.severed
	b.await("the session's end", func() bool { return j.Count() == 0 })
	if e, text := b.timeline(j); e.Verdict.Code != verdict.CodeKilled {
		t.Errorf("got %+v; want %s:\n%s", e.Verdict, verdict.CodeKilled, text)
	}
}

// A gateway that stops waits for data that goes on, and ends it when the time is over.
func TestSessionDrainsWhileDataGoesOn(t *testing.T) {
	j := sessions.New(time.Now())
	b := newStage(t, withJournal(j), goesOn).connect().login()
	data := b.transfer()
	b.dropControl(j)
	b.stop()
	<-data.drained
	late := b.dial()
	late.hear("421 the gateway is shutting down") // the proxy drains
	if b.counts.Running() != 1 || isClosed(data.severed) {
		t.Errorf("got %d sessions, severed %t; want the drain to wait", b.counts.Running(),
			isClosed(data.severed))
	}
	b.drain()
	<-data.severed
	b.finished()
}

// Earlier data connections of a session go on, up to a limit, and count to the end of the last one.
func TestSessionKeepsEarlierData(t *testing.T) {
	const most = 16
	j := sessions.New(time.Now())
	b := newStage(t, withJournal(j), goesOn).connect().login()
	for range most {
		b.pasv()
		b.ask("STOR x", "150 go")
		b.server.say("226 done\r\n")
		b.client.hear("226 done")
	}
	b.client.say("PASV\r\n")
	b.server.hear("PASV")
	b.server.say("227 ok (10,0,0,1,195,80)\r\n")
	b.client.hear("425 too many of your earlier data connections are open, close them first")
	close(b.path.all[3].done)
	b.pasv() // there is room for one
	b.client.Close()
	b.server.heardAll()
	for i, data := range b.path.all {
		if b.counts.Running() != 1 {
			t.Fatalf("the session is over before its data connection %d", i)
		}
		if i != 3 {
			close(data.done)
		}
	}
	b.await("the session's end", func() bool { return b.counts.Running() == 0 })
}
