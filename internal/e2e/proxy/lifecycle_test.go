package proxy

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// newRunTestbed is a testbed with ftpgate run and a configuration file. It returns the file's path.
func newRunTestbed(t *testing.T, text string) (*harness.Testbed, string) {
	t.Helper()
	l := labtest.New(t)
	s := &harness.Testbed{Lab: l, T: t, Address: harness.Gateway4,
		Listener: harness.Listen(t, l.Server(), harness.Server4)}
	file := harness.WriteFile(t, "ftpgate.toml", text)
	s.StartProgram("run", "-c", file)
	return s, file
}

// oneProxy and twoProxies are configuration files. A reload removes the second forward.
const (
	oneProxy = "health = \"off\"\n[[forward]]\nname = \"stays\"\nlisten = \"192.168.5.2:2122\"\nserver = " +
		"\"203.0.113.21\"\n%s\n"
	twoProxies = oneProxy + "[[forward]]\nname = \"goes\"\nlisten = \"192.168.5.2:2121\"\nserver = " +
		"\"203.0.113.21\"\n%[1]s\n"
)

// A forward that a reload removes lets its transfers finish, and accepts no new session.
func TestReloadDrains(t *testing.T) {
	t.Parallel()
	for path := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			data := fmt.Sprintf("data = %q", path)
			s, file := newRunTestbed(t, fmt.Sprintf(twoProxies, data))
			idle, busy := s.Login(), s.Login().Retrieve(netip.Addr{})
			busy.Carry(harness.RandomBytes(300_000))
			other := &harness.Testbed{Lab: s.Lab, T: t, Program: s.Program, Listener: s.Listener,
				Address: "192.168.5.2:2122"}
			stays := other.Login()
			harness.OverwriteFile(t, file, fmt.Sprintf(oneProxy, data))
			s.Program.Signal(syscall.SIGHUP)
			s.Program.AwaitLog("msg=reloaded", 1)
			wantNoNewSession(s)
			idle.Client.Expect("421")
			idle.Client.ExpectClose()
			busy.Complete()
			busy.Client.Expect("421") // that was its last transfer
			busy.Client.ExpectClose()
			stays.Retrieve(netip.Addr{}).Complete()
			discardClosed(other)
			other.WantService()
			s.Program.Interrupt()
		})
	}
}

// wantNoNewSession expects that a client is refused, by the kernel or with a 421.
func wantNoNewSession(s *harness.Testbed) {
	s.T.Helper()
	c, err := s.Client().Dial(s.T.Context(), "tcp", s.Address)
	if err != nil {
		if !strings.Contains(err.Error(), "refused") {
			s.T.Errorf("got %v; want the connection refused", err)
		}
		return
	}
	harness.NewControlConn(s.T, "the client", c).Expect("421")
}

// discardClosed takes connections that are closed already from the server's backlog. The gateway may
// have been dialling for a client that it then refused.
func discardClosed(s *harness.Testbed) {
	s.T.Helper()
	l := s.Listener.(*net.TCPListener)
	mine, err := s.Server().Dial(s.T.Context(), "tcp", harness.Server4) // after all earlier ones
	if err != nil {
		s.T.Fatal(err)
	}
	defer mine.Close()
	for {
		c := harness.Accept(s.T, l)
		if c.RemoteAddr().String() == mine.LocalAddr().String() {
			return
		}
		if n, err := io.Copy(io.Discard, c); n != 0 || err != nil {
			s.T.Errorf("got %d bytes and %v of a connection that was not asked for", n, err)
		}
	}
}

// Sessions continue through a reload, and a changed server is used by the next session.
func TestReloadChangesServer(t *testing.T) {
	t.Parallel()
	s, file := newRunTestbed(t, fmt.Sprintf(oneProxy, ""))
	s.Address = "192.168.5.2:2122"
	before := s.Login()
	harness.AddAddress(t, s.Server(), lab.ServerLink, "203.0.113.22/24")
	harness.OverwriteFile(t, file, strings.Replace(fmt.Sprintf(oneProxy, ""), "203.0.113.21", "203.0.113.22",
		1))
	s.Program.Signal(syscall.SIGHUP)
	s.Program.AwaitLog("msg=reloaded", 1)
	first := s.Listener
	s.Listener = harness.Listen(t, s.Server(), "203.0.113.22:21")
	s.WantService()
	s.Listener = first
	before.Retrieve(netip.Addr{}).Complete()
	before.RetrieveActive().Complete()
}

