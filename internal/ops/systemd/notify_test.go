package systemd

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/try/lab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// manager is the socket of a service manager.
type manager int

// listen creates a manager that the process notifies from now on.
func listen(t *testing.T) manager {
	t.Helper()
	return listenAt(t, filepath.Join(t.TempDir(), "s"))
}

func listenAt(t *testing.T, path string) manager {
	t.Helper()
	m := manager(bind(t, path))
	t.Setenv("NOTIFY_SOCKET", path)
	return m
}

// bind creates a datagram socket outside the runtime's poller, for tests in a bubble.
func bind(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatalf("bind %s: %v", path, err)
	}
	return fd
}

// received returns the messages so far. A datagram has arrived when the write returns.
func (m manager) received(t *testing.T) (messages []string) {
	t.Helper()
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(int(m), buf, 0)
		if errors.Is(err, unix.EAGAIN) {
			return messages
		}
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, string(buf[:n]))
	}
}

func TestStates(t *testing.T) {
	m := listen(t)
	for _, tt := range []struct {
		what string
		do   func() error
		want string
	}{
		{"Ready", Ready, "READY=1"},
		{"Stopping", func() error { return Stopping(30 * time.Second) },
			"STOPPING=1\nEXTEND_TIMEOUT_USEC=45000000"},
	} {
		if err := tt.do(); err != nil {
			t.Errorf("%s: %v", tt.what, err)
		}
		if got, want := m.received(t), []string{tt.want}; !slices.Equal(got, want) {
			t.Errorf("%s: got %q; want %q", tt.what, got, want)
		}
	}
}

// systemd compares the time with that of its request: without it, it does not recognise its own reload.
func TestReloading(t *testing.T) {
	m := listen(t)
	var before, after unix.Timespec
	clock := func(at *unix.Timespec) {
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, at); err != nil {
			t.Fatal(err)
		}
	}
	clock(&before)
	err := Reloading()
	clock(&after)
	if err != nil {
		t.Fatal(err)
	}
	messages := m.received(t)
	if len(messages) != 1 {
		t.Fatalf("got %q; want one message", messages)
	}
	first, second, _ := strings.Cut(messages[0], "\n")
	usec, err := strconv.ParseInt(strings.TrimPrefix(second, "MONOTONIC_USEC="), 10, 64)
	if first != "RELOADING=1" || err != nil || usec < before.Nano()/1000 || usec > after.Nano()/1000 {
		t.Errorf("got %q; want RELOADING=1 with a time from %d to %d", messages[0], before.Nano()/1000,
			after.Nano()/1000)
	}
}

// The managers of containers listen at abstract sockets.
func TestAbstractSocket(t *testing.T) {
	labtest.Host(t)
	m := listenAt(t, "@ftpgate-notify-test")
	if err := Ready(); err != nil {
		t.Fatal(err)
	}
	if got := m.received(t); !slices.Equal(got, []string{"READY=1"}) {
		t.Errorf("got %q; want READY=1", got)
	}
}

func TestWithoutManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	never := func() bool { t.Error("asked whether it is alive, and no watchdog wants to know"); return true }
	for what, do := range map[string]func() error{
		"Ready": Ready, "Reloading": Reloading,
		"Stopping": func() error { return Stopping(time.Second) },
		"Watchdog": func() error { return Watchdog(t.Context(), never) },
	} {
		if err := do(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "none"))
	if err := Ready(); !errors.Is(err, unix.ENOENT) ||
		!strings.HasPrefix(err.Error(), "systemd: notify the service manager: ") {
		t.Errorf("a manager that is gone: got %v", err)
	}
}

// Watchdog sends twice in an interval, as long as alive returns true.
func TestWatchdog(t *testing.T) {
	m := listen(t)
	t.Setenv("WATCHDOG_USEC", "20000000")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var alive atomic.Bool
		alive.Store(true)
		done := make(chan error)
		go func() { done <- Watchdog(ctx, alive.Load) }()
		for i, step := range []struct {
			alive bool
			after time.Duration
			want  int
		}{
			{true, 0, 1}, {true, 9 * time.Second, 0}, {true, time.Second, 1}, {true, 30 * time.Second, 3},
			{false, 60 * time.Second, 0}, {true, 10 * time.Second, 1},
		} {
			alive.Store(step.alive)
			<-time.After(step.after)
			synctest.Wait()
			got := m.received(t)
			if len(got) != step.want || slices.ContainsFunc(got,
				func(s string) bool { return s != "WATCHDOG=1" }) {
				t.Errorf("step %d: got %q; want %d times WATCHDOG=1", i, got, step.want)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("got %v; want nil when it is over", err)
		}
	})
}

func TestWatchdogEnvironment(t *testing.T) {
	listen(t)
	for name, tt := range map[string]struct{ usec, pid, want string }{
		"of another process": {"1000000", "1", ""},
		"no number":          {"soon", "", "systemd: watchdog: "},
		"no interval":        {"0", "", "systemd: watchdog: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("WATCHDOG_USEC", tt.usec)
			t.Setenv("WATCHDOG_PID", tt.pid)
			err := Watchdog(t.Context(), func() bool { t.Error("asked"); return true })
			if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v; want %q", err, tt.want)
			}
		})
	}
}

// StartWatchdog passes on how the watchdog ended; stop waits for it.
func TestStartWatchdog(t *testing.T) {
	listen(t)
	for usec, want := range map[string]string{"60000000": "<nil>", "soon": "systemd: watchdog: "} {
		t.Setenv("WATCHDOG_USEC", usec)
		t.Setenv("WATCHDOG_PID", "")
		var got string
		stop := StartWatchdog(t.Context(), func(context.Context) bool { return true },
			func(err error) { got = fmt.Sprint(err) })
		if stop(); !strings.HasPrefix(got, want) {
			t.Errorf("WATCHDOG_USEC=%s: got %q; want %s", usec, got, want)
		}
	}
}
