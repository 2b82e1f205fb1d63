package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ftpgate/internal/config"
	"ftpgate/internal/control/ftptest"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/system"
	"ftpgate/internal/ops/admin"
)

// A daemon serves from "ready" to its end, and leaves no goroutine behind.
func TestRun(t *testing.T) {
	at, server := ftptest.FreePort(t), ftptest.NewServer(t, "one")
	s := newService(t, server.Forward("archive", at)).run().ready()
	c := ftptest.Dial(t, at)
	c.Want("220 one")
	s.cancel()
	c.WantEnd("")
	if err := s.wait(); err != nil {
		t.Errorf("got error %v; want none", err)
	}
	wantNoListener(t, at)
	if got := s.log.all("INFO stopped"); len(got) != 1 || !strings.Contains(got[0], `sessions="1"`) {
		t.Errorf("got %q; want that one session was served", got)
	}
	wantNoGoroutines(t)
}

// wantNoGoroutines expects that no goroutine of the daemon's parts is left. One that has told its owner may
// still be about to return.
func wantNoGoroutines(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(ftptest.Patience); ; <-tick.C {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		var left []string
		for _, stack := range strings.Split(string(stacks), "\n\n") {
			ofTest := false
			for _, part := range []string{"/ftptest.", "testing.tRunner", "(*manager)"} {
				ofTest = ofTest || strings.Contains(stack, part)
			}
			if strings.Contains(stack, "ftpgate/internal/") && !ofTest {
				left = append(left, stack)
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
		}
	}
}

// All findings are logged and counted, and nothing is served.
func TestErrStart(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	server, free := ftptest.NewServer(t, "one"), ftptest.FreePort(t)
	inUse := taken.Addr().(*net.TCPAddr).AddrPort()
	kernel := server.Forward("kernel", ftptest.FreePort(t))
	kernel.Data = forward.DataKernel // which takes CAP_NET_ADMIN
	s := newService(t, server.Forward("first", inUse), server.Forward("second", free), kernel).run()
	err = s.wait()
	if !errors.Is(err, ErrStart) || err.Error() != "not started: 2 faults, nothing has been changed" {
		t.Errorf("got error %v; want ErrStart with two faults", err)
	}
	if got := s.log.all("ERROR "); len(got) != 2 {
		t.Errorf("got faults %q; want 2", got)
	}
	const remedy = `remedy="stop that program or let it listen elsewhere, or choose another port"`
	got := s.log.wait(t, fmt.Sprintf("ERROR listen %s is in use by ", inUse), 1)
	if !strings.Contains(got, `forward="first" `+remedy) {
		t.Errorf("got %q; want the forward and %s", got, remedy)
	}
	s.log.wait(t, "ERROR this process may not change the network: it lacks CAP_NET_ADMIN", 1)
	wantNoListener(t, free)
	wantNoGoroutines(t)
}

// A name that does not resolve does not keep other forwards from serving.
func TestNameDoesNotResolve(t *testing.T) {
	server := ftptest.NewServer(t, "one")
	good, bad := ftptest.FreePort(t), ftptest.FreePort(t)
	nowhere := server.Forward("nowhere", bad)
	nowhere.Server.Host = "ftp.example.com"
	s := newService(t, server.Forward("archive", good), nowhere).run().ready()
	wantServed(t, good, "one")
	got := s.log.wait(t, `WARN server name "ftp.example.com" cannot be resolved: no such host`, 1)
	if !strings.Contains(got, `forward="nowhere"`) {
		t.Errorf("got %q; want the forward", got)
	}
	c := ftptest.Dial(t, bad)
	c.WantEnd("")
}

// If no name resolves there is nothing to serve.
func TestNoNameResolves(t *testing.T) {
	nowhere := ftptest.NewServer(t, "one").Forward("nowhere", ftptest.FreePort(t))
	nowhere.Server.Host = "ftp.example.com"
	s := newService(t, nowhere).run()
	if err := s.wait(); !errors.Is(err, ErrStart) {
		t.Errorf("got error %v; want ErrStart", err)
	}
}

// A reload that fails keeps the old state, however it fails; one that succeeds replaces it.
func TestReload(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	one, two := ftptest.NewServer(t, "one"), ftptest.NewServer(t, "two")
	at, next := ftptest.FreePort(t), ftptest.FreePort(t)
	inUse := two.Forward("in use", taken.Addr().(*net.TCPAddr).AddrPort())
	nowhere := two.Forward("nowhere", next)
	nowhere.Server.Host = "ftp.example.com"
	withoutKey := two.Forward("tls", next)
	withoutKey.TLS.Client, withoutKey.TLS.Cert = forward.ClientTLSOptional, "/nonexistent/cert.pem"
	withoutKey.TLS.Key = "/nonexistent/key.pem"

	s := newService(t, one.Forward("archive", at))
	m := newManager(t)
	var forwards []forward.Forward
	var loadErr error
	s.Load = func() (*config.Config, error) {
		return &config.Config{Forwards: forwards, Resolve: time.Hour, Drain: time.Minute}, loadErr
	}
	s.run().ready()
	m.want("READY=1")
	open := ftptest.Dial(t, at)
	open.Want("220 one")
	for i, tt := range []struct {
		forwards []forward.Forward
		loadErr  error
		why      string
	}{
		{nil, errors.New("line 3: unsound"), "line 3: unsound"},
		{[]forward.Forward{two.Forward("good", next), inUse}, nil, "is in use by"},
		{[]forward.Forward{nowhere}, nil, "cannot be resolved"},
		{[]forward.Forward{withoutKey}, nil, "/nonexistent/cert.pem"},
	} {
		forwards, loadErr = tt.forwards, tt.loadErr
		s.reload <- syscall.SIGHUP
		m.want("RELOADING=1")
		m.want("READY=1")
		got := s.log.wait(t, "ERROR reload failed; the old configuration stays in effect", i+1)
		if !strings.Contains(got, tt.why) {
			t.Errorf("got %q; want %q", got, tt.why)
		}
		wantServed(t, at, "one")
		wantNoListener(t, next)
	}
	forwards, loadErr = []forward.Forward{two.Forward("archive", at), one.Forward("more", next)}, nil
	s.reload <- syscall.SIGHUP
	m.want("RELOADING=1")
	m.want("READY=1")
	s.log.wait(t, `INFO reloaded forwards="2"`, 1)
	wantServed(t, at, "two")
	wantServed(t, next, "one")
	open.Send("NOOP")
	open.Want("200 ")
	open.Close()
}

// A start warns of a file that it has just read and could not read again.
func TestCannotReload(t *testing.T) {
	one := ftptest.NewServer(t, "one")
	s := newService(t, one.Forward("archive", ftptest.FreePort(t)))
	s.File = filepath.Join(t.TempDir(), "ftpgate.toml")
	if err := os.WriteFile(s.File, nil, 0); err != nil { // unreadable without CAP_DAC_OVERRIDE
		t.Fatal(err)
	}
	s.Load = func() (*config.Config, error) { return nil, errors.New("no reload was asked for") }
	s.run().ready()
	s.log.wait(t, "WARN "+s.File+" cannot be read again, so a reload will fail: ftpgate has "+
		"given up the right to read other users' private files", 1)
}

// A reload says which tables of the file only a start reads.
func TestWaitsForRestart(t *testing.T) {
	forwards := []forward.Forward{ftptest.NewServer(t, "one").Forward("archive", ftptest.FreePort(t))}
	s := newService(t, forwards...)
	var logged config.Log
	s.Load = func() (*config.Config, error) {
		return &config.Config{Forwards: forwards, Resolve: time.Hour, Log: logged}, nil
	}
	s.run().ready()
	s.reload <- syscall.SIGHUP
	s.log.wait(t, "INFO reloaded", 1)
	if got := s.log.all("waits for a restart"); len(got) > 0 {
		t.Errorf("got %q; want nothing that waits for a restart", got)
	}
	logged = config.Log{Xferlog: "/var/log/xferlog"}
	s.reload <- syscall.SIGHUP
	s.log.wait(t, "WARN a change of [log] waits for a restart", 1)
}

// The log has the first faults of a file of garbage, and counts the others.
func TestFirstLines(t *testing.T) {
	for _, tt := range []struct {
		lines int
		want  string
	}{
		{1, "x"}, {6, "x; x; x; x; x; x"}, {7, "x; x; x; x; x; and 2 more lines"},
	} {
		err := errors.New(strings.TrimSuffix(strings.Repeat("x\n", tt.lines), "\n"))
		if got := firstLines(err); got != tt.want {
			t.Errorf("%d lines: got %q; want %q", tt.lines, got, tt.want)
		}
	}
}

// A forward of the command line has no file to reload.
func TestReloadWithoutFile(t *testing.T) {
	server := ftptest.NewServer(t, "one")
	s := newService(t, server.Forward("archive", ftptest.FreePort(t))).run().ready()
	s.reload <- syscall.SIGHUP
	s.log.wait(t, "this forward came from the command line: there is no file to read again", 1)
}

// The order of a stop: systemd learns of it, new clients are refused and transfers end, while status and the
// watchdog continue; then the log ends, and the admin socket and the table's name are free.
func TestStopOrder(t *testing.T) {
	at, server := ftptest.FreePort(t), ftptest.NewServer(t, "one")
	s := newService(t, server.Forward("archive", at))
	m := newManager(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	dir := t.TempDir()
	socket, transfers := filepath.Join(dir, "admin.sock"), filepath.Join(dir, "transfers.log")
	s.Config.Admin = config.Admin{Socket: socket, SocketGiven: true}
	s.Config.Log.Transfers = transfers
	s.run().ready()
	m.want("READY=1")
	m.wantPing()
	busy, idle := ftptest.Dial(t, at), ftptest.Dial(t, at)
	busy.Transfer()
	idle.Want("220 ")

	s.cancel()
	m.want("STOPPING=1\nEXTEND_TIMEOUT_USEC=75000000")
	idle.WantEnd("")
	s.log.wait(t, "INFO session ends", 1) // its client sees the end a moment before the list of sessions does
	ftptest.Dial(t, at).WantEnd("")
	m.wantPing()
	client := admin.NewClient(socket, "")
	st, err := client.Status(t.Context())
	client.Close()
	if err != nil || len(st.Forwards) != 1 || st.Forwards[0].Sessions != 1 {
		t.Errorf("got status %+v, error %v; want the session that drains", st, err)
	}
	if held, _, err := system.Claimed(s.Table); err != nil || !held {
		t.Errorf("got the table's name held %t, error %v; want it held", held, err)
	}
	if got := s.log.all("INFO stopped"); len(got) != 0 {
		t.Errorf("got %q while a transfer goes on; want nothing", got)
	}

	busy.Finish(server)
	busy.WantEnd("")
	if err := s.wait(); err != nil {
		t.Errorf("got error %v; want none", err)
	}
	s.log.wait(t, `INFO stopped sessions="3" transfers="1" failed="0"`, 1)
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("admin socket: got %v; want it removed", err)
	}
	if held, _, err := system.Claimed(s.Table); err != nil || held {
		t.Errorf("got the table's name held %t, error %v; want it free", held, err)
	}
	if text, err := os.ReadFile(transfers); err != nil || strings.Count(string(text), "\n") != 1 {
		t.Errorf("got transfer log %q, error %v; want the transfer", text, err)
	}
	wantNoGoroutines(t)
}

// The watchdog is fed while the daemon serves or drains, and not while it hangs.
func TestAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &instance{watchdogPing: make(chan struct{}), draining: make(chan struct{})}
		began := time.Now()
		if r.alive(t.Context()) {
			t.Error("got alive while no proxy serves; want not")
		}
		if waited := time.Since(began); waited != watchdogWait {
			t.Errorf("got an answer after %s; want it after %s", waited, watchdogWait)
		}
		go func() { <-r.watchdogPing }()
		if !r.alive(t.Context()) {
			t.Error("got not alive while the daemon serves; want alive")
		}
		began = time.Now()
		go func() {
			synctest.Wait() // until alive is blocked
			close(r.draining)
		}()
		for _, when := range []string{"as it begins to drain", "while it drains"} {
			if !r.alive(t.Context()) || time.Since(began) > 0 {
				t.Errorf("%s: got an answer after %s; want alive at once", when, time.Since(began))
			}
		}
	})
}

// An admin socket that cannot be opened is a warning, or a fault if it is required.
func TestAdminCannotOpen(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "missing", "admin.sock")
	server := ftptest.NewServer(t, "one")
	for _, required := range []bool{false, true} {
		t.Run(fmt.Sprintf("required %t", required), func(t *testing.T) {
			at := ftptest.FreePort(t)
			s := newService(t, server.Forward("archive", at))
			s.Config.Admin = config.Admin{Socket: socket, SocketGiven: required}
			s.run()
			level := "WARN"
			if required {
				level = "ERROR"
				if err := s.wait(); !errors.Is(err, ErrStart) {
					t.Errorf("got error %v; want ErrStart", err)
				}
			} else {
				s.ready()
				wantServed(t, at, "one")
			}
			got := s.log.wait(t, level+" cannot open the admin socket "+socket, 1)
			if want := ": status, sessions and explain will not work"; !strings.Contains(got, want) {
				t.Errorf("got %q; want %q", got, want)
			}
		})
	}
}
