package e2e

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"ftpgate/internal/try/lab"
)

// attack is what a hostile peer tries once it has a session. After it the session may be over.
type attack struct {
	name   string
	try    func(p pair)
	logged string // what the operator is told, in a line of the log: the kind of the refusal
}

// TestAttacks has each attack answered with a reply, told in the log, and of no consequence: nothing
// is left open, and others are served as before.
func TestAttacks(t *testing.T) {
	for path, flags := range dataPaths {
		for _, a := range attacks {
			t.Run(path+"/"+a.name, func(t *testing.T) {
				t.Parallel()
				s := newStage(t, flags...)
				p := s.login()
				a.try(p)
				s.gate.await(a.logged, 1)
				if path == "kernel" {
					s.wantHoles(0, "after the attack")
				}
				s.serves()
			})
		}
	}
}

var attacks = []attack{
	{"a 227 that nobody asked for", func(p pair) {
		p.server.say("227 Entering Passive Mode (203,0,113,21,200,200)")
		p.gate.await("kind=unasked_reply", 1) // else it could be the answer to what follows
		p.stillThere()
	}, "kind=unasked_reply"},
	{"a 227 as the answer to NOOP", func(p pair) {
		p.client.say("NOOP")
		p.server.hear("NOOP")
		p.server.say("227 Entering Passive Mode (203,0,113,21,200,200)")
		p.client.hear("451")
		p.stillThere()
	}, "kind=bad_reply"},
	{"a 229 as the answer to NOOP", func(p pair) {
		p.client.say("NOOP")
		p.server.hear("NOOP")
		p.server.say("229 Entering Extended Passive Mode (|||51400|)")
		p.client.hear("451")
		p.stillThere()
	}, "kind=bad_reply"},
	{"a 227 inside the text of another reply", func(p pair) {
		p.client.say("STAT")
		p.server.hear("STAT")
		p.server.say("211-Status\r\n227 Entering Passive Mode (203,0,113,21,200,200)\r\n211 end")
		p.client.hear("211-Status")
		p.client.hear("227")
		p.client.hear("211 end")
		p.client.say("PORT 192,168,5,77,200,200") // for the log
		p.client.hear("504")
		p.stillThere()
	}, "kind=address"},
	{"a 227 with port 22", func(p pair) {
		p.client.say("PASV")
		p.server.hear("PASV")
		p.server.say("227 Entering Passive Mode (203,0,113,21,0,22)")
		p.client.hear("425")
		p.stillThere()
		wantRefused(p.t, p.Client(), "192.168.5.2:22")
	}, "kind=port"},
	{"a 229 with port 1023", func(p pair) {
		p.client.say("EPSV")
		p.server.hear("EPSV")
		p.server.say("229 Entering Extended Passive Mode (|||1023|)")
		p.client.hear("425")
		p.stillThere()
	}, "kind=port"},
	{"PORT to a third host", refusedPort("PORT 192,168,5,77,200,200"), "kind=address"},
	{"PORT to the gateway", refusedPort("PORT 192,168,5,2,200,200"), "kind=address"},
	{"PORT to the server", refusedPort("PORT 203,0,113,21,200,200"), "kind=address"},
	{"PORT to port 80", refusedPort("PORT 192,168,5,1,0,80"), "kind=port"},
	{"EPRT to a third host", refusedPort("EPRT |1|192.168.5.77|51400|"), "kind=address"},
	{"EPRT to port 1023", refusedPort("EPRT |1|192.168.5.1|1023|"), "kind=port"},
	{"a command from the server", func(p pair) {
		p.server.say("PORT 203,0,113,21,200,200")
		p.client.hear("421")
		p.client.ended()
		p.server.ended()
	}, "kind=bad_reply"},
	{"a reply from the client", func(p pair) {
		p.client.say("227 Entering Passive Mode (203,0,113,21,200,200)")
		p.client.hear("421")
		p.client.ended()
		p.server.ended()
	}, "kind=line"},
	{"a command without end", func(p pair) {
		p.client.floods(strings.Repeat("A", 1<<20))
		p.client.hear("421")
		p.server.ended()
	}, "kind=line"},
	{"a reply without end", func(p pair) {
		p.client.say("NOOP")
		p.server.hear("NOOP")
		p.server.floods(strings.Repeat("2", 1<<20))
		p.client.hear("421")
		p.client.ended()
	}, "kind=bad_reply"},
	{"NUL in a command", func(p pair) {
		p.client.say("RETR a\x00b")
		p.client.hear("421")
		p.client.ended()
	}, "kind=line"},
	{"NUL in a reply", func(p pair) {
		p.client.say("NOOP")
		p.server.hear("NOOP")
		p.server.say("200 o\x00k")
		p.client.hear("421")
		p.client.ended()
	}, "kind=bad_reply"},
}

