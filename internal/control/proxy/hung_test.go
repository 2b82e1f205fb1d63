package proxy

import (
	"slices"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/observe/sessions"
)

// hung are the ways in which a session comes to wait for a data path that does not answer.
var hung = []struct {
	method string
	setup  setup
	begin  func(*stage) // up to the method that hangs
}{
	{"Open", nil, func(b *stage) { // by the server's reader
		b.client.say("PASV\r\n")
		b.server.hear("PASV")
		b.server.say("227 Entering Passive Mode (10,0,0,1,195,80)\r\n")
	}},
	{"Open", nil, func(b *stage) { b.client.say("PORT 127,0,0,1,156,64\r\n") }}, // by the client's
	{"Arm", nil, func(b *stage) {
		b.client.say("PASV\r\n")
		b.server.hear("PASV")
		b.server.say("227 Entering Passive Mode (10,0,0,1,195,80)\r\n")
	}},
	{"Close", nil, func(b *stage) {
		b.pasv()
		b.client.say("PASV\r\n")
	}},
	{"AwaitBothEnds", nil, func(b *stage) { // that is, an end that takes no connection
		b.pasv()
		b.client.say("RETR x\r\n")
	}},
	{"Bridge", serverPassive, func(b *stage) {
		b.client.say("PORT 127,0,0,1,156,64\r\n")
		b.server.hear("PASV")
		b.server.say("227 Entering Passive Mode (10,0,0,1,195,80)\r\n")
		b.client.hear("200 PORT command successful")
		b.client.say("RETR x\r\n")
	}},
	{"OpenPassthrough", passing, func(b *stage) { b.client.say("AUTH TLS\r\n") }},
	{"handle Close", passing, func(b *stage) {
		b.ask("AUTH TLS", "234 go on")
		if err := b.client.CloseWrite(); err != nil {
			b.t.Fatal(err)
		}
	}},
}

// While the data path does not answer one session, an operator can end that session, other clients come and
// are served, and the watch ends sessions whose time is up.
func TestDataPathHangs(t *testing.T) {
	for _, tt := range hung {
		t.Run(tt.method, func(t *testing.T) {
			t.Parallel()
			j := sessions.New(time.Now())
			setups := []setup{withJournal(j), limited(forward.Limits{Idle: short}),
				func(p *Proxy, _ *forward.Resolved) { p.longestClose = short / 10 }}
			if tt.setup != nil {
				setups = append(setups, tt.setup)
			}
			b := newStage(t, setups...).connect().login()
			release := b.path.hangIn(tt.method)
			defer release()
			client, server := b.client, b.server
			id := slices.Collect(j.Running())[0].ID
			tt.begin(b)
			if got := <-b.path.hang; got != tt.method {
				t.Fatalf("%s hangs; want %s", got, tt.method)
			}

			b.connect().login().ask("NOOP", "200 ok") // another client
			b.client.hear("421 idle for 1s")
			b.client.heardAll()

			began := time.Now()
			if j.Find(id).Kill() != nil {
				t.Fatal("the session cannot be killed")
			}
			if tt.method != "handle Close" { // in a passthrough the gateway says nothing
				client.hear("421 an operator ended the session")
			}
			client.heardAll()
			server.heardAll()
			b.await("the session's end", func() bool { return j.Count() == 0 })
			if took := time.Since(began); took > 2*short {
				t.Errorf("the session ended %s after the kill; want %s at most", took, 2*short)
			}
			if e, _ := j.Explain(id); e.Verdict.Code != verdict.CodeKilled {
				t.Errorf("got verdict %s; want %s", e.Verdict.Code, verdict.CodeKilled)
			}
			release()
			b.await("the pinholes' end", func() bool {
				now, _ := b.path.opened()
				return now == 0 && b.path.passthroughs() == 0
			})
		})
	}
}

// The end of a session does not wait for a data path that hangs when its pinhole is closed.
func TestSessionEndsWhileCloseHangs(t *testing.T) {
	t.Parallel()
	b := newStage(t).connect().login()
	b.pasv()
	release := b.path.hangIn("Close")
	defer release()
	b.ask("QUIT", "221 bye")
	b.client.heardAll()
	b.server.heardAll()
	b.await("the session's end", func() bool { return b.sessions() == 0 })
}
