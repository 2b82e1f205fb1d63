package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Nothing that may be a secret is logged, at any level, however it comes.
func TestSecretsAreNotLogged(t *testing.T) {
	const secret = "hunter2hunter2"
	b := newStage(t).connect()
	b.ask("USER "+secret, "331 password for "+secret)
	b.ask("PASS "+secret, "230 welcome "+secret)
	b.ask("ACCT "+secret, "200 "+secret)
	b.ask("SITE PSWD "+secret, "200 ok")
	b.ask("hunter"+" "+secret, "500 "+secret+" unknown") // typed as a command
	b.ask(secret, "500 "+secret+" unknown")              // a verb with a digit
	b.ask("EPSV "+secret, "501 "+secret+" is no family")
	b.ask("PASV "+secret, "501 "+secret+"?")
	for _, line := range []string{"/" + secret, "PASS\t" + secret, "ADAT " + secret, "PASS " + secret + "\rX",
		"PORT " + secret, "EPRT " + secret, "AUTH " + secret} {
		b.client.say("%s\r\n", line)
		if _, err := b.client.lines.ReadString('\n'); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	}
	b.client.say("PASS %s\x00\r\n", secret)
	b.client.hear(fmt.Sprintf("421 line has a NUL byte at offset %d", len("PASS ")+len(secret)))
	b.client.heardAll()
	b.connect()
	b.client.say("PASS %s", strings.Repeat(secret, 2000))
	b.client.hear("421 line is longer than 16384 bytes")
	b.client.heardAll()
	b.server.heardAll()
	if logs := b.logs.String(); strings.Contains(strings.ToLower(logs), "hunter") ||
		!strings.Contains(logs, "what=PASS") {
		t.Errorf("the log has a secret, or no lines: %s", logs)
	}
}

// The end of a session shows its duration and its result.
func TestSessionLogs(t *testing.T) {
	b := newStage(t).connect().login()
	close(b.transfer().done)
	b.server.say("226 done\r\n")
	b.client.hear("226 done")
	b.client.say("PORT 10,0,0,1,1,1\r\n")
	b.client.hear("504 use your own address (127.0.0.1) for data connections")
	b.ask("QUIT", "221 bye")
	b.client.Close()
	b.drain()
	b.finished()
	for _, want := range []string{
		`level=INFO msg="session begins" forward=test session=`,
		`msg="session ends"`, "after=", "transfers=1 failed=0 refusals=1",
		`level=WARN msg="request refused" forward=test session=`,
		`kind=address reason="use your own address (127.0.0.1) for data connections"`,
	} {
		if !strings.Contains(b.logs.String(), want) {
			t.Errorf("log: no %q in it: %s", want, b.logs)
		}
	}
}

// The end of a session says what failed, and what to do: with the server's own words, where it had some.
func TestSessionLogsWhy(t *testing.T) {
	for name, tt := range map[string]struct {
		do           func(b *stage)
		want, absent string
	}{
		"nothing": {func(b *stage) { b.ask("QUIT", "221 bye") },
			`level=INFO msg="session ends"`, "level=WARN"},
		"the server leaves with a reason": {func(b *stage) {
			b.ask("CWD /", "500 OOPS: cannot read it")
			b.serverLeaves("the server closed the connection")
		}, `verdict="the server closed the connection after it said: 500 OOPS: cannot read it"`,
			"level=INFO " +
				`msg="session ends"`},
		"the server leaves after it has refused something else": {func(b *stage) {
			b.ask("CWD /", "550 no")
			b.ask("NOOP", "200 ok")
			b.serverLeaves("the server closed the connection")
		}, `verdict="the server closed the connection"`, "said: 550"},
		"the server leaves without an answer": {func(b *stage) {
			b.ask("CWD /", "550 no")
			b.client.say("NOOP\r\n")
			b.server.hear("NOOP")
			b.serverLeaves("the server closed the connection")
		}, `verdict="the server closed the connection (during NOOP)"`, "after it said"},
		"the server ends an idle session": {func(b *stage) {
			b.server.say("421 Timeout.\r\n")
			b.serverLeaves("Timeout.")
		}, `verdict="the server closed the connection after it said: 421 Timeout."`,
			`level=INFO msg="session ends"`},
		"a command that the server refuses": {func(b *stage) {
			b.ask("SIZE x", "550 no such file")
			b.ask("QUIT", "221 bye")
		}, `level=INFO msg="session ends"`, "level=WARN"},
		"a transfer fails": {func(b *stage) {
			close(b.transfer().done)
			b.server.say("552 quota exceeded\r\n")
			b.client.hear("552 quota exceeded")
			b.ask("QUIT", "221 bye")
		}, `transfers=0 failed=1 refusals=0 unlogged=0 goodbye="" ` +
			`verdict="the server did not carry out RETR: 552 quota ` +
			`exceeded" remedy="check the free space`, `level=INFO msg="session ends"`},
	} {
		b := newStage(t).connect().login()
		tt.do(b)
		b.client.Close()
		b.drain()
		b.finished()
		logs := b.logs.String()
		if !strings.Contains(logs, tt.want) || strings.Contains(logs, tt.absent) {
			t.Errorf("%s: want %q, and no %q, in %s", name, tt.want, tt.absent, logs)
		}
	}
}

// serverLeaves waits until the client has heard of it, too.
func (b *stage) serverLeaves(why string) {
	b.server.Close()
	b.client.hear("421 " + why)
	b.client.heardAll()
}

// A failed login is logged with the server's words, without the password.
func TestLoginFailureLogged(t *testing.T) {
	b := newStage(t).connect()
	b.ask("USER anna", "331 password")
	b.ask("PASS hunter2", "530 hunter2 is wrong")
	b.client.Close()
	b.drain()
	b.finished()
	const want = `kind=login reason="login failed" reply="530 (not shown) is wrong" remedy="check the user`
	if logs := b.logs.String(); !strings.Contains(logs, want) || strings.Contains(logs, "hunter") {
		t.Errorf("want %q in %s", want, logs)
	}
}

// finished waits until Serve has returned.
func (b *stage) finished() {
	b.t.Helper()
	select {
	case err := <-b.done:
		if err != nil {
			b.t.Error(err)
		}
		b.done <- nil
	case <-time.After(60 * time.Second):
		b.t.Fatal("Serve has not returned")
	}
}
