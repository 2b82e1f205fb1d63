package proxy

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/observe/sessions"
)

func goesOn(p *Proxy, _ *forward.Resolved) { p.Path.(*fakePath).goesOn = true }

// dropControl closes both control connections of a session whose data continues, and waits until the session
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

// A session whose data continues counts, and is over with its data.
func TestSessionCountsWhileDataContinues(t *testing.T) {
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
	b.await("the session's end", func() bool { return b.sessions() == 0 })
	b.await("the log", func() bool { return strings.Contains(b.logs.String(), "session ends") })
	b.connect() // there is room for one
}

// A transfer whose client sends nothing more lasts as long as its data, and then for the idle time: the
// client may be waiting for the last reply. Where it is gone, and the server says nothing, the session ends.
func TestSessionClientEndedInTransfer(t *testing.T) {
	var proxy *Proxy
	const idle = time.Hour
	halfClosed := func(t *testing.T, setups ...setup) (*stage, *fakeData, func(time.Duration) bool) {
		t.Helper()
		b := newStage(t, append(setups, limited(forward.Limits{Idle: idle}), func(p *Proxy,
			_ *forward.Resolved) {
			proxy = p
		})...).connect().login()
		data := b.transfer()
		if err := b.client.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(b.server.lines); err != nil {
			t.Fatal(err)
		}
		s, now := proxy.tracked()[0], time.Now()
		b.await("the end of the step", func() bool { return s.CheckTimeouts(now, nil).Sub(now) > idle/2 })
		return b, data, func(later time.Duration) bool {
			due := s.CheckTimeouts(now.Add(later), nil)
			return !due.After(now.Add(later))
		}
	}

	t.Run("with data", func(t *testing.T) {
		b, data, overAfter := halfClosed(t, goesOn)
		for i := range 5 {
			if overAfter(time.Duration(i) * idle) {
				t.Fatalf("over after %d times the idle time; want its data to end first", i)
			}
		}
		close(data.done)
		if overAfter(6 * idle) {
			t.Error("over as soon as its data is; want it to wait for the server's last reply")
		}
		b.server.say("226 done\r\n")
		b.client.hear("226 done")
	})
	t.Run("silent server", func(t *testing.T) {
		b, data, overAfter := halfClosed(t, goesOn)
		if overAfter(2 * idle) {
			t.Fatal("over while its data continues")
		}
		close(data.done)
		if overAfter(3*idle) || !overAfter(4*idle) {
			t.Error("want it over in the idle time after its data")
		}
		b.client.hear("421 the server does not answer")
	})
	t.Run("without data", func(t *testing.T) {
		b, data, overAfter := halfClosed(t)
		if overAfter(idle/2) || !overAfter(2*idle) {
			t.Error("want it over after the idle time")
		}
		<-data.closed
		b.client.hear("421 the server does not answer")
	})
}

// An operator ends data that continues.
func TestSessionKilledWhileDataContinues(t *testing.T) {
	j := sessions.New(time.Now())
	b := newStage(t, withJournal(j), goesOn).connect().login()
	data := b.transfer()
	b.dropControl(j)
	running := slices.Collect(j.Running())
	if j.Find(running[0].ID).Kill() != nil {
		t.Fatal("the session cannot be killed")
	}
	<-data.severed
	b.await("the session's end", func() bool { return j.Count() == 0 })
	if e, text := b.timeline(j); e.Verdict.Code != verdict.CodeKilled {
		t.Errorf("got %+v; want %s:\n%s", e.Verdict, verdict.CodeKilled, text)
	}
}

// A gateway that stops waits for data that continues, and ends it when the time is over.
func TestSessionDrainsWhileDataContinues(t *testing.T) {
	j := sessions.New(time.Now())
	b := newStage(t, withJournal(j), goesOn).connect().login()
	data := b.transfer()
	b.dropControl(j)
	b.drain()
	late := b.dial()
	late.hear("421 the gateway is shutting down") // the proxy drains
	late.heardAll()
	b.await("the late client's end", func() bool { return b.sessions() <= 1 })
	if b.sessions() != 1 || isClosed(data.severed) {
		t.Errorf("got %d sessions, severed %t; want the drain to wait", b.sessions(),
			isClosed(data.severed))
	}
	b.abort()
	<-data.severed
	b.finished()
}

// Earlier data connections of a session continue, up to a limit, and count to the end of the last one.
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
	b.server.say("227 Entering Passive Mode (10,0,0,1,195,80)\r\n")
	b.client.hear("425 too many of your earlier data connections are open, close them first")
	close(b.path.all[3].done)
	b.pasv() // there is room for one
	b.client.Close()
	b.server.heardAll()
	for i, data := range b.path.all {
		if b.sessions() != 1 {
			t.Fatalf("the session is over before its data connection %d", i)
		}
		if i != 3 {
			close(data.done)
		}
	}
	b.await("the session's end", func() bool { return b.sessions() == 0 })
}
