package peers

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/jlaffaye/ftp"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// StoredSize is the length of what StoreAndRetrieve stores, in bytes.
const StoredSize = 20_011

// StoreAndRetrieve stores a file and retrieves it again.
func StoreAndRetrieve(c *ftp.ServerConn, name string) error {
	data := harness.RandomBytes(StoredSize)
	if err := c.Stor(name, bytes.NewReader(data)); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	r, err := c.Retr(name)
	if err != nil {
		return fmt.Errorf("retrieve: %w", err)
	}
	got, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("retrieve: %w", err)
	}
	if !bytes.Equal(got, data) {
		return fmt.Errorf("got %d bytes back; want the %d that were stored", len(got), len(data))
	}
	return nil
}

// The demo's FTP server needs no package. LargeFile is one of its files.
const (
	demoUser, demoPassword = "demo", "lab-only"
	LargeFile              = "64MiB.bin"
)

// NewDemoLab makes a lab whose server runs the demo's FTP server at an address.
func NewDemoLab(t *testing.T, address string) *lab.Lab {
	t.Helper()
	l := labtest.New(t)
	StartDemoServer(t, l.Server(), address)
	return l
}

// StartDemoServer runs the demo's FTP server on a host until the test ends.
func StartDemoServer(t *testing.T, h *lab.Host, address string) {
	t.Helper()
	cmd := harness.Command("demo", "serve", address)
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
	go func() { // its record of the dialogue is not needed here
		defer close(read)
		io.Copy(io.Discard, events)
	}()
	t.Cleanup(func() {
		stdin.Close()
		<-read
		cmd.Wait()
	})
}

// DialFTP opens a session from a host. The client is lenient: it repairs an address in a 227 that looks
// wrong, so a test must look at the reply itself.
func DialFTP(t *testing.T, from *lab.Host, address string, options ...ftp.DialOption) (*ftp.ServerConn,
	error) {
	c, err := ftp.Dial(address, append([]ftp.DialOption{FTPDialer(t, from)}, options...)...)
	if err != nil {
		return nil, err
	}
	return c, c.Login(demoUser, demoPassword)
}

// FTPDialer makes a client connect from a host.
func FTPDialer(t *testing.T, from *lab.Host) ftp.DialOption {
	return ftp.DialWithDialFunc(func(network, address string) (net.Conn, error) {
		return from.Dial(t.Context(), network, address)
	})
}

// LoginFTP is DialFTP that must succeed. The test's end closes the session.
func LoginFTP(t *testing.T, from *lab.Host, address string, options ...ftp.DialOption) *ftp.ServerConn {
	t.Helper()
	c, err := DialFTP(t, from, address, options...)
	if err != nil {
		t.Fatalf("session with %s: %v", address, err)
	}
	t.Cleanup(func() { c.Quit() })
	return c
}

// List lists the server's files, over one data connection.
func List(t *testing.T, c *ftp.ServerConn) {
	t.Helper()
	entries, err := c.List("/")
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	for _, e := range entries {
		if e.Name == LargeFile {
			return
		}
	}
	t.Fatalf("list: got %v; want %s in it", entries, LargeFile)
}

// ListActive lists the server's files in active mode, with lftp.
func ListActive(t *testing.T, from *lab.Host) {
	t.Helper()
	labtest.Need(t, "lftp")
	got := harness.Shell(t, from, "lftp -c 'set ftp:passive-mode off; set ftp:ssl-allow off; set "+
		"net:max-retries 1; open -u %s,%s ftp://%s/; ls'",
		demoUser, demoPassword, harness.Gateway4)
	harness.WantContains(t, got, LargeFile)
}

// DisableEPSV makes a client use PASV.
var DisableEPSV = ftp.DialWithDisabledEPSV(true)
