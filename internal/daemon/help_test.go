package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/config"
	"ftpgate/internal/control/ftptest"
	"ftpgate/internal/core/forward"
)

// records is a log handler that keeps records as lines: level, message, attributes.
type records struct {
	mu      sync.Mutex
	lines   []string
	changed chan struct{} // closed with the next line
}

func newRecords() *records { return &records{changed: make(chan struct{})} }

func (*records) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }
func (r *records) WithAttrs([]slog.Attr) slog.Handler         { return r }
func (r *records) WithGroup(string) slog.Handler              { return r }
func (r *records) Handle(_ context.Context, record slog.Record) error {
	line := record.Level.String() + " " + record.Message
	record.Attrs(func(a slog.Attr) bool {
		line += fmt.Sprintf(" %s=%q", a.Key, a.Value)
		return true
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
	close(r.changed)
	r.changed = make(chan struct{})
	return nil
}

// all returns the lines so far that contain a text.
func (r *records) all(text string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.lines), func(l string) bool { return !strings.Contains(l, text) })
}

// wait waits for the nth line that contains a text, and returns it.
func (r *records) wait(t *testing.T, text string, n int) string {
	t.Helper()
	for deadline := time.After(ftptest.Patience); ; {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		if found := r.all(text); len(found) >= n {
			return found[n-1]
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%q is not in the log:\n%s", text, strings.Join(r.all(""), "\n"))
		}
	}
}

// resolver knows the names of the test, and no others.
type resolver map[string]netip.Addr

func (r resolver) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if addr, known := r[host]; known {
		return []netip.Addr{addr}, nil
	}
	return nil, errors.New("no such host")
}

// service is a daemon with the test around it.
type service struct {
	*Daemon
	t      *testing.T
	log    *records
	reload chan os.Signal
	cancel context.CancelFunc
	ended  chan struct{} // closed when Run has returned
	err    error         // of Run; read it after ended
}

// newService returns a daemon that does not run yet. It has a table name of its own, and transfers have a
// minute to drain.
func newService(t *testing.T, forwards ...forward.Forward) *service {
	t.Helper()
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	t.Setenv("STATE_DIRECTORY", t.TempDir())
	s := &service{t: t, log: newRecords(), reload: make(chan os.Signal), ended: make(chan struct{})}
	s.Daemon = &Daemon{
		Table:    fmt.Sprintf("ftpgate-test-%d-%s", os.Getpid(), t.Name()),
		Config:   &config.Config{Forwards: forwards, Resolve: time.Hour, Drain: time.Minute},
		Log:      slog.New(s.log),
		Reload:   s.reload,
		resolver: resolver{},
	}
	return s
}

// run starts the daemon without CAP_NET_ADMIN, also for root: it relays all data and changes nothing
// on this host. The test's end stops it.
func (s *service) run() *service {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() {
		defer close(s.ended)
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		if s.err = dropCapabilities(); s.err == nil {
			s.err = s.Run(ctx)
		}
	}()
	s.t.Cleanup(func() { s.stop() })
	return s
}

// dropCapabilities takes from the calling thread what a daemon in a test must not use, or gives up itself:
// CAP_NET_ADMIN, and the right to read every file.
func dropCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return err
	}
	const dropped = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH
	sets[0].Effective &^= dropped
	sets[0].Permitted &^= dropped
	return unix.Capset(&header, &sets[0])
}

// ready waits until the daemon serves.
func (s *service) ready() *service {
	s.t.Helper()
	s.log.wait(s.t, "INFO ready", 1)
	return s
}

// stop ends the daemon, and returns the error of Run.
func (s *service) stop() error {
	s.t.Helper()
	s.cancel()
	return s.wait()
}

// wait waits for the end of Run, and returns its error.
func (s *service) wait() error {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(ftptest.Patience):
		s.t.Fatal("Run does not return")
	}
	return s.err
}

// wantServed expects that a server's greeting comes from an address.
func wantServed(t *testing.T, at netip.AddrPort, name string) {
	t.Helper()
	c := ftptest.Dial(t, at)
	c.Want("220 " + name)
	c.Close()
}

// wantNoListener expects that no socket listens at an address any more. One that is being closed may still
// accept a client, and reject it.
func wantNoListener(t *testing.T, at netip.AddrPort) {
	t.Helper()
	for deadline := time.Now().Add(ftptest.Patience); time.Now().Before(deadline); {
		c, err := net.Dial("tcp", at.String())
		if err != nil {
			return
		}
		_ = c.SetDeadline(deadline)
		_, _ = io.Copy(io.Discard, c)
		c.Close()
	}
	t.Errorf("a socket listens at %s; want none", at)
}

// manager is the socket of a service manager (sd_notify(3)).
type manager struct {
	t        *testing.T
	socket   *net.UnixConn
	messages chan string // without watchdog pings
	pings    chan struct{}
}

func newManager(t *testing.T) *manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{t: t, socket: socket, messages: make(chan string, 100), pings: make(chan struct{}, 1)}
	var receiving sync.WaitGroup
	receiving.Go(m.receive)
	t.Cleanup(func() {
		socket.Close()
		receiving.Wait()
	})
	t.Setenv("NOTIFY_SOCKET", path)
	return m
}

func (m *manager) receive() {
	for buffer := make([]byte, 4096); ; {
		n, err := m.socket.Read(buffer)
		if err != nil {
			return
		}
		if message := string(buffer[:n]); message != "WATCHDOG=1" {
			m.messages <- message
			continue
		}
		select {
		case m.pings <- struct{}{}:
		default:
		}
	}
}

// want expects the next message to begin with a text.
func (m *manager) want(prefix string) {
	m.t.Helper()
	select {
	case message := <-m.messages:
		if !strings.HasPrefix(message, prefix) {
			m.t.Fatalf("got the notification %q; want %q", message, prefix)
		}
	case <-time.After(ftptest.Patience):
		m.t.Fatalf("got no notification; want %q", prefix)
	}
}

// wantPing expects another watchdog ping.
func (m *manager) wantPing() {
	m.t.Helper()
	select {
	case <-m.pings: // may be from before
	default:
	}
	select {
	case <-m.pings:
	case <-time.After(ftptest.Patience):
		m.t.Fatal("got no watchdog ping")
	}
}
