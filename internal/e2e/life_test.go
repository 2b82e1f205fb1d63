package e2e

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// newRun is a stage with ftpgate run, of two forwards to one server. The file is returned.
func newRun(t *testing.T, text string) (*stage, string) {
	t.Helper()
	l := labtest.New(t)
	s := &stage{Lab: l, t: t, dial: gateway4, control: listen(t, l.Server(), server4)}
	file := writeFile(t, "ftpgate.toml", text)
	s.begin("run", "-c", file)
	return s, file
}

// twoProxies is a file of two forwards; the second is what is taken away.
const (
	oneProxy   = "[[forward]]\nname = \"stays\"\nlisten = \"192.168.5.2:2122\"\nserver = \"203.0.113.21\"\n%s\n"
	twoProxies = oneProxy + "[[forward]]\nname = \"goes\"\nlisten = \"192.168.5.2:2121\"\nserver = \"203.0.113.21\"\n%[1]s\n"
)

// A forward that a reload takes away lets its transfers end, and nobody in.
func TestReloadDrains(t *testing.T) {
	for path := range dataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			data := fmt.Sprintf("data = %q", path)
			s, file := newRun(t, fmt.Sprintf(twoProxies, data))
			idle, busy := s.login(), s.login().retrieve(netip.Addr{})
			busy.carry(payload(300_000))
			other := &stage{Lab: s.Lab, t: t, gate: s.gate, control: s.control, dial: "192.168.5.2:2122"}
			stays := other.login()
			rewrite(t, file, fmt.Sprintf(oneProxy, data))
			s.gate.signal(syscall.SIGHUP)
			s.gate.await("msg=reloaded", 1)
			s.refusesSessions()
			idle.client.hear("421")
			idle.client.ended()
			busy.complete()
			busy.client.hear("421") // it was the last one
			busy.client.ended()
			stays.retrieve(netip.Addr{}).complete()
			other.forgetDead()
			other.serves()
			s.gate.interrupt()
		})
	}
}

// refusesSessions expects that nobody gets in: nobody listens, or it is said why not.
func (s *stage) refusesSessions() {
	s.t.Helper()
	c, err := s.Client().Dial(s.t.Context(), "tcp", s.dial)
	if err != nil {
		if !strings.Contains(err.Error(), "refused") {
			s.t.Errorf("got %v; want the connection refused", err)
		}
		return
	}
	newWire(s.t, "the client", c).hear("421")
}

// forgetDead takes from the server's queue who has hung up already: the gateway may have been about to connect for
// the client that it refused.
func (s *stage) forgetDead() {
	s.t.Helper()
	l := s.control.(*net.TCPListener)
	mine, err := s.Server().Dial(s.t.Context(), "tcp", server4) // behind all that came before
	if err != nil {
		s.t.Fatal(err)
	}
	defer mine.Close()
	for {
		c := accept(s.t, l)
		if c.RemoteAddr().String() == mine.LocalAddr().String() {
			return
		}
		if n, err := io.Copy(io.Discard, c); n != 0 || err != nil {
			s.t.Errorf("got %d bytes and %v of a connection that nobody asked for", n, err)
		}
	}
}

// What stays the same serves on through a reload, and what has changed in place holds for the next
// session.
func TestReloadChangesServer(t *testing.T) {
	t.Parallel()
	s, file := newRun(t, fmt.Sprintf(oneProxy, ""))
	s.dial = "192.168.5.2:2122"
	before := s.login()
	addAddress(t, s.Server(), lab.ServerLink, "203.0.113.22/24")
	rewrite(t, file, strings.Replace(fmt.Sprintf(oneProxy, ""), "203.0.113.21", "203.0.113.22", 1))
	s.gate.signal(syscall.SIGHUP)
	s.gate.await("msg=reloaded", 1)
	first := s.control
	s.control = listen(t, s.Server(), "203.0.113.22:21")
	s.serves()
	s.control = first
	before.retrieve(netip.Addr{}).complete()
	before.retrieveActive().complete()
}

// A reload that changes how a forward is followed replaces one by the other.
func TestReloadChangesTracking(t *testing.T) {
	t.Parallel()
	s, file := newRun(t, fmt.Sprintf(oneProxy, ""))
	s.dial = "192.168.5.2:2122"
	s.serves()
	rewrite(t, file, fmt.Sprintf(oneProxy, `tracking = "kernel"`))
	s.gate.signal(syscall.SIGHUP)
	s.gate.await("msg=reloaded", 1)
	s.serves()
	rewrite(t, file, fmt.Sprintf(oneProxy, `data = "relay"`))
	s.gate.signal(syscall.SIGHUP)
	s.gate.await("msg=reloaded", 2)
	s.serves()
	s.gate.interrupt()
}

// The end lets transfers end, tells the idle, and takes the rules away.
func TestStopDrains(t *testing.T) {
	for path, flags := range dataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, flags...)
			idle, busy := s.login(), s.login().retrieve(netip.Addr{})
			busy.carry(payload(300_000))
			s.gate.signal(syscall.SIGTERM)
			idle.client.hear("421")
			idle.client.ended()
			s.refusesSessions()
			busy.complete()
			if said := busy.client.ended(); said != "" && !strings.HasPrefix(said, "421") {
				t.Errorf("after the transfer the client hears %q; want 421", said)
			}
			if got := s.gate.end(); got != 0 {
				t.Errorf("got exit status %d; want 0", got)
			}
			labtest.Need(t, "nft")
			if got := rules(t, s.Gateway()); got != "" {
				t.Errorf("after the end got\n%s\nwant no rules", got)
			}
		})
	}
}

