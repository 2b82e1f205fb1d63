package e2e

import (
	"bufio"
	"crypto/sha256"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jlaffaye/ftp"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// The server of the demo, which is there wherever the program is.
const (
	demoUser, demoPassword = "demo", "lab-only"
	bigFile                = "64MiB.bin"
)

// newLab makes a lab whose server serves FTP at address.
func newLab(t *testing.T, address string) *lab.Lab {
	t.Helper()
	l := labtest.New(t)
	serve(t, l.Server(), address)
	return l
}

// serve runs the demo's server on a host until the test ends.
func serve(t *testing.T, h *lab.Host, address string) {
	t.Helper()
	cmd := command("demo", "serve", address)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(cmd); err != nil {
		t.Fatal(err)
	}
	events := bufio.NewReader(stdout)
	line, err := events.ReadString('\n')
	if err != nil || !strings.Contains(line, "ready") {
		t.Fatalf("server at %s: got %q, error %v; want it ready", address, line, err)
	}
	read := make(chan struct{})
	go func() { // what the server says of its dialogue is not needed here
		defer close(read)
		io.Copy(io.Discard, events)
	}()
	t.Cleanup(func() {
		stdin.Close()
		<-read
		cmd.Wait()
	})
}

// dial opens a session from a host. The client is a lenient one: it repairs what a 227 says where
// that looks wrong to it, so what was said must be looked at (saidIn227).
func dial(t *testing.T, from *lab.Host, address string, options ...ftp.DialOption) (*ftp.ServerConn, error) {
	c, err := ftp.Dial(address, append([]ftp.DialOption{dialling(t, from)}, options...)...)
	if err != nil {
		return nil, err
	}
	return c, c.Login(demoUser, demoPassword)
}

// dialling has a client be on a host.
func dialling(t *testing.T, from *lab.Host) ftp.DialOption {
	return ftp.DialWithDialFunc(func(network, address string) (net.Conn, error) {
		return from.Dial(t.Context(), network, address)
	})
}

// session is dial that must succeed.
func session(t *testing.T, from *lab.Host, address string, options ...ftp.DialOption) *ftp.ServerConn {
	t.Helper()
	c, err := dial(t, from, address, options...)
	if err != nil {
		t.Fatalf("session with %s: %v", address, err)
	}
	t.Cleanup(func() { c.Quit() })
	return c
}

// list lists the server's files: one data connection.
func list(t *testing.T, c *ftp.ServerConn) {
	t.Helper()
	entries, err := c.List("/")
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	for _, e := range entries {
		if e.Name == bigFile {
			return
		}
	}
	t.Fatalf("list: got %v; want %s in it", entries, bigFile)
}

// listActive lists the server's files in active mode, which that client cannot do.
func listActive(t *testing.T, from *lab.Host) {
	t.Helper()
	labtest.Need(t, "lftp")
	got := sh(t, from, "lftp -c 'set ftp:passive-mode off; set ftp:ssl-allow off; set net:max-retries 1; open -u %s,%s ftp://%s/; ls'",
		demoUser, demoPassword, gateway4)
	wantLines(t, got, bigFile)
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

// saidIn227 lists in passive mode and returns the reply to PASV as the client has it.
func saidIn227(t *testing.T, from *lab.Host, address string) string {
	t.Helper()
	var dialogue strings.Builder
	list(t, session(t, from, address, disableEPSV, ftp.DialWithDebugOutput(&dialogue)))
	for line := range strings.Lines(dialogue.String()) {
		if strings.HasPrefix(line, "227") {
			return strings.TrimSpace(line)
		}
	}
	t.Fatalf("got no 227 in\n%s", dialogue.String())
	return ""
}

var disableEPSV = ftp.DialWithDisabledEPSV(true)

// rules returns what nft shows of a host.
func rules(t *testing.T, h *lab.Host) string {
	t.Helper()
	return sh(t, h, "nft list ruleset")
}

// wantRefused expects that nobody answers at an address, and that it is said at once.
func wantRefused(t *testing.T, from *lab.Host, address string) {
	t.Helper()
	c, err := from.Dial(t.Context(), "tcp", address)
	if err == nil {
		c.Close()
		t.Errorf("dial %s: got a connection; want it refused", address)
	} else if !strings.Contains(err.Error(), "refused") && !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("dial %s: got %v; want it refused", address, err)
	}
}

// wantLines expects every text in what was printed.
func wantLines(t *testing.T, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("got\n%s\nwant %q in it", got, w)
		}
	}
}

// killed waits for a process that was sent SIGKILL.
func (p *program) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatal("ftpgate survives SIGKILL")
	}
}
