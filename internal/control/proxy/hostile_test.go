package proxy

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
)

// What a hostile peer may try, over real connections. Which reply each attack gets is in the dialogues
// too (testdata/dialogues); here it is seen that nothing opened, and what was counted and logged.

// quiet expects that no pinhole was opened.
func (b *stage) quiet() {
	b.t.Helper()
	if _, most := b.path.opened(); most != 0 {
		b.t.Errorf("got %d pinholes; want none", most)
	}
}

func TestAttackUnsolicited227(t *testing.T) {
	const reply = "227 Entering Passive Mode (127,0,0,1,195,80)\r\n229 ok (|||50000|)\r\n"
	b := newStage(t).connect()
	b.server.say(reply) // before login
	b.awaitUnasked(2)
	b.login()
	b.server.say(reply) // after it
	b.awaitUnasked(4)
	b.ask("NOOP", "200 ok")
	b.server.say(reply + "227-a\r\n227 (127,0,0,1,0,22)\r\n") // between commands
	b.awaitUnasked(7)
	b.ask("NOOP", "200 ok")
	b.quiet()
	b.wantRefused("unasked_reply=7")
}

func TestAttackReplyTo227Early(t *testing.T) {
	b := newStage(t).connect().login()
	b.client.say("NOOP\r\n")
	b.server.hear("NOOP")
	b.server.say("227 Entering Passive Mode (127,0,0,1,195,80)\r\n")
	b.client.hear("451 the server's answer does not fit the command")
	b.quiet()
	b.wantRefused("bad_reply=1")
}

// Before login nothing is asked of a server, even of one that would answer (security rule 11).
func TestAttackDataBeforeLogin(t *testing.T) {
	b := newStage(t).connect()
	for _, command := range []string{"PASV", "EPSV", "PORT 127,0,0,1,156,64", "EPRT |1|127.0.0.1|40000|",
		"RETR x", "LIST"} {
		b.client.say("%s\r\n", command)
		b.client.hear("530 log in first")
	}
	b.quiet()
	b.wantRefused("not_logged_in=6")
	b.login()
}

func TestAttackSpoofed227(t *testing.T) {
	b := newStage(t).connect().login()
	for _, address := range []string{"198,51,100,66", "192,168,5,2", "0,0,0,0", "255,255,255,255",
		"127,0,0,2", "10,0,0,1"} {
		b.client.say("PASV\r\n")
		b.server.hear("PASV")
		b.server.say("227 Entering Passive Mode (%s,195,80)\r\n", address)
		b.client.hear("227 Entering Passive Mode (127,0,0,1,195,80)")
		if to := b.path.last().pinhole.Target; to != netip.MustParseAddrPort("127.0.0.1:50000") {
			t.Errorf("%s: the pinhole leads to %s", address, to)
		}
	}
}

func TestAttack227PortOfAService(t *testing.T) {
	b := newStage(t).connect().login()
	for _, port := range []int{22, 80, 1023} {
		b.client.say("PASV\r\n")
		b.server.hear("PASV")
		b.server.say("227 Entering Passive Mode (127,0,0,1,%d,%d)\r\n", port/256, port%256)
		const refused = "425 the server offers port %d: data ports below 1024 are not allowed"
		b.client.hear(fmt.Sprintf(refused, port))
	}
	b.quiet()
	b.wantRefused("port=3")
}

func TestAttackPORT(t *testing.T) {
	for _, mode := range []forward.ServerMode{forward.ServerModeClient, forward.ServerModePassive} {
		b := newStage(t, func(_ *Proxy, f *forward.Resolved) { f.ServerMode = mode }).connect().login()
		for _, command := range []string{"PORT 198,51,100,66,156,64", "EPRT |1|198.51.100.66|40000|",
			"PORT 127,0,0,2,156,64", "PORT 0,0,0,0,156,64"} {
			b.client.say("%s\r\n", command)
			b.client.hear("504 use your own address (127.0.0.1) for data connections")
		}
		for _, command := range []string{"PORT 127,0,0,1,0,80", "PORT 127,0,0,1,3,255",
			"EPRT |1|127.0.0.1|22|"} {
			b.client.say("%s\r\n", command)
			b.client.hear("504 data ports below 1024 are not allowed")
		}
		b.quiet()
		b.wantRefused("address=4 port=3")
	}
}

