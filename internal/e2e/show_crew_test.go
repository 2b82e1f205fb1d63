package e2e

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

	"ftpgate/internal/try/lab"
)

// crew are clients at work: each stores files and fetches them again, in one session after the other, until it is
// told to stop.
type crew struct {
	t       *testing.T
	stopped atomic.Bool
	wait    sync.WaitGroup
	pairs   atomic.Int64 // of transfers that are through
	errs    chan error
}

// newCrew has clients work at a gateway before a vsftpd.
func newCrew(t *testing.T, l *lab.Lab, at string, of server, clients int) *crew {
	t.Helper()
	c := &crew{t: t, errs: make(chan error, clients)}
	for i := range clients {
		c.wait.Go(func() {
			for n := 0; !c.stopped.Load(); n++ {
				if err := c.visit(l, at, of, fmt.Sprintf("in/%d-%d", i, n)); err != nil {
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

// visit is one session of two files there and back.
func (c *crew) visit(l *lab.Lab, at string, of server, name string) error {
	conn, err := ftp.Dial(at, dialling(c.t, l.Client()), ftp.DialWithDisabledEPSV(strings.HasSuffix(name, "1")))
	if err != nil {
		return err
	}
	err = conn.Login(of.user, of.password)
	for n := 0; n < 2 && err == nil; n++ {
		if err = thereAndBack(conn, fmt.Sprint(name, "-", n)); err == nil {
			c.pairs.Add(1)
		}
	}
	return errors.Join(err, conn.Quit())
}

// more waits until so many more pairs of transfers are through.
func (c *crew) more(pairs int64) {
	c.t.Helper()
	least := c.pairs.Load() + pairs
	until(c.t, "more transfers", func() bool { return c.pairs.Load() >= least || len(c.errs) > 0 })
}

// home ends the work, and returns how many pairs of transfers were through.
func (c *crew) home() int {
	c.t.Helper()
	c.stopped.Store(true)
	c.wait.Wait()
	close(c.errs)
	for err := range c.errs {
		c.t.Error(err)
	}
	return int(c.pairs.Load())
}

// rotated is what a log and those that were rotated away have, the gzipped among them.
func rotated(t *testing.T, file string) string {
	t.Helper()
	all, err := filepath.Glob(file + "*")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, one := range all {
		text := contents(t, one)
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
