package kernel

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// bansBed is a gateway with a forward of every tracking, and two addresses of clients.
type bansBed struct {
	*harness.AdminGateway
	t        *testing.T
	lab      *lab.Lab
	forwards []*harness.Testbed
	named    []netip.Addr // the address that the server of each forward announces
}

// The clients' addresses: one that is banned, and one that is not.
var (
	banned   = netip.MustParseAddr("192.168.5.66")
	innocent = netip.MustParseAddr("192.168.5.67")
)

func newBansBed(t *testing.T) *bansBed {
	t.Helper()
	l := labtest.New(t)
	harness.AddAddress(t, l.Gateway(), "lan0", "192.168.5.3/24")
	for _, a := range []netip.Addr{banned, innocent} {
		harness.AddAddress(t, l.Client(), lab.ClientLink, a.String()+"/24")
	}
	b := &bansBed{AdminGateway: harness.StartAdminGateway(t, l, repairForwards), t: t, lab: l}
	listener := harness.Listen(t, l.Server(), harness.Server4)
	for _, at := range []string{harness.Gateway4, "192.168.5.2:2122", "192.168.5.3:2123"} {
		b.forwards = append(b.forwards, &harness.Testbed{Lab: l, T: t, Address: at, Program: b.Program,
			Listener: listener})
		b.named = append(b.named, netip.Addr{})
	}
	b.named[2] = netip.MustParseAddr("192.168.5.3")
	return b
}

// login logs a client in at a forward.
func (b *bansBed) login(i int, from netip.Addr) harness.Session {
	b.t.Helper()
	s := b.forwards[i]
	c, err := harness.DialFrom(b.t, b.lab.Client(), from, netip.MustParseAddrPort(s.Address))
	if err != nil {
		b.t.Fatalf("%s from %s: %v", s.Address, from, err)
	}
	p := harness.Session{Testbed: s, Client: harness.NewControlConn(b.t, "the client", c),
		Server: harness.NewControlConn(b.t, "the server", harness.Accept(b.t, s.Listener))}
	p.Server.Send("220 ready")
	p.Client.Expect("220")
	p.Exchange("USER alice", "331 and the password")
	p.Exchange("PASS "+harness.Password, "230 welcome")
	return p
}

// wantEnded expects that a connection ends, in whichever way. What the kernel tracks ends with the next
// packet.
func (b *bansBed) wantEnded(what string, c net.Conn) {
	b.t.Helper()
	_, _ = c.Write([]byte("NOOP\r\n"))
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		b.t.Errorf("%s goes on; want its end", what)
	}
}

// wantRefused expects that no forward lets the banned client in, and that each serves the other.
func (b *bansBed) wantRefused(what string) {
	b.t.Helper()
	for i, s := range b.forwards {
		c, err := harness.DialFrom(b.t, b.lab.Client(), banned, netip.MustParseAddrPort(s.Address))
		if err == nil {
			c.Close()
			b.t.Errorf("%s: %s lets the banned client in", what, s.Address)
		}
		b.login(i, innocent).Quit()
	}
}

// wantServed expects that each forward serves the client that was banned.
func (b *bansBed) wantServed(what string) {
	b.t.Helper()
	for i, named := range b.named {
		p := b.login(i, banned)
		p.Retrieve(named).Complete()
		p.Quit()
	}
}

// A ban ends the client's sessions in the middle of their transfers, and refuses it at forwards of every
// tracking; another client goes on. The ban outlives what removes the rules, a reload, and a crash.
func TestBan(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "nft")
	b := newBansBed(t)
	var broken []net.Conn
	var others []harness.Transfer
	for i, named := range b.named {
		transfer := b.login(i, banned).Retrieve(named)
		broken = append(broken, transfer.Client.Conn, transfer.ClientData)
		others = append(others, b.login(i, innocent).Retrieve(named))
	}
	// ftpgate knows no sessions of tracking none.
	harness.WantContains(t, b.Output("ban", banned.String(), "--reason", "it guesses passwords"),
		"192.168.5.66: banned until it is lifted, 2 sessions ended")
	for i, c := range broken {
		b.wantEnded(b.forwards[i/2].Address, c)
	}
	for _, other := range others {
		other.Complete()
		other.Quit()
	}
	b.wantRefused("after the ban")
	b.AwaitLog(`msg="address banned" address=192.168.5.66`, 1)
	harness.WantContains(t, b.Output("bans"), "192.168.5.66: banned since ", "it guesses passwords")
	for i, command := range []string{"flush ruleset", "flush set inet ftpgate banned4",
		"delete chain inet ftpgate bans"} {
		if strings.HasPrefix(command, "delete") {
			command = "flush chain inet ftpgate bans; " + command
		}
		harness.Shell(t, b.lab.Gateway(), "nft %q", command)
		b.AwaitLog("they are restored", i+1)
		b.wantRefused("after " + command)
	}
	b.Signal(syscall.SIGHUP)
	b.AwaitLog("msg=reloaded", 1)
	b.wantRefused("after a reload")
	b.Kill()
	b.Start(t)
	b.wantRefused("after a crash")
	harness.WantContains(t, b.Output("unban", banned.String()), "not banned any more")
	b.wantServed("after unban")
	if rules := harness.Ruleset(t, b.lab.Gateway()); strings.Contains(rules, "banned4") {
		t.Errorf("got sets of bans without a ban:\n%s", rules)
	}
	b.Interrupt()
}

// A ban ends by itself. Its addresses overlap those of another one.
func TestBanEnds(t *testing.T) {
	t.Parallel()
	b := newBansBed(t)
	b.Output("ban", "192.168.5.64/28", "--for", "2s") // no address of another test's client is in there
	b.Output("ban", "192.168.5.66", "--for=1h")
	b.Output("unban", "192.168.5.66")
	b.AwaitLog(`msg="ban ended: its time is over" address=192.168.5.64/28`, 1)
	b.wantServed("after the ban")
	b.Interrupt()
}

// Addresses of the file, and of a file that it names, are refused. A change of that file counts at once; one
// that cannot be read is told with its line, and the one before stays.
func TestDeny(t *testing.T) {
	t.Parallel()
	file := filepath.Join(harness.ShortDir(t), "denied")
	harness.OverwriteFile(t, file, "# a list\n\n198.51.100.0/24 ; of others\n::ffff:192.168.5.66\n")
	b := newBansBed(t)
	b.WriteConfig(t, "")
	text := harness.ReadFile(t, b.ConfigFile)
	harness.OverwriteFile(t, b.ConfigFile, "deny = [\"203.0.113.99\", \""+file+"\"]\n"+text+repairForwards)
	running := b.login(0, banned)
	b.Signal(syscall.SIGHUP)
	b.AwaitLog("msg=reloaded", 1)
	running.Client.ExpectClose()
	b.wantRefused("after the reload")
	harness.OverwriteFile(t, file, "192.168.5.66\n192.168.5.300\n")
	b.AwaitLog("cannot use the changed file of denied addresses; its previous content stays in use", 1)
	b.AwaitLog("line 2", 1)
	b.wantRefused("with an unsound file")
	harness.OverwriteFile(t, file, "")
	b.AwaitLog("denied addresses read again", 1)
	b.wantServed("after the change")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	_, errs, status := b.Run("reload")
	if status == 0 {
		t.Errorf("got exit status 0 with a pipe; want a failure")
	}
	harness.WantContains(t, errs, "is not a file")
	b.Interrupt()
}
