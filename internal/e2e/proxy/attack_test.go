package proxy

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
)

// attack is what a hostile peer does in a session, which may be over afterwards.
type attack struct {
	name   string
	run    func(p harness.Session)
	logged string // a part of the log that names the kind of refusal
}

// TestAttacks expects that each attack gets a reply and a line in the log, that nothing stays open, and
// that others are served as before.
func TestAttacks(t *testing.T) {
	t.Parallel()
	for path, flags := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			testbed := harness.NewTestbed(t, flags...)
			for _, a := range attacks {
				t.Run(a.name, func(t *testing.T) { a.try(testbed.For(t), path) })
			}
		})
	}
}

func (a attack) try(s *harness.Testbed, path string) {
	if path == "kernel" {
		s.AwaitNoPinholes() // of the attack before
	}
	logged := s.Program.LogCount(a.logged)
	p := s.Login()
	defer p.Close()
	a.run(p)
	s.Program.AwaitLog(a.logged, logged+1)
	if path == "kernel" {
		s.WantPinholes(0, "after the attack")
	}
	s.WantService()
}

var attacks = []attack{
	{"a 227 that was not asked for", func(p harness.Session) {
		logged := p.Program.LogCount("kind=unasked_reply")
		p.Server.Send("227 Entering Passive Mode (203,0,113,21,200,200)")
		p.Program.AwaitLog("kind=unasked_reply", logged+1) // otherwise it could be the reply to what follows
		p.WantAlive()
	}, "kind=unasked_reply"},
	{"a 227 as the answer to NOOP", func(p harness.Session) {
		p.Client.Send("NOOP")
		p.Server.Expect("NOOP")
		p.Server.Send("227 Entering Passive Mode (203,0,113,21,200,200)")
		p.Client.Expect("451")
		p.WantAlive()
	}, "kind=bad_reply"},
	{"a 229 as the answer to NOOP", func(p harness.Session) {
		p.Client.Send("NOOP")
		p.Server.Expect("NOOP")
		p.Server.Send("229 Entering Extended Passive Mode (|||51400|)")
		p.Client.Expect("451")
		p.WantAlive()
	}, "kind=bad_reply"},
	{"a 227 inside the text of another reply", func(p harness.Session) {
		p.Client.Send("STAT")
		p.Server.Expect("STAT")
		p.Server.Send("211-Status\r\n227 Entering Passive Mode (203,0,113,21,200,200)\r\n211 end")
		p.Client.Expect("211-Status")
		p.Client.Expect(" 227") // no client takes it for one
		p.Client.Expect("211 end")
		p.Client.Send("PORT 192,168,5,77,200,200") // logs a refusal
		p.Client.Expect("504")
		p.WantAlive()
	}, "kind=address"},
	{"a 227 with port 22", func(p harness.Session) {
		p.Client.Send("PASV")
		p.Server.Expect("PASV")
		p.Server.Send("227 Entering Passive Mode (203,0,113,21,0,22)")
		p.Client.Expect("425")
		p.WantAlive()
		harness.WantRefused(p.T, p.Lab.Client(), "192.168.5.2:22")
	}, "kind=port"},
	{"a 229 with port 1023", func(p harness.Session) {
		p.Client.Send("EPSV")
		p.Server.Expect("EPSV")
		p.Server.Send("229 Entering Extended Passive Mode (|||1023|)")
		p.Client.Expect("425")
		p.WantAlive()
	}, "kind=port"},
	{"PORT to a third host", portRefused("PORT 192,168,5,77,200,200"), "kind=address"},
	{"PORT to the gateway", portRefused("PORT 192,168,5,2,200,200"), "kind=address"},
	{"PORT to the server", portRefused("PORT 203,0,113,21,200,200"), "kind=address"},
	{"PORT to port 80", portRefused("PORT 192,168,5,1,0,80"), "kind=port"},
	{"EPRT to a third host", portRefused("EPRT |1|192.168.5.77|51400|"), "kind=address"},
	{"EPRT to port 1023", portRefused("EPRT |1|192.168.5.1|1023|"), "kind=port"},
	{"a command from the server", func(p harness.Session) {
		p.Server.Send("PORT 203,0,113,21,200,200")
		p.Client.Expect("421")
		p.Client.ExpectClose()
		p.Server.ExpectClose()
	}, "kind=bad_reply"},
	{"a reply from the client", func(p harness.Session) {
		p.Client.Send("227 Entering Passive Mode (203,0,113,21,200,200)")
		p.Client.Expect("421")
		p.Client.ExpectClose()
		p.Server.ExpectClose()
	}, "kind=line"},
	{"a command without end", func(p harness.Session) {
		flood(p.Client, strings.Repeat("A", 1<<20))
		p.Client.Expect("421")
		p.Server.ExpectClose()
	}, "kind=line"},
	{"a reply without end", func(p harness.Session) {
		p.Client.Send("NOOP")
		p.Server.Expect("NOOP")
		flood(p.Server, strings.Repeat("2", 1<<20))
		p.Client.Expect("421")
		p.Client.ExpectClose()
	}, "kind=bad_reply"},
	{"NUL in a command", func(p harness.Session) {
		p.Client.Send("RETR a\x00b")
		p.Client.Expect("421")
		p.Client.ExpectClose()
	}, "kind=line"},
	{"NUL in a reply", func(p harness.Session) {
		p.Client.Send("NOOP")
		p.Server.Expect("NOOP")
		p.Server.Send("200 o\x00k")
		p.Client.Expect("421")
		p.Client.ExpectClose()
	}, "kind=bad_reply"},
}

