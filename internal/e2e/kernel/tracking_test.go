package kernel

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/jlaffaye/ftp"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

func TestForwardKernel(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ listen, server, dial string }{
		{harness.Gateway4, "203.0.113.21", harness.Gateway4},
		{harness.Gateway6, "2001:db8:113::21", harness.Gateway6},
		{":2121", "203.0.113.21:21", harness.Gateway4},
		{"2121", "[2001:db8:113::21]:21", harness.Gateway6},
	} {
		t.Run(tt.listen+" to "+tt.server, func(t *testing.T) {
			t.Parallel()
			labtest.Need(t, "nft", "sysctl")
			l := peers.NewDemoLab(t, ":21")
			before := harness.Shell(t, l.Gateway(), harness.HostState)
			p := harness.Start(t, l.Gateway(), "forward", "--tracking", "kernel", tt.listen,
				tt.server).AwaitReady()
			c := peers.LoginFTP(t, l.Client(), tt.dial)
			peers.List(t, c)
			if strings.Contains(tt.dial, ".") {
				harness.WantContains(t, replyToPASV(t, l.Client(), tt.dial), "(192,168,5,2,")
			}
			content := strings.Repeat("ftpgate\r\n\x00\xff", 100_000)
			if err := c.Stor("up.bin", strings.NewReader(content)); err != nil {
				t.Fatal(err)
			}
			r, err := c.Retr("up.bin")
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			r.Close()
			if err != nil || string(got) != content {
				t.Errorf("got %d bytes back, error %v; want the %d that were stored", len(got), err,
					len(content))
			}
			p.Interrupt()
			wantOnlyForwarding(t, before, harness.Shell(t, l.Gateway(), harness.HostState))
		})
	}
}

// wantOnlyForwarding expects that a host differs in the sysctls for forwarding and accounting only.
// With ip_forward the kernel sets accept_redirects to 0 (inet_forward_change in net/ipv4/devinet.c).
func wantOnlyForwarding(t *testing.T, before, after string) {
	t.Helper()
	was := map[string]bool{}
	for line := range strings.Lines(before) {
		was[line] = true
	}
	for line := range strings.Lines(after) {
		if !was[line] && !strings.Contains(line, "forward") && !strings.Contains(line, "accept_redirects") &&
			line != "net.netfilter.nf_conntrack_acct = 1\n" {
			t.Errorf("the host was changed: %s", line)
		}
	}
}

// A forward serves its interface and its clients. All others reach the gateway itself.
func TestForwardOnlyFor(t *testing.T) {
	t.Parallel()
	l := peers.NewDemoLab(t, ":21")
	p := harness.Start(t, l.Gateway(), "forward", "--tracking", "kernel", "--interface", "lan0", ":2121",
		"203.0.113.21").AwaitReady()
	peers.List(t, peers.LoginFTP(t, l.Client(), harness.Gateway4))
	harness.WantRefused(t, l.Server(), "203.0.113.1:2121")
	p.Interrupt()

	p = harness.Start(t, l.Gateway(), "forward", "--tracking", "kernel", "--client", "192.168.5.128/25",
		"--client", "10.0.0.0/8", harness.Gateway4, "203.0.113.21").AwaitReady()
	harness.WantRefused(t, l.Client(), harness.Gateway4)
	p.Interrupt()
	harness.Start(t, l.Gateway(), "forward", "--tracking", "kernel", "--client", "192.168.5.0/28",
		harness.Gateway4, "203.0.113.21").AwaitReady()
	peers.List(t, peers.LoginFTP(t, l.Client(), harness.Gateway4, peers.DisableEPSV))
}

