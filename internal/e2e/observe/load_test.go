package observe

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jlaffaye/ftp"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab"
)

// load is a number of clients that store and retrieve files, in one session after the other, until
// stop.
type load struct {
	t                  *testing.T
	stopped            atomic.Bool
	wait               sync.WaitGroup
	storedAndRetrieved atomic.Int64 // pairs of finished transfers
	errs               chan error
}

// startLoad starts clients of a vsftpd behind a gateway.
func startLoad(t *testing.T, l *lab.Lab, at string, of peers.Server, clients int) *load {
	t.Helper()
	c := &load{t: t, errs: make(chan error, clients)}
	for i := range clients {
		c.wait.Go(func() {
			for n := 0; !c.stopped.Load(); n++ {
				if err := c.runSession(l, at, of, fmt.Sprintf("in/%d-%d", i, n)); err != nil {
					c.errs <- fmt.Errorf("client %d, session %d: %w", i, n, err)
					return
				}
			}
		})
	}
	t.Cleanup(func() {
		c.stopped.Store(true)
		c.wait.Wait()
	})
	return c
}

// runSession stores and retrieves two files.
func (c *load) runSession(l *lab.Lab, at string, of peers.Server, name string) error {
	conn, err := ftp.Dial(at, peers.FTPDialer(c.t, l.Client()),
		ftp.DialWithDisabledEPSV(strings.HasSuffix(name, "1")))
	if err != nil {
		return err
	}
	err = conn.Login(of.User, of.Password)
	for n := 0; n < 2 && err == nil; n++ {
		if err = peers.StoreAndRetrieve(conn, fmt.Sprint(name, "-", n)); err == nil {
			c.storedAndRetrieved.Add(1)
		}
	}
	return errors.Join(err, conn.Quit())
}

// awaitMore waits for a number of further pairs of transfers.
func (c *load) awaitMore(pairs int64) {
	c.t.Helper()
	least := c.storedAndRetrieved.Load() + pairs
	harness.Await(c.t, "more transfers", func() bool {
		return c.storedAndRetrieved.Load() >= least ||
			len(c.errs) > 0
	})
}

// stop stops the clients, and returns how many pairs of transfers have finished.
func (c *load) stop() int {
	c.t.Helper()
	c.stopped.Store(true)
	c.wait.Wait()
	close(c.errs)
	for err := range c.errs {
		c.t.Error(err)
	}
	return int(c.storedAndRetrieved.Load())
}

// readRotated returns a log together with its rotated files, the gzipped ones included.
func readRotated(t *testing.T, file string) string {
	t.Helper()
	all, err := filepath.Glob(file + "*")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, one := range all {
		text := harness.ReadFile(t, one)
		if strings.HasSuffix(one, ".gz") {
			z, err := gzip.NewReader(bytes.NewBufferString(text))
			if err != nil {
				t.Fatalf("%s: %v", one, err)
			}
			plain, err := io.ReadAll(z)
			if err != nil {
				t.Fatalf("%s: %v", one, err)
			}
			text = string(plain)
		}
		if text != "" && !strings.HasSuffix(text, "\n") {
			t.Errorf("%s ends within a line: %q", one, text[max(0, len(text)-100):])
		}
		b.WriteString(text)
	}
	return b.String()
}
