package e2e

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
)

// manager is a socket at which a service manager, or its journal, would hear what is told it.
type manager struct {
	t    *testing.T
	path string
	said chan string
}

// newManager listens at a path until the test ends.
func newManager(t *testing.T, path string) *manager {
	t.Helper()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{t, path, make(chan string, 1000)}
	t.Cleanup(func() { socket.Close() })
	go m.listen(socket)
	return m
}

func (m *manager) listen(socket *net.UnixConn) {
	defer close(m.said)
	for buffer := make([]byte, 1<<16); ; {
		n, err := socket.Read(buffer)
		if err != nil {
			return
		}
		m.said <- string(buffer[:n])
	}
}

// hear returns the next message that begins so; others but those that are passed over must not come before it.
func (m *manager) hear(want, passing string) string {
	m.t.Helper()
	for deadline := time.After(patience); ; {
		select {
		case said := <-m.said:
			if strings.HasPrefix(said, want) {
				return said
			}
			if !strings.HasPrefix(said, passing) {
				m.t.Fatalf("the service manager hears %q; want %q", said, want)
			}
		case <-deadline:
			m.t.Fatalf("the service manager does not hear %q within %s", want, patience)
		}
	}
}

// monotonic is the clock of systemd's, in microseconds.
func monotonic(t *testing.T) int64 {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return now.Nano() / 1000
}

// reloads hears that a reload begins, when it did, and that it is over.
func (m *manager) reloads(reload func()) {
	m.t.Helper()
	before := monotonic(m.t)
	reload()
	said := m.hear("RELOADING=1\nMONOTONIC_USEC=", "WATCHDOG=1")
	at, err := strconv.ParseInt(strings.TrimPrefix(said, "RELOADING=1\nMONOTONIC_USEC="), 10, 64)
	m.hear("READY=1", "WATCHDOG=1")
	if after := monotonic(m.t); err != nil || at < before || at > after {
		m.t.Errorf("got %q, error %v; want a time between %d and %d", said, err, before, after)
	}
}

// The service manager is told when it is ready, that it is alive, of reloads and of the end.
func TestShowServiceManager(t *testing.T) {
	t.Parallel()
	forward := fmt.Sprintf(oneForward, "files", gateway4)
	st, s := newShownStage(t, forward)
	s.kill()
	m := newManager(t, filepath.Join(filepath.Dir(s.file), "notify"))
	cmd := command("run", "-c", s.file)
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=100000")
	s.program = launch(t, s.host, cmd)
	st.gate = s.program
	m.hear("READY=1", "STATUS=")
	s.status() // whoever is told that it is ready can ask
	m.hear("WATCHDOG=1", "WATCHDOG=1")
	m.hear("WATCHDOG=1", "WATCHDOG=1")

	m.reloads(func() { s.signal(syscall.SIGHUP) })
	s.await("msg=reloaded", 1)
	rewrite(t, s.file, "[[forward\n")
	m.reloads(func() { s.signal(syscall.SIGHUP) })
	s.await("not reloaded: everything stays as it was", 1)
	s.configure(t, forward)
	m.reloads(func() { s.answer("reload") })

	busy := st.login().retrieve(netip.Addr{})
	busy.carry(payload(300_000))
	s.signal(syscall.SIGTERM)
	if said := m.hear("STOPPING=1", "WATCHDOG=1"); said != "STOPPING=1\nEXTEND_TIMEOUT_USEC=45000000" {
		t.Errorf("got %q; want 30 seconds for what runs, and 15 more", said)
	}
	m.hear("WATCHDOG=1", "WATCHDOG=1") // a transfer that is waited for is no reason to be killed
	m.hear("WATCHDOG=1", "WATCHDOG=1")
	busy.complete()
	busy.server.Close()
	if got := s.end(); got != 0 {
		t.Errorf("got exit status %d; want 0", got)
	}
}

// What is logged goes to the journal with its fields, where standard error is the journal's.
func TestShowJournalFields(t *testing.T) {
	st, s := newShownStage(t, fmt.Sprintf(oneForward, "files", gateway4))
	s.kill()
	// Only this test's processes, which are in a mount namespace of their own, see this journal.
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount("/run", unix.MNT_DETACH) })
	const socket = "/run/systemd/journal/socket"
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	m := newManager(t, socket)
	program := command("run", "-c", s.file)
	cmd := exec.Command("sh", "-c", `JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec "$@"`, "sh")
	cmd.Args = append(cmd.Args, program.Args...)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args[4] = exe
	cmd.Env, cmd.SysProcAttr = program.Env, program.SysProcAttr
	s.program = launch(t, s.host, cmd)
	entry := func(message string) string {
		for {
			if said := m.hear("", ""); strings.Contains(said, "MESSAGE="+message) {
				return said
			}
		}
	}
	wantLines(t, entry("ready"), "PRIORITY=6\n", "SYSLOG_IDENTIFIER=ftpgate\n", "FTPGATE_FORWARDS=1\n")
	p := st.login()
	one := s.awaitSession("the session", func(one seen) bool { return one.State == "idle" })
	wantLines(t, entry("session begins"), "FTPGATE_SESSION="+one.ID+"\n", "FTPGATE_FORWARD=files\n", "FTPGATE_CLIENT="+one.Client+"\n")
	p.quit()
	wantLines(t, entry("session ends"), "FTPGATE_SESSION="+one.ID+"\n", "FTPGATE_TRANSFERS=0\n")
	s.signal(syscall.SIGTERM)
	if got := s.end(); got != 0 || s.text() != "" {
		t.Errorf("got exit status %d, and %q on standard error; want 0, and all of it in the journal", got, s.text())
	}
}