func TestForwardNone(t *testing.T) {
	t.Parallel()
	l := peers.NewDemoLab(t, ":21")
	p := harness.Start(t, l.Gateway(), "forward", "--tracking", "none", "--server-ports", "50000-50100",
		harness.Gateway4, "203.0.113.21").AwaitReady()
	peers.List(t, peers.LoginFTP(t, l.Client(), harness.Gateway4))
	// The address is not rewritten. This client repairs it; one that used it would fail.
	harness.WantContains(t, replyToPASV(t, l.Client(), harness.Gateway4), "(203,0,113,21,")
	p.Interrupt()

	// All ports, for the named clients. Other clients still reach the gateway's own services.
	ssh, err := l.Gateway().Listen("tcp", "192.168.5.2:22")
	if err != nil {
		t.Fatal(err)
	}
	defer ssh.Close()
	p = harness.Start(t, l.Gateway(), "forward", "--tracking", "none", "--server-ports", "all", "--client",
		"192.168.5.77", harness.Gateway4, "203.0.113.21").AwaitReady()
	harness.WantContains(t, p.Log(),
		"takes over every TCP port of 192.168.5.2 for clients of 192.168.5.77/32, and with them the "+
			"gateway's own 22 by ")
	c, err := l.Client().Dial(t.Context(), "tcp", "192.168.5.2:22")
	if err != nil {
		t.Fatalf("a client that is not named: dial the gateway's own port 22: %v", err)
	}
	c.Close()
	p.Interrupt()
	harness.Start(t, l.Gateway(), "forward", "--tracking", "none", "--server-ports", "all", "--client",
		"192.168.5.0/24", harness.Gateway4, "203.0.113.21").AwaitReady()
	peers.List(t, peers.LoginFTP(t, l.Client(), harness.Gateway4))
	harness.WantRefused(t, l.Client(), "192.168.5.2:22") // the server's port 22, where no program listens
}

func TestForwardsSideBySide(t *testing.T) {
	t.Parallel()
	l := peers.NewDemoLab(t, ":21")
	labtest.Need(t, "nft")
	first := harness.Start(t, l.Gateway(), "forward", "--tracking", "kernel", harness.Gateway4,
		"203.0.113.21").AwaitReady()
	second := harness.Start(t, l.Gateway(), "forward", "--tracking", "kernel", "192.168.5.2:2122",
		"203.0.113.21").AwaitReady()
	for _, listen := range []string{harness.Gateway4, ":2121", ":2122"} {
		_, stderr, status := harness.Run(t, l.Gateway(), "forward", "--tracking", "kernel", listen,
			"203.0.113.21")
		if status != 1 {
			t.Errorf("forward %s beside the others: got exit status %d; want 1", listen, status)
		}
		harness.WantContains(t, stderr, "another running ftpgate", "remedy=",
			fmt.Sprint("pid ", map[bool]int{true: second.Cmd.Process.Pid,
				false: first.Cmd.Process.Pid}[listen == ":2122"]))
	}
	second.Interrupt()
	if got := harness.Ruleset(t, l.Gateway()); strings.Contains(got, "2122") ||
		!strings.Contains(got, "2121") {
		t.Errorf("got\n%s\nwant the first forward's table alone", got)
	}
	peers.List(t, peers.LoginFTP(t, l.Client(), harness.Gateway4))
}

// ftpgate is killed during a transfer: the rules stay, and so the transfer and the service continue. The
// next start takes over without a gap.
func TestKilled(t *testing.T) {
	t.Parallel()
	l := peers.NewDemoLab(t, ":21")
	labtest.Need(t, "nft")
	p := harness.Start(t, l.Gateway(), "forward", "--tracking", "kernel", harness.Gateway4,
		"203.0.113.21").AwaitReady()
	left := harness.Start(t, l.Gateway(), "forward", "--tracking", "kernel", "192.168.5.2:2122",
		"203.0.113.21").AwaitReady()
	want, _ := retrieve(t, peers.LoginFTP(t, l.Client(), harness.Gateway4), peers.LargeFile)

	c := peers.LoginFTP(t, l.Client(), harness.Gateway4)
	r, err := c.Retr(peers.LargeFile)
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 1<<20)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	left.Kill()
	peers.List(t, peers.LoginFTP(t, l.Client(), harness.Gateway4, peers.DisableEPSV))
	p = harness.Start(t, l.Gateway(), "forward", "--tracking", "kernel", harness.Gateway4,
		"203.0.113.21").AwaitReady()
	if got := strings.Count(harness.Ruleset(t, l.Gateway()), "table inet ftpgate"); got != 1 {
		t.Errorf("got %d tables after a new start; want 1: what the other left is swept", got)
	}
	peers.List(t, peers.LoginFTP(t, l.Client(), harness.Gateway4, peers.DisableEPSV))
	got := hashRest(t, head, r)
	if err := r.Close(); err != nil {
		t.Errorf("the transfer that was running: %v", err)
	}
	if got != want {
		t.Error("the transfer that was running brought other bytes than the file has")
	}
	peers.List(t, c) // its control connection works, too
	p.Interrupt()
}