// stillThere expects that the session goes on, with nothing between it and the next answer.
func (p pair) stillThere() {
	p.t.Helper()
	p.ask("NOOP", "200 still there")
	p.ask("PWD", `257 "/"`)
}

// refusedPort expects that the server never hears of a command.
func refusedPort(command string) func(pair) {
	return func(p pair) {
		p.client.say("%s", command)
		p.client.hear("504")
		p.stillThere()
	}
}

// floods writes more than anybody buffers, until all is sent or the gateway has had enough of it.
func (w *wire) floods(text string) {
	w.t.Helper()
	_, err := io.Copy(w.Conn, strings.NewReader(text))
	if err != nil && strings.Contains(err.Error(), "timeout") {
		w.t.Errorf("%s: %v; want all of it taken, or the connection ended", w.who, err)
	}
}

// Commands without login are the server's to refuse; those for data connections are not even asked.
func TestNoDataBeforeLogin(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	p := s.connect()
	p.server.say("220 ready")
	p.client.hear("220")
	for _, command := range []string{"PASV", "EPSV", "PORT 192,168,5,1,200,200", "EPRT |1|192.168.5.1|51400|", "RETR file", "LIST"} {
		p.client.say("%s", command)
		p.client.hear("530")
	}
	p.stillThere()
	s.wantHoles(0, "before login")
	s.serves()
}

// The address in a 227 is not believed: the data comes from the server itself.
func TestForeignAddressIn227(t *testing.T) {
	for path, flags := range dataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, flags...)
			p := s.login()
			for _, named := range []string{"198.51.100.9", "0.0.0.0", "192.168.5.2", "192.168.5.1", "127.0.0.1", "203.0.113.1"} {
				p.retrieve(netip.MustParseAddr(named)).complete()
			}
		})
	}
}

// A flood of PASV is answered in order, and leaves one pinhole.
func TestManyPASV(t *testing.T) {
	t.Parallel()
	const count = 10_000
	s := newStage(t)
	p := s.login()
	var peers sync.WaitGroup
	defer peers.Wait()
	peers.Go(func() { p.client.floods(strings.Repeat("PASV\r\n", count)) })
	peers.Go(func() {
		for i := range count {
			if line, err := p.server.lines.ReadString('\n'); err != nil || line != "PASV\r\n" {
				t.Errorf("the server hears %q, error %v; want PASV", line, err)
				return
			}
			if _, err := fmt.Fprintf(p.server.Conn, "227 ok (203,0,113,21,%d,%d)\r\n", 4+i>>8, i&0xff); err != nil {
				t.Errorf("the server answers: %v", err)
				return
			}
		}
	})
	for range count {
		if at := hostPort(t, p.client.hear("227")); at.Addr() != lab.GatewayLAN4 || at.Port() < 49152 {
			t.Fatalf("got %s; want the gateway and one of its passive ports", at)
		}
	}
	peers.Wait()
	p.ask("NOOP", "200 done")
	s.wantHoles(1, "after all")
	s.serves()
	p.quit()
}