// A reload that changes the tracking replaces the forward.
func TestReloadChangesTracking(t *testing.T) {
	t.Parallel()
	s, file := newRunTestbed(t, fmt.Sprintf(oneProxy, ""))
	s.Address = "192.168.5.2:2122"
	s.WantService()
	harness.OverwriteFile(t, file, fmt.Sprintf(oneProxy, `tracking = "kernel"`))
	s.Program.Signal(syscall.SIGHUP)
	s.Program.AwaitLog("msg=reloaded", 1)
	s.WantService()
	harness.OverwriteFile(t, file, fmt.Sprintf(oneProxy, `data = "relay"`))
	s.Program.Signal(syscall.SIGHUP)
	s.Program.AwaitLog("msg=reloaded", 2)
	s.WantService()
	s.Program.Interrupt()
}

// A stop lets transfers finish, sends idle clients a 421, and removes the rules.
func TestStopDrains(t *testing.T) {
	t.Parallel()
	for path, flags := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := harness.NewTestbed(t, flags...)
			idle, busy := s.Login(), s.Login().Retrieve(netip.Addr{})
			busy.Carry(harness.RandomBytes(300_000))
			s.Program.Signal(syscall.SIGTERM)
			idle.Client.Expect("421")
			idle.Client.ExpectClose()
			wantNoNewSession(s)
			busy.Complete()
			if reply := busy.Client.ExpectClose(); reply != "" && !strings.HasPrefix(reply, "421") {
				t.Errorf("after the transfer the client got %q; want 421", reply)
			}
			if got := s.Program.Wait(); got != 0 {
				t.Errorf("got exit status %d; want 0", got)
			}
			labtest.Need(t, "nft")
			if got := harness.Ruleset(t, s.Gateway()); got != "" {
				t.Errorf("after the end got\n%s\nwant no rules", got)
			}
		})
	}
}

// A stop does not wait for a client that keeps the connection of a finished download open.
func TestStopDespiteOpenData(t *testing.T) {
	t.Parallel()
	for path, flags := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := harness.NewTestbed(t, append(flags, "--drain", "1h")...)
			kept := s.Login().Retrieve(netip.Addr{})
			kept.Carry(harness.RandomBytes(300_000))
			kept.ServerData.Close()
			kept.Server.Send("226 done")
			kept.Client.Expect("226")
			s.Program.Signal(syscall.SIGTERM)
			if got := s.Program.Wait(); got != 0 {
				t.Errorf("got exit status %d; want 0", got)
			}
		})
	}
}

// A stop ends transfers that take too long.
func TestStopAfterDrain(t *testing.T) {
	t.Parallel()
	for path, flags := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := harness.NewTestbed(t, append(flags, "--drain", "1s")...)
			busy := s.Login().Retrieve(netip.Addr{})
			busy.Carry(harness.RandomBytes(300_000))
			s.Program.Signal(syscall.SIGTERM)
			busy.Client.Expect("421")
			busy.Client.ExpectClose()
			busy.Server.ExpectClose()
			if got := s.Program.Wait(); got != 0 {
				t.Errorf("got exit status %d; want 0", got)
			}
			if path == "relay" { // the kernel still carries what it has begun
				if n, err := io.Copy(io.Discard, busy.ClientData); err == nil {
					t.Errorf("the data connection ends well after %d more bytes; want it broken", n)
				}
			}
		})
	}
}

// A client hears at once that the server refuses connections, or does not answer.
func TestServerDown(t *testing.T) {
	t.Parallel()
	s := harness.NewTestbed(t, "--dial-time", "1s")
	harness.StopListening(t, s.Listener)
	c := s.ConnectClient()
	c.Expect("421 cannot reach the server")
	c.ExpectClose()
	s.Program.AwaitLog("cannot reach the server", 1)
	// No answer: the server drops packets.
	labtest.Need(t, "nft")
	harness.Shell(t, s.Server(), "nft 'table inet deaf { chain in { type filter hook input priority 0; tcp "+
		"dport 21 drop; }; }'")
	c = s.ConnectClient()
	c.Expect("421 cannot reach the server")
	c.ExpectClose()
	s.Program.AwaitLog("cannot reach the server", 2)
	harness.Shell(t, s.Server(), "nft delete table inet deaf")
	s.Listener = harness.Listen(t, s.Server(), harness.Server4)
	s.WantService()
}