// All faults are reported at once, each with its remedy, before anything is changed.
func TestStartReportsAllFaults(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	labtest.Need(t, "nft")
	g := l.Gateway()
	taken, err := g.Listen("tcp", "192.168.5.2:2122")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := harness.WriteFile(t, "ftpgate.toml", `
[[forward]]
name = "elsewhere"
tracking = "kernel"
listen = "192.168.9.9:2121"
server = "203.0.113.21"
[[forward]]
name = "taken"
tracking = "kernel"
listen = "192.168.5.2:2122"
server = "203.0.113.21"
[[forward]]
name = "no interface"
tracking = "kernel"
listen = ":2123"
interface = "lan9"
server = "203.0.113.21"
[[forward]]
name = "to itself"
tracking = "kernel"
listen = "192.168.5.2:2124"
server = "203.0.113.1"
`)
	_, stderr, status := harness.Run(t, g, "run", "-c", file)
	if status != 1 {
		t.Errorf("got exit status %d; want 1", status)
	}
	harness.WantContains(t, stderr,
		"192.168.9.9 is not an address of this host", "or listen on 192.168.5.2, 203.0.113.1",
		"listen 192.168.5.2:2122 is in use by ", fmt.Sprintf("(pid %d)", os.Getpid()),
		`interface \"lan9\" does not exist`, "name one of lan0, lo, wan0",
		"server 203.0.113.1:21 is this gateway itself",
		"4 faults, nothing has been changed")
	if got := harness.Ruleset(t, g); got != "" {
		t.Errorf("got rules\n%s\nwant none", got)
	}
	if got, err := g.ReadSysctl("net.ipv4.ip_forward"); err != nil || got != "0" {
		t.Errorf("got ip_forward %q, error %v; want it left at 0", got, err)
	}
}

func TestStartWithoutPrivilege(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	_, stderr, status := harness.RunCommand(t, l.Gateway(), harness.UnprivilegedCommand(t, "forward",
		"--tracking", "kernel", "192.168.9.9:2121", "203.0.113.21"))
	if status != 1 {
		t.Errorf("got exit status %d; want 1", status)
	}
	harness.WantContains(t, stderr, "lacks CAP_NET_ADMIN", "run it as root",
		"192.168.9.9 is not an address of this host", "2 faults")
}

// A chain that may block traffic is a warning with a remedy, and the remedy helps in passive and in
// active mode.
func TestStartWarnsOfOthersChains(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ chain, remedy, warning string }{
		"docker": {"iptables -N DOCKER-USER; iptables -P FORWARD DROP; iptables -A FORWARD -j DOCKER-USER",
			"iptables -I DOCKER-USER -m conntrack --ctstate DNAT -j ACCEPT",
			"Docker's chain FORWARD of table ip filter refuses"},
		"iptables": {"iptables -P FORWARD DROP",
			"iptables -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT",
			"chain FORWARD of table ip filter refuses"},
		"nft": {"nft 'table inet fw { chain forward { " +
			"type filter hook forward priority 0; policy drop; }; }'",
			"nft insert rule inet fw forward ct status dnat accept",
			"chain forward of table inet fw refuses"},
	} {
		for _, tracking := range []string{"proxy", "kernel"} {
			t.Run(name+"/"+tracking, func(t *testing.T) {
				t.Parallel()
				l := peers.NewDemoLab(t, ":21")
				labtest.Need(t, "nft", "iptables")
				harness.Shell(t, l.Gateway(), "%s", tt.chain)
				p := harness.Start(t, l.Gateway(), "forward", "--tracking", tracking, harness.Gateway4,
					"203.0.113.21").AwaitReady()
				harness.WantContains(t, p.Log(), "level=WARN", tt.warning, `remedy="`+tt.remedy+`"`)
				harness.Shell(t, l.Gateway(), "%s", tt.remedy)
				peers.List(t, peers.LoginFTP(t, l.Client(), harness.Gateway4, peers.DisableEPSV))
				peers.ListActive(t, l.Client())
			})
		}
	}
}

