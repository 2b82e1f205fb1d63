package proxy

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/verdict"
	"ftpgate/internal/observe/sessions"
)

// The reply that a transfer is complete waits for the data, and is true.
func TestSessionHoldsTheLastReply(t *testing.T) {
	b := newStage(t).connect().login()
	data := b.transfer()
	b.server.say("226 done\r\n")
	<-data.held
	close(data.done)
	b.client.hear("226 done")
	if !data.isClosed() {
		t.Error("a complete transfer keeps its port")
	}
	b.ask("NOOP", "200 ok")

	data = b.transfer()
	data.result = errors.New("reset by 192.168.5.1:5000") // by the client, which knows
	close(data.done)
	b.server.say("226 done\r\n")
	b.client.hear("226 done")
	b.wantRefused("")

	data = b.transfer()
	data.result, data.server = errors.New("reset by 203.0.113.21:5000"), true
	close(data.done)
	b.server.say("226 done\r\n")
	b.client.hear("426 the data connection broke off, the transfer is not complete")
	b.wantRefused("broken_transfer=1")
	if got := b.proxy.SessionLog.Sums().Totals; got.Transfers != 1 || got.Failed != 2 {
		t.Errorf("got %+v; want 1 transfer, and 2 that failed", got)
	}
	if !strings.Contains(b.logs.String(), "reset by 203.0.113.21:5000") {
		t.Errorf("log: got no cause: %s", b.logs)
	}

	data = b.transfer() // the server says itself that it has failed: nothing is waited for
	b.server.say("426 broken\r\n")
	b.client.hear("426 broken")
	<-data.closed // after the reply: the transfer does not keep its port
}

// The client's next line, and the end of its stream, let a reply go that is held.
func TestSessionReleasesTheLastReply(t *testing.T) {
	b := newStage(t).connect().login()
	for _, line := range []string{"NOOP", "ABOR", "QUIT"} {
		data := b.transfer()
		b.server.say("226 done\r\n")
		<-data.held
		b.client.say("%s\r\n", line)
		b.client.hear("226 done")
		if !data.isClosed() {
			t.Error("a complete transfer keeps its port")
		}
		b.server.hear(line)
		b.server.say("200 ok\r\n")
		b.client.hear("200 ok")
	}
	b = newStage(t).connect().login()
	data := b.transfer()
	b.server.say("226 done\r\n")
	<-data.held
	if err := b.client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	b.client.hear("226 done")
	b.server.heardAll()
	b.client.heardAll()
}

// The server decides about an upload: no reply is held.
func TestSessionHoldsNoUpload(t *testing.T) {
	b := newStage(t).connect().login()
	data := b.pasv()
	b.ask("STOR x", "150 go")
	b.server.say("226 done\r\n")
	b.client.hear("226 done")
	if isClosed(data.held) || !data.isClosed() {
		t.Error("got the last reply of an upload held, or its port kept")
	}
}

// A path that has nothing to wait for hears all the same that a transfer is complete, either way, and so that
// its connection has arrived; of an aborted one it does not.
func TestSessionFinishesWithoutWaiting(t *testing.T) {
	b := newStage(t).connect().login()
	for _, verb := range []string{"RETR", "STOR", "ABOR"} {
		data := b.pasv()
		data.kernel = true
		want := 1
		if verb == "ABOR" {
			b.ask("RETR x", "150 go")
			b.client.say("ABOR\r\n")
			b.server.hear("ABOR")
			want = 0
		} else {
			b.ask(verb+" x", "150 go")
		}
		b.server.say("226 done\r\n")
		b.client.hear("226 done")
		if !data.isClosed() || data.finishes != want {
			t.Errorf("%s: got closed %t, finished %d times; want it closed, and %d", verb, data.isClosed(),
				data.finishes, want)
		}
	}
}

// A transfer joins its data connection before the server hears of it.
func TestSessionJoins(t *testing.T) {
	b := newStage(t).connect().login()
	data := b.pasv()
	release := b.path.hangIn("AwaitBothEnds")
	b.client.say("RETR x\r\n")
	if got := <-b.path.hang; got != "AwaitBothEnds" || isClosed(data.used) {
		t.Errorf("%s hangs, used %t; want AwaitBothEnds, and then the use", got, isClosed(data.used))
	}
	release()
	b.server.hear("RETR x")
	if !isClosed(data.used) {
		t.Error("the server has the command, and the data connection is not in use")
	}
	b.server.say("150 here\r\n")
	b.client.hear("150 here")

	b = newStage(t).connect().login() // pyftpdlib takes STOR before PASV
	b.ask("STOR x", "150 about to open")
	if data := b.pasv(); !isClosed(data.used) {
		t.Error("a transfer waits for the data connection, and it is not in use")
	}
	b.server.say("226 done\r\n")
	b.client.hear("226 done")
}