// The gateway skips the dead ones among a name's addresses.
func TestServerWithDeadAddress(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "nft")
	l := labtest.New(t)
	hosts := harness.WriteFile(t, "hosts",
		"2001:db8:113::99 ftp.lab.example\n203.0.113.22 ftp.lab.example\n203.0.113.21 ftp.lab.example\n")
	// Only this test's processes see these hosts: they have a mount namespace of their own.
	if err := unix.Mount(hosts, "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount("/etc/hosts", 0) })
	harness.AddAddress(t, l.Server(), lab.ServerLink, "203.0.113.22/24") // it exists, and does not answer
	harness.Shell(t, l.Server(), "nft 'table inet deaf { chain in { type filter hook input priority 0; ip "+
		"daddr 203.0.113.22 drop; }; }'")
	s := &harness.Testbed{Lab: l, T: t, Address: harness.Gateway4,
		Listener: harness.Listen(t, l.Server(), harness.Server4)}
	s.StartProgram("run", "-c", harness.WriteFile(t, "ftpgate.toml",
		"resolve = \"1s\"\nhealth = \"off\"\n"+
			"[[forward]]\nlisten = \":2121\"\nserver = \"ftp.lab.example\"\n"))
	s.WantService()
	before := s.Login()
	s.Address = harness.Gateway6 // over the other version of IP
	p := s.Login()
	p.Quit()

	harness.AddAddress(t, l.Server(), lab.ServerLink, "203.0.113.23/24")
	harness.OverwriteFile(t, hosts, "203.0.113.23 ftp.lab.example\n")
	s.Program.AwaitLog("server address changed", 1)
	// The change takes effect after its line in the log, and before the reload.
	s.Program.Signal(syscall.SIGHUP)
	s.Program.AwaitLog("msg=reloaded", 1)
	s.Address, s.Listener = harness.Gateway4, harness.Listen(t, l.Server(), "203.0.113.23:21")
	s.WantService()
	before.Retrieve(netip.Addr{}).Complete()
}

// Another program flushes the ruleset: the next transfer works, and the log has it.
func TestRulesetFlushed(t *testing.T) {
	t.Parallel()
	s := harness.NewTestbed(t)
	labtest.Need(t, "nft")
	p := s.Login()
	p.Retrieve(netip.Addr{}).Complete()
	waiting := s.Login()
	_, _ = waiting.Passive(netip.Addr{})
	harness.Shell(t, s.Gateway(), "nft flush ruleset")
	p.Retrieve(netip.Addr{}).Complete()
	s.Program.AwaitLog("another program has changed", 1)
	harness.Shell(t, s.Gateway(), "nft flush ruleset")
	p.RetrieveActive().Complete()
	waiting.Retrieve(netip.Addr{}).Complete()
	s.WantService()
	s.Program.Interrupt()
}

// A data connection that breaks at one end breaks at the other: no short file with a 226.
func TestBrokenTransferStaysBroken(t *testing.T) {
	t.Parallel()
	for path, flags := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := harness.NewTestbed(t, flags...)
			p := s.Login()
			b := p.Retrieve(netip.Addr{})
			b.Carry(harness.RandomBytes(100_000))
			harness.Reset(t, b.ServerData)
			if n, err := io.Copy(io.Discard, b.ClientData); err == nil {
				t.Errorf("the client reads an end after %d bytes; want the connection reset", n)
			}
			p.Server.Send("426 broken")
			p.Client.Expect("426")
			p.Retrieve(netip.Addr{}).Complete()
		})
	}
}

// Proxies run side by side, each with its own table. An address belongs to one of them.
func TestProxiesSideBySide(t *testing.T) {
	t.Parallel()
	s := harness.NewTestbed(t)
	labtest.Need(t, "nft")
	second := &harness.Testbed{Lab: s.Lab, T: t, Address: "192.168.5.2:2122", Listener: s.Listener}
	second.StartProgram("forward", second.Address, harness.Server4)
	for _, at := range []string{harness.Gateway4, ":2121"} {
		_, stderr, status := harness.Run(t, s.Gateway(), "forward", at, harness.Server4)
		if status != 1 {
			t.Errorf("forward %s beside the others: got exit status %d; want 1", at, status)
		}
		harness.WantContains(t, stderr, fmt.Sprint("pid ", s.Program.Cmd.Process.Pid), "remedy=")
	}
	second.WantService()
	second.Program.Interrupt()
	if got := strings.Count(harness.Ruleset(t, s.Gateway()), "table inet ftpgate"); got != 1 {
		t.Errorf("got %d tables; want the first forward's alone", got)
	}
	s.WantService()
}