// Who does not come to an end is ended.
func TestStopDoesNotWaitForEver(t *testing.T) {
	for path, flags := range dataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, append(flags, "--drain", "1s")...)
			busy := s.login().retrieve(netip.Addr{})
			busy.carry(payload(300_000))
			s.gate.signal(syscall.SIGTERM)
			busy.client.hear("421")
			busy.client.ended()
			busy.server.ended()
			if got := s.gate.end(); got != 0 {
				t.Errorf("got exit status %d; want 0", got)
			}
			if path == "relay" { // the kernel goes on with what it has begun
				if n, err := io.Copy(io.Discard, busy.to); err == nil {
					t.Errorf("the data connection ends well after %d more bytes; want it broken", n)
				}
			}
		})
	}
}

// A server that is not there is told of at once: whether it refuses, or nothing comes back.
func TestServerDown(t *testing.T) {
	t.Parallel()
	s := newStage(t, "--dial-time", "1s")
	s.control.Close()
	c := s.extraClient()
	c.hear("421 cannot reach the server")
	c.ended()
	s.gate.await("cannot reach the server", 1)
	// No answer at all: packets to the server are dropped.
	labtest.Need(t, "nft")
	sh(t, s.Server(), "nft 'table inet deaf { chain in { type filter hook input priority 0; tcp dport 21 drop; }; }'")
	c = s.extraClient()
	c.hear("421 cannot reach the server")
	c.ended()
	s.gate.await("cannot reach the server", 2)
	sh(t, s.Server(), "nft delete table inet deaf")
	s.control = listen(t, s.Server(), server4)
	s.serves()
}

// Of several addresses of a name those that are dead are passed over.
func TestServerWithDeadAddress(t *testing.T) {
	labtest.Need(t, "nft")
	l := labtest.New(t)
	hosts := writeFile(t, "hosts", "2001:db8:113::99 ftp.lab.example\n203.0.113.22 ftp.lab.example\n203.0.113.21 ftp.lab.example\n")
	// Only this test's processes, which are in a mount namespace of their own, see these hosts.
	if err := unix.Mount(hosts, "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount("/etc/hosts", 0) })
	addAddress(t, l.Server(), lab.ServerLink, "203.0.113.22/24") // there, and deaf
	sh(t, l.Server(), "nft 'table inet deaf { chain in { type filter hook input priority 0; ip daddr 203.0.113.22 drop; }; }'")
	s := &stage{Lab: l, t: t, dial: gateway4, control: listen(t, l.Server(), server4)}
	s.begin("run", "-c", writeFile(t, "ftpgate.toml", "resolve = \"1s\"\n[[forward]]\nlisten = \":2121\"\nserver = \"ftp.lab.example\"\n"))
	s.serves()
	before := s.login()
	s.dial = gateway6 // a client of the other version of IP
	p := s.login()
	p.quit()

	addAddress(t, l.Server(), lab.ServerLink, "203.0.113.23/24")
	rewrite(t, hosts, "203.0.113.23 ftp.lab.example\n")
	s.gate.await("server address changed", 1)
	// The change is in force a moment after the log has it, and before the next thing is done.
	s.gate.signal(syscall.SIGHUP)
	s.gate.await("msg=reloaded", 1)
	s.dial, s.control = gateway4, listen(t, l.Server(), "203.0.113.23:21")
	s.serves()
	before.retrieve(netip.Addr{}).complete()
}

// Somebody else empties the kernel's tables: the next transfer works again, and the operator is told.
func TestRulesetFlushed(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	labtest.Need(t, "nft")
	p := s.login()
	p.retrieve(netip.Addr{}).complete()
	waiting := s.login()
	_, _ = waiting.passive(netip.Addr{})
	sh(t, s.Gateway(), "nft flush ruleset")
	p.retrieve(netip.Addr{}).complete()
	s.gate.await("removed by another program", 1)
	sh(t, s.Gateway(), "nft flush ruleset")
	p.retrieveActive().complete()
	waiting.retrieve(netip.Addr{}).complete()
	s.serves()
	s.gate.interrupt()
}

// A data connection that breaks is broken for the other end, too: never a short file with a 226.
func TestBrokenTransferStaysBroken(t *testing.T) {
	for path, flags := range dataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, flags...)
			p := s.login()
			b := p.retrieve(netip.Addr{})
			b.carry(payload(100_000))
			reset(t, b.from)
			if n, err := io.Copy(io.Discard, b.to); err == nil {
				t.Errorf("the client reads an end after %d bytes; want the connection reset", n)
			}
			p.server.say("426 broken")
			p.client.hear("426")
			p.retrieve(netip.Addr{}).complete()
		})
	}
}

// Proxies run side by side, each with a table of its own, and one address has one of them.
func TestProxiesSideBySide(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	labtest.Need(t, "nft")
	second := &stage{Lab: s.Lab, t: t, dial: "192.168.5.2:2122", control: s.control}
	second.begin("forward", second.dial, server4)
	for _, at := range []string{gateway4, ":2121"} {
		_, stderr, status := run(t, s.Gateway(), "forward", at, server4)
		if status != 1 {
			t.Errorf("forward %s beside the others: got exit status %d; want 1", at, status)
		}
		wantLines(t, stderr, fmt.Sprint("pid ", s.gate.cmd.Process.Pid), "remedy=")
	}
	second.serves()
	second.gate.interrupt()
	if got := strings.Count(rules(t, s.Gateway()), "table inet ftpgate"); got != 1 {
		t.Errorf("got %d tables; want the first forward's alone", got)
	}
	s.serves()
}