// A hostile server announces the gateway's own port 22. The client's next connection to that port must
// not reach the server (net/netfilter/nf_conntrack_ftp.c expects whatever the 227 says).
func TestLowPortsAreProtected(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	control, err := l.Server().Listen("tcp", harness.Server4)
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	trap, err := l.Server().Listen("tcp", "203.0.113.21:22")
	if err != nil {
		t.Fatal(err)
	}
	defer trap.Close()
	harness.Start(t, l.Gateway(), "forward", "--tracking", "kernel", harness.Gateway4,
		"203.0.113.21").AwaitReady()
	c, err := l.Client().Dial(t.Context(), "tcp", harness.Gateway4)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := control.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	lines := bufio.NewReader(c)
	say := func(from net.Conn, line string) {
		t.Helper()
		if _, err := io.WriteString(from, line); err != nil {
			t.Fatal(err)
		}
	}
	hear := func(at *bufio.Reader, want string) {
		t.Helper()
		if got, err := at.ReadString('\n'); err != nil || !strings.Contains(got, want) {
			t.Fatalf("got %q, error %v; want %q", got, err, want)
		}
	}
	commands := bufio.NewReader(s)
	say(s, "220 ready\r\n")
	hear(lines, "220")
	say(c, "NOOP\r\n")
	hear(commands, "NOOP")
	say(s, "227 Entering Passive Mode (203,0,113,21,0,22)\r\n")
	hear(lines, "192,168,5,2,0,22") // the kernel translates it
	harness.WantRefused(t, l.Client(), "192.168.5.2:22")

	// The other way round: a client makes the server connect to the gateway's port 22.
	hidden, err := l.Client().Listen("tcp", "192.168.5.1:22")
	if err != nil {
		t.Fatal(err)
	}
	defer hidden.Close()
	say(c, "PORT 192,168,5,1,0,22\r\n")
	hear(commands, "203,0,113,1,0,22")
	harness.WantRefused(t, l.Server(), "203.0.113.1:22")
}

// hashRest hashes what was read and what is still to come.
func hashRest(t *testing.T, head []byte, rest io.Reader) [32]byte {
	t.Helper()
	hash := sha256.New()
	hash.Write(head)
	if _, err := io.Copy(hash, rest); err != nil {
		t.Errorf("read the rest: %v", err)
	}
	return [32]byte(hash.Sum(nil))
}

// retrieve downloads a file and returns its hash and length.
func retrieve(t *testing.T, c *ftp.ServerConn, name string) ([32]byte, int64) {
	t.Helper()
	r, err := c.Retr(name)
	if err != nil {
		t.Fatalf("retrieve %s: %v", name, err)
	}
	hash := sha256.New()
	n, err := io.Copy(hash, r)
	if err != nil {
		t.Fatalf("retrieve %s: %v", name, err)
	}
	if err := r.Close(); err != nil {
		t.Fatalf("retrieve %s: %v", name, err)
	}
	return [32]byte(hash.Sum(nil)), n
}

// replyToPASV lists in passive mode and returns the 227 that the client got.
func replyToPASV(t *testing.T, from *lab.Host, address string) string {
	t.Helper()
	var dialogue strings.Builder
	peers.List(t, peers.LoginFTP(t, from, address, peers.DisableEPSV, ftp.DialWithDebugOutput(&dialogue)))
	for line := range strings.Lines(dialogue.String()) {
		if strings.HasPrefix(line, "227") {
			return strings.TrimSpace(line)
		}
	}
	t.Fatalf("got no 227 in\n%s", dialogue.String())
	return ""
}
