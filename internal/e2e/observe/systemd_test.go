package observe

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/e2e/harness"
)

// serviceManager receives what ftpgate sends to systemd's notification socket, or to its journal.
type serviceManager struct {
	t        *testing.T
	path     string
	messages chan string
}

// newServiceManager listens at a path until the test ends.
func newServiceManager(t *testing.T, path string) *serviceManager {
	t.Helper()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	m := &serviceManager{t, path, make(chan string, 1000)}
	t.Cleanup(func() { socket.Close() })
	go m.listen(socket)
	return m
}

func (m *serviceManager) listen(socket *net.UnixConn) {
	defer close(m.messages)
	for buffer := make([]byte, 1<<16); ; {
		n, err := socket.Read(buffer)
		if err != nil {
			return
		}
		m.messages <- string(buffer[:n])
	}
}

// expect returns the next message with a prefix. Messages before it must have the prefix passing.
func (m *serviceManager) expect(want, passing string) string {
	m.t.Helper()
	for deadline := time.After(harness.Timeout); ; {
		select {
		case text := <-m.messages:
			if strings.HasPrefix(text, want) {
				return text
			}
			if !strings.HasPrefix(text, passing) {
				m.t.Fatalf("the service manager got %q; want %q", text, want)
			}
		case <-deadline:
			m.t.Fatalf("the service manager got no %q within %s", want, harness.Timeout)
		}
	}
}

// monotonic returns CLOCK_MONOTONIC in microseconds, as systemd wants it.
func monotonic(t *testing.T) int64 {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return now.Nano() / 1000
}

// wantReload expects that a reload's start, with its time, and its end are reported.
func (m *serviceManager) wantReload(reload func()) {
	m.t.Helper()
	before := monotonic(m.t)
	reload()
	text := m.expect("RELOADING=1\nMONOTONIC_USEC=", "WATCHDOG=1")
	at, err := strconv.ParseInt(strings.TrimPrefix(text, "RELOADING=1\nMONOTONIC_USEC="), 10, 64)
	m.expect("READY=1", "WATCHDOG=1")
	if after := monotonic(m.t); err != nil || at < before || at > after {
		m.t.Errorf("got %q, error %v; want a time between %d and %d", text, err, before, after)
	}
}

// ftpgate reports to systemd that it is ready, alive, reloading and stopping.
func TestServiceManager(t *testing.T) {
	t.Parallel()
	forward := fmt.Sprintf(harness.ForwardConfig, "files", harness.Gateway4)
	st, s := harness.NewAdminTestbed(t, forward)
	s.Kill()
	m := newServiceManager(t, filepath.Join(filepath.Dir(s.ConfigFile), "notify"))
	cmd := harness.Command("run", "-c", s.ConfigFile)
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=100000")
	s.Program = harness.StartCommand(t, s.Host, cmd)
	st.Program = s.Program
	m.expect("READY=1", "STATUS=")
	s.Status() // a ready ftpgate answers
	m.expect("WATCHDOG=1", "WATCHDOG=1")
	m.expect("WATCHDOG=1", "WATCHDOG=1")

	m.wantReload(func() { s.Signal(syscall.SIGHUP) })
	s.AwaitLog("msg=reloaded", 1)
	harness.OverwriteFile(t, s.ConfigFile, "[[forward\n")
	m.wantReload(func() { s.Signal(syscall.SIGHUP) })
	s.AwaitLog("reload failed; the old configuration stays in effect", 1)
	s.WriteConfig(t, forward)
	m.wantReload(func() { s.Output("reload") })

	busy := st.Login().Retrieve(netip.Addr{})
	busy.Carry(harness.RandomBytes(300_000))
	s.Signal(syscall.SIGTERM)
	if text := m.expect("STOPPING=1", "WATCHDOG=1"); text != "STOPPING=1\nEXTEND_TIMEOUT_USEC=45000000" {
		t.Errorf("got %q; want 30 seconds for what runs, and 15 more", text)
	}
	m.expect("WATCHDOG=1", "WATCHDOG=1") // the watchdog must not kill it while a transfer drains
	m.expect("WATCHDOG=1", "WATCHDOG=1")
	busy.Complete()
	busy.Server.Close()
	if got := s.Wait(); got != 0 {
		t.Errorf("got exit status %d; want 0", got)
	}
}

// If standard error is the journal's, the log goes to the journal with fields.
func TestJournalFields(t *testing.T) {
	st, s := harness.NewAdminTestbed(t, fmt.Sprintf(harness.ForwardConfig, "files", harness.Gateway4))
	s.Kill()
	// Only this test's processes see this journal: they have a mount namespace of their own.
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount("/run", unix.MNT_DETACH) })
	const socket = "/run/systemd/journal/socket"
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	m := newServiceManager(t, socket)
	program := harness.Command("run", "-c", s.ConfigFile)
	cmd := exec.Command("sh", "-c", `JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec "$@"`, "sh")
	cmd.Args = append(cmd.Args, program.Args...)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args[4] = exe
	cmd.Env, cmd.SysProcAttr = program.Env, program.SysProcAttr
	s.Program = harness.StartCommand(t, s.Host, cmd)
	entry := func(message string) string {
		for {
			if text := m.expect("", ""); strings.Contains(text, "MESSAGE="+message) {
				return text
			}
		}
	}
	harness.WantContains(t, entry("ready"), "PRIORITY=6\n", "SYSLOG_IDENTIFIER=ftpgate\n",
		"FTPGATE_FORWARDS=1\n")
	p := st.Login()
	one := s.AwaitSession("the session", func(one harness.SessionInfo) bool { return one.State == "idle" })
	harness.WantContains(t, entry("session begins"), "FTPGATE_SESSION="+one.ID+"\n",
		"FTPGATE_FORWARD=files\n", "FTPGATE_CLIENT="+one.Client+"\n")
	p.Quit()
	harness.WantContains(t, entry("session ends"), "FTPGATE_SESSION="+one.ID+"\n", "FTPGATE_TRANSFERS=0\n")
	s.Signal(syscall.SIGTERM)
	if got := s.Wait(); got != 0 || s.Log() != "" {
		t.Errorf("got exit status %d, and %q on standard error; want 0, and all of it in the journal", got,
			s.Log())
	}
}
