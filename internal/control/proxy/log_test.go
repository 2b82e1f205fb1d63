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

// The end of a session says how long it was and what came of it.
func TestSessionLogs(t *testing.T) {
	b := newStage(t).connect().login()
	close(b.transfer().done)
	b.server.say("226 done\r\n")
	b.client.hear("226 done")
	b.client.say("PORT 10,0,0,1,1,1\r\n")
	b.client.hear("504 data connections go to your own address, 127.0.0.1, only")
	b.ask("QUIT", "221 bye")
	b.client.Close()
	b.drain()
	b.finished()
	for _, want := range []string{
		`level=INFO msg="session begins" forward=test session=`,
		`msg="session ends"`, "after=", "transfers=1 refusals=1",
		`level=WARN msg="request refused" forward=test session=`,
		`kind=address reason="data connections go to your own address, 127.0.0.1, only"`,
	} {
		if !strings.Contains(b.logs.String(), want) {
			t.Errorf("log: no %q in it: %s", want, b.logs)
		}
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
