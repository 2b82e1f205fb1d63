package proxy

import (
	"io"
	"net/netip"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// A flood of commands that are refused, over one session after the other, ends each session and leaves a log
// of a bounded size, in which every refusal is accounted for.
func TestFloodOfRefusals(t *testing.T) {
	t.Parallel()
	const sessions, commands = 60, 20_000
	s := harness.NewTestbed(t)
	for range sessions {
		p := s.ConnectGreeted()
		var flood sync.WaitGroup
		flood.Go(func() { _, _ = io.WriteString(p.Client.Conn, strings.Repeat("LPSV\r\n", commands)) })
		if got := p.Client.ExpectClose(); !strings.HasSuffix(got,
			"421 too many refusals in this session\r\n") {
			t.Fatalf("got %.200q at the end; want the gateway's 421", got[max(0, len(got)-200):])
		}
		flood.Wait()
		p.Server.ExpectClose()
	}
	s.WantService()
	s.Program.Interrupt() // which reports the rest
	log := s.Program.Log()
	lines := strings.Count(log, `msg="request refused"`) + strings.Count(log, `level=WARN msg="session ends"`)
	leftOut := sum(t, log, ` warnings=(\d+)`)
	const ofSession = 12 // the first ten refusals, the last one, and the end
	if lines+leftOut != sessions*ofSession || leftOut == 0 {
		t.Errorf("got %d lines, and %d left out; want %d together", lines, leftOut, sessions*ofSession)
	}
	if len(log) > 250_000 {
		t.Errorf("got a log of %d bytes from %d; want a small one", len(log),
			sessions*commands*len("LPSV\r\n"))
	}
}

// sum adds up the numbers that a pattern finds.
func sum(t *testing.T, text, pattern string) (total int) {
	t.Helper()
	for _, found := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		n, err := strconv.Atoi(found[1])
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	return total
}

// Programs of other protocols end at once, and the server hears nothing of them.
func TestForeignPrograms(t *testing.T) {
	t.Parallel()
	s := harness.NewTestbed(t)
	for name, tt := range map[string]struct {
		command []string
		logged  string
	}{
		"curl with HTTP": {[]string{"curl", "--max-time", "20", "-s", "-d", "USER x\r\nPORT 1,2,3,4,5,6\r\n",
			"http://" + harness.Gateway4 + "/"}, `reason="this is FTP, and the client speaks HTTP"`},
		"curl through a proxy": {[]string{"curl", "--max-time", "20", "-s", "-x", "http://" +
			harness.Gateway4,
			"ftp://192.0.2.1/"}, `reason="this is FTP, and the client speaks HTTP"`},
		"ssh": {[]string{"ssh", "-F", "/dev/null", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-p",
			port(harness.Gateway4), host(harness.Gateway4)},
			`reason="this is FTP, and the client speaks SSH"`},
		"curl with HTTPS": {[]string{"curl", "--max-time", "20", "-sk", "https://" + harness.Gateway4 + "/"},
			"kind=encryption"},
	} {
		logged := s.Program.LogCount(tt.logged)
		var client sync.WaitGroup
		client.Go(func() { _ = s.Client().Run(exec.Command(tt.command[0], tt.command[1:]...)) }) // it fails
		server := harness.NewControlConn(t, "the server", harness.Accept(t, s.Listener))
		server.Send("220 ready")
		if got := server.ExpectClose(); got != "" {
			t.Errorf("%s: the server got %q; want nothing", name, got)
		}
		client.Wait()
		s.Program.AwaitLog(tt.logged, logged+1)
	}
	s.WantService()
}

func host(at string) string { h, _, _ := strings.Cut(at, ":"); return h }
func port(at string) string { _, p, _ := strings.Cut(at, ":"); return p }

// The addresses of an IPv6 network share the limit of one client, unless client_ipv6_prefix says otherwise.
func TestSessionsPerNetwork(t *testing.T) {
	t.Parallel()
	for bits, want := range map[string]string{"64": "421 too many sessions from your address",
		"128": "220 ready"} {
		t.Run(bits, func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			servers := harness.Listen(t, l.Server(), harness.Forward6.Server.String())
			harness.StartForward(t, l, harness.Forward6, "--max-sessions-per-client", "1",
				"--client-ipv6-prefix", bits)
			for i, from := range []string{"2001:db8:5::66", "2001:db8:5::a:b:c:d"} {
				harness.AddAddress(t, l.Client(), lab.ClientLink, from+"/64")
				c, err := harness.DialFrom(t, l.Client(), netip.MustParseAddr(from), harness.Forward6.Listen)
				if err != nil {
					t.Fatal(err)
				}
				client, hears := harness.NewControlConn(t, "the client", c), "220 ready"
				if i > 0 {
					hears = want
				}
				if strings.HasPrefix(hears, "220") {
					harness.NewControlConn(t, "the server", harness.Accept(t, servers)).Send("220 ready")
				}
				client.Expect(hears)
			}
		})
	}
}