// ABOR goes to the server first; its answer closes the port.
func TestSessionAborts(t *testing.T) {
	j := sessions.New(time.Now())
	b := newStage(t, withJournal(j)).connect().login()
	data := b.transfer()
	b.client.say("ABOR\r\n")
	b.server.hear("ABOR")
	if data.isClosed() {
		t.Error("with ABOR the port is closed; want the server to say what becomes of the transfer")
	}
	b.server.say("426 broken off\r\n226 aborted\r\n")
	b.client.hear("426 broken off")
	b.client.hear("226 aborted")
	<-data.closed
	b.ask("NOOP", "200 ok")
	b.client.Close()
	b.server.heardAll()
	b.await("the session's end", func() bool { return j.Count() == 0 })
	if e, text := b.timeline(j); e.Verdict.Code != verdict.CodeAborted {
		t.Errorf("got %+v; want %s:\n%s", e.Verdict, verdict.CodeAborted, text)
	}
}

// When the server learns that the client has ended its data, it has the commands that the client sent before.
func TestSessionPassesCommandsFirst(t *testing.T) {
	b := newStage(t).connect().login()
	data := b.transfer()
	for range 50 {
		b.client.say("NOOP\r\n")
		data.beforeEnd()
		if b.server.unread() == 0 {
			t.Fatal("got the end of data passed on before a command that came first")
		}
		b.server.hear("NOOP")
		b.server.say("200 ok\r\n")
		b.client.hear("200 ok")
	}
	b.client.say("half a com") // is not waited for without end
	data.beforeEnd()
	b.client.say("mand\r\n")
	b.server.hear("half a command")
	b.server.say("500 no\r\n")
	b.client.hear("500 no")
}

// While a transfer runs, other commands are answered, and stand in the record.
func TestSessionCommandsInATransfer(t *testing.T) {
	j := sessions.New(time.Now())
	b := newStage(t, withJournal(j)).connect().login()
	data := b.transfer()
	b.ask("NOOP", "200 still there").ask("STAT", "450 busy").ask("XSHA256 f", "500 no")
	if data.isClosed() {
		t.Error("the answer to STAT has closed the port of the transfer")
	}
	b.client.say("PASV\r\n") // waits
	close(data.done)
	b.server.say("226 done\r\n")
	b.client.hear("226 done")
	b.server.hear("PASV")
	b.server.say("502 no\r\n")
	b.server.hear("EPSV")
	b.server.say("500 no\r\n")
	b.client.hear("500 no")
	b.client.Close()
	b.server.heardAll()
	b.await("the session's end", func() bool { return j.Count() == 0 })
	_, text := b.timeline(j)
	missing := in(text, "command: RETR x", "reply: 150 ", "command: NOOP", "reply: 200 still",
		"command: STAT", "reply: 450 busy", "command: (unknown command)", "reply: 500 (not shown)",
		"reply: 226 done", "command: PASV")
	if missing != "" || !strings.Contains(text, "transfer: RETR complete") {
		t.Errorf("no %q in\n%s", missing, text)
	}
}

// A flood of commands in a transfer waits in the client's socket.
func TestSessionFloodInATransfer(t *testing.T) {
	b := newStage(t).connect().login()
	data := b.transfer()
	const outstanding, flood = 15, 1000 // and the transfer
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(b.client, strings.Repeat("NOOP\r\n", flood))
		sent <- err
	}()
	for range outstanding {
		b.server.hear("NOOP")
	}
	for range flood - outstanding {
		b.server.say("200 ok\r\n")
		b.server.hear("NOOP")
	}
	b.server.say("%s", strings.Repeat("200 ok\r\n", outstanding))
	close(data.done)
	b.server.say("226 done\r\n")
	for range flood {
		b.client.hear("200 ok")
	}
	b.client.hear("226 done")
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// A reply's line may be long, and the last one may have no end.
func TestSessionOddLines(t *testing.T) {
	b := newStage(t).connect().login()
	b.ask("STAT x", "211 "+strings.Repeat("x", 100_000))
	b.ask("STAT y", "")
	b.server.say("211 the blank line was none of it\r\n")
	b.client.hear("211 the blank line was none of it")
	b.client.say("STAT z\r\n")
	b.server.hear("STAT z")
	b.server.say("421 bye")
	b.server.Close()
	b.client.hear("421 bye")
	b.client.heardAll()
}