// portRefused expects that the server does not get a command.
func portRefused(command string) func(harness.Session) {
	return func(p harness.Session) {
		p.Client.Send("%s", command)
		p.Client.Expect("504")
		p.WantAlive()
	}
}

// flood writes more than any buffer holds, until all is sent or the gateway closes the connection.
func flood(w *harness.ControlConn, text string) {
	w.T.Helper()
	_, err := io.Copy(w.Conn, strings.NewReader(text))
	if err != nil && strings.Contains(err.Error(), "timeout") {
		w.T.Errorf("%s: %v; want all of it taken, or the connection ended", w.Name, err)
	}
}

// Before a login the server refuses commands; those for data connections do not even reach it.
func TestNoDataBeforeLogin(t *testing.T) {
	t.Parallel()
	s := harness.NewTestbed(t)
	p := s.Connect()
	p.Server.Send("220 ready")
	p.Client.Expect("220")
	for _, command := range []string{"PASV", "EPSV", "PORT 192,168,5,1,200,200", "EPRT |1|192.168.5.1|51400|",
		"RETR file", "LIST"} {
		p.Client.Send("%s", command)
		p.Client.Expect("530")
	}
	p.WantAlive()
	s.WantPinholes(0, "before login")
	s.WantService()
}

// The gateway ignores the address in a 227: the data comes from the server itself.
func TestForeignAddressIn227(t *testing.T) {
	t.Parallel()
	for path, flags := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := harness.NewTestbed(t, flags...)
			p := s.Login()
			for _, named := range []string{"198.51.100.9", "0.0.0.0", "192.168.5.2", "192.168.5.1",
				"127.0.0.1", "203.0.113.1"} {
				p.Retrieve(netip.MustParseAddr(named)).Complete()
			}
		})
	}
}

// Ten thousand PASV are answered in order, and leave one pinhole.
func TestManyPASV(t *testing.T) {
	t.Parallel()
	const count = 10_000
	s := harness.NewTestbed(t)
	p := s.Login()
	var peers sync.WaitGroup
	defer peers.Wait()
	peers.Go(func() { flood(p.Client, strings.Repeat("PASV\r\n", count)) })
	peers.Go(func() {
		for i := range count {
			p.Server.Extend()
			if line, err := p.Server.Reader.ReadString('\n'); err != nil || line != "PASV\r\n" {
				t.Errorf("the server got %q, error %v; want PASV", line, err)
				return
			}
			if _, err := fmt.Fprintf(p.Server.Conn, "227 ok (203,0,113,21,%d,%d)\r\n", 4+i>>8,
				i&0xff); err != nil {
				t.Errorf("the server answers: %v", err)
				return
			}
		}
	})
	for range count {
		if at := harness.ParseHostPort(t, p.Client.Expect("227")); at.Addr() != lab.GatewayLAN4 ||
			at.Port() < 49152 {
			t.Fatalf("got %s; want the gateway and one of its passive ports", at)
		}
	}
	peers.Wait()
	p.Exchange("NOOP", "200 done")
	s.WantPinholes(1, "after all")
	s.WantService()
	p.Quit()
}