// A command from the server, or what is no line, ends the session (security rule 9).
func TestAttackServerSendsNoReply(t *testing.T) {
	for name, line := range map[string]string{
		"a command":          "PORT 127,0,0,1,0,22\r\n",
		"NUL":                "200 a\x00\r\n",
		"a line without end": "200 " + strings.Repeat("x", 300_000),
	} {
		t.Run(name, func(t *testing.T) {
			b := newStage(t).connect().login()
			b.server.say("%s", line)
			b.client.hear("421 the server's answer is not FTP")
			b.client.heardAll()
			b.wantRefused("bad_reply=1")
		})
	}
}

// Few sessions of a forward may have a long line of their server's in memory at once, also before the login.
// The others continue with lines of the usual length.
func TestAttackLongLines(t *testing.T) {
	const most = 16
	long := "220 " + strings.Repeat("x", 20_000)
	b := newStage(t)
	type session struct {
		client, server *peer
		heard          string
	}
	heard := make(chan session, most+1)
	var servers []*peer
	for range most + 1 {
		client := b.dial()
		b.accept()
		server := b.server
		servers = append(servers, server)
		if _, err := server.Write([]byte(long)); err != nil {
			t.Fatal(err)
		}
		go func() {
			line, _ := client.lines.ReadString('\n')
			heard <- session{client, server, strings.TrimSuffix(line, "\r\n")}
		}()
	}
	const refused = "421 the server's answer is not FTP"
	if got := <-heard; got.heard != refused {
		t.Errorf("got %.40q; want %q", got.heard, refused)
	}
	b.wantRefused("bad_reply=1")
	b.connect().login()
	for _, server := range servers {
		_, _ = server.Write([]byte("\r\n")) // fails for the one that was refused
	}
	for range most {
		got := <-heard
		if got.heard != long {
			t.Errorf("got %.40q; want the whole line", got.heard)
		}
		b.client, b.server = got.client, got.server
	}
	b.login().ask("NOOP", long) // there is room for one
}

func TestAttackClientSendsBadLines(t *testing.T) {
	for name, tt := range map[string]struct{ line, want string }{
		"without end":  {strings.Repeat("x", 20_000), "421 line is longer than 16384 bytes"},
		"NUL":          {"USER a\x00b\r\n", "421 line has a NUL byte at offset 6"},
		"CR NUL":       {"CWD a\r\x00b\r\n", "421 line has a NUL byte at offset 6"},
		"a reply":      {"227 ok (127,0,0,1,0,22)\r\n", "421 a client sends commands, not replies"},
		"a code alone": {"226\r\n", "421 a client sends commands, not replies"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newStage(t).connect()
			b.client.say("%s", tt.line)
			b.client.hear(tt.want)
			b.client.heardAll()
			b.server.heardAll()
			b.wantRefused("line=1")
		})
	}
}

// A CR inside a line would be two commands for some servers.
func TestAttackCommandInACommand(t *testing.T) {
	b := newStage(t).connect().login()
	b.client.say("CWD a\rDELE b\r\n")
	b.client.hear("500 not an FTP command")
	b.ask("NOOP", "200 ok")
	b.wantRefused("line=1")
}

// A reply within a reply is text, also one that speaks of a data connection: no client takes it for one.
func TestAttackReplyInAReply(t *testing.T) {
	b := newStage(t).connect().login()
	b.client.say("PASV\r\n")
	b.server.hear("PASV")
	b.server.say("500-no\r\n227 Entering Passive Mode (127,0,0,1,195,80)\r\n229 ok (|||50000|)\r\n500 no\r\n")
	b.server.hear("EPSV")
	b.server.say("500-no\r\n229 ok (|||50000|)\r\n500 no\r\n")
	for _, line := range []string{"500-no", " 229 ok (|||50000|)", "500 no"} {
		b.client.hear(line)
	}
	b.quiet()
}

// maxUnasked is how many replies that were not asked for the dialogue drops.
const maxUnasked = 16

// A server that floods the client with replies that were not asked for is sent away.
func TestAttackReplyFlood(t *testing.T) {
	b := newStage(t).connect().login()
	_, _ = io.WriteString(b.server, strings.Repeat("200 ok\r\n", 10_000)) // fails once the gateway has closed
	b.client.hear("421 the server sent too many unexpected replies")
	b.client.heardAll()
	if got, want := b.refusals(), fmt.Sprintf("unasked_reply=%d", maxUnasked+1); got != want {
		t.Errorf("refused: got %q; want %q", got, want)
	}
	if got := strings.Count(b.logs.String(), `msg="request refused"`); got != 11 {
		t.Errorf("log: got %d refusals; want the first 10 and the last: %s", got, b.logs)
	}
}
