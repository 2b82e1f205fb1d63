// Package harness runs the whole program in the lab, and gives a test both ends of each session: a
// running ftpgate, its log and its admin socket, and a client and a server that the test scripts.
//
// Real FTP clients and servers are in package peers.
package harness

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/cli"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// programEnv makes the test binary run as ftpgate.
const programEnv = "FTPGATE_E2E_PROGRAM"

// Main is the body of TestMain in every package that uses the harness: it runs the tests in a lab, or,
// where Command has started the test binary as ftpgate, it is ftpgate. It does not return.
func Main(m *testing.M) {
	if os.Getenv(programEnv) != "" {
		os.Exit(runProgram())
	}
	// These tests wait for processes more than they compute, whatever the machine's size.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(fmt.Sprint("harness: ", err))
	}
	labtest.Main(m)
}

// runProgram is ftpgate. It returns the exit status.
func runProgram() int {
	file := os.Getenv(goroutinesEnv)
	os.Unsetenv(goroutinesEnv) // not for the processes that it starts
	status := cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	if file != "" {
		if err := reportGoroutines(file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return status
}

// Timeout bounds every wait for something that takes milliseconds on an idle machine.
const Timeout = 2 * time.Minute

// Program is a running ftpgate.
type Program struct {
	T *testing.T
	*process
}

// For returns the same program for a subtest.
func (p *Program) For(t *testing.T) *Program { return &Program{t, p.process} }

type process struct {
	Cmd             *exec.Cmd
	done            chan struct{} // closed when the process has ended and its log is read to the end
	checkGoroutines func()

	mu      sync.Mutex
	log     strings.Builder
	changed chan struct{} // closed and replaced with each line
}

// Command prepares ftpgate with arguments: the test binary itself, so that the program has the race
// detector where the test has it.
func Command(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	// With -race a program sleeps for a second before it exits, and there are many programs.
	cmd.Env = append(os.Environ(), programEnv+"=1",
		strings.TrimSpace("GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// UnprivilegedCommand prepares ftpgate without any capability, as for an ordinary user.
func UnprivilegedCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	labtest.Need(t, "setpriv")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := Command()
	cmd.Path, cmd.Err = exec.LookPath("setpriv")
	cmd.Args = append([]string{"setpriv", "--inh-caps=-all", "--bounding-set=-all", exe}, args...)
	return cmd
}

// Start runs ftpgate on a host until the test ends.
func Start(t *testing.T, h *lab.Host, args ...string) *Program {
	t.Helper()
	return StartCommand(t, h, Command(args...))
}

// StartCommand is Start with a prepared command.
func StartCommand(t *testing.T, h *lab.Host, cmd *exec.Cmd) *Program {
	t.Helper()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, h, cmd, stderr)
	t.Cleanup(func() {
		p.end()
		if t.Failed() {
			t.Logf("log of %s:\n%s", strings.Join(cmd.Args, " "), p.Log())
		}
	})
	return p
}

// start starts a program and reads its log from output. The caller calls end when the test ends.
func start(t *testing.T, h *lab.Host, cmd *exec.Cmd, output io.Reader) *Program {
	t.Helper()
	p := &Program{t, &process{Cmd: cmd, done: make(chan struct{}), changed: make(chan struct{})}}
	p.checkGoroutines = reportingGoroutines(t, cmd)
	if err := h.Start(cmd); err != nil {
		t.Fatal(err)
	}
	go p.readLog(output)
	return p
}

// end kills a program that still runs, and checks how it ended.
func (p *process) end() {
	p.Cmd.Process.Kill()
	<-p.done
	p.checkGoroutines()
}

func (p *process) readLog(stderr io.Reader) {
	defer close(p.done)
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		p.mu.Lock()
		p.log.WriteString(lines.Text() + "\n")
		close(p.changed)
		p.changed = make(chan struct{})
		p.mu.Unlock()
	}
	p.Cmd.Wait()
}

// Log returns the log so far.
func (p *process) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// LogCount returns how often the log has text so far.
func (p *process) LogCount(text string) int { return strings.Count(p.Log(), text) }

// AwaitLog waits until the log has text count times.
func (p *Program) AwaitLog(text string, count int) {
	p.T.Helper()
	deadline := time.After(Timeout)
	for {
		p.mu.Lock()
		log, changed := p.log.String(), p.changed
		p.mu.Unlock()
		if strings.Count(log, text) >= count {
			return
		}
		select {
		case <-changed:
		case <-p.done:
			if strings.Count(p.Log(), text) < count {
				p.T.Fatalf("ftpgate has ended before it logged %q:\n%s", text, p.Log())
			}
			return
		case <-deadline:
			p.T.Fatalf("ftpgate did not log %q within %s:\n%s", text, Timeout, p.Log())
		}
	}
}

// AwaitReady waits until clients can connect.
func (p *Program) AwaitReady() *Program {
	p.T.Helper()
	p.AwaitLog("msg=ready", 1)
	return p
}

// Signal sends a signal.
func (p *Program) Signal(s syscall.Signal) {
	p.T.Helper()
	if err := p.Cmd.Process.Signal(s); err != nil {
		p.T.Fatal(err)
	}
}

// Suspend stops the process, and waits until all its threads have stopped: on a busy machine they run on for
// a while after the signal.
func (p *Program) Suspend() {
	p.T.Helper()
	p.Signal(syscall.SIGSTOP)
	if err := unix.Waitid(unix.P_PID, p.Cmd.Process.Pid, nil, unix.WSTOPPED, nil); err != nil {
		p.T.Fatal("wait for the stop: ", err)
	}
}

// Wait waits for the process and returns its exit status.
func (p *Program) Wait() int {
	p.T.Helper()
	select {
	case <-p.done:
		return p.Cmd.ProcessState.ExitCode()
	case <-time.After(Timeout):
		p.T.Fatalf("ftpgate has not ended within %s:\n%s", Timeout, p.Log())
		return -1
	}
}

// Interrupt stops ftpgate as Ctrl-C does, and expects success.
func (p *Program) Interrupt() {
	p.T.Helper()
	p.Signal(syscall.SIGINT)
	if got := p.Wait(); got != 0 {
		p.T.Fatalf("got exit status %d; want 0:\n%s", got, p.Log())
	}
}

// Run runs ftpgate to its end. It returns what ftpgate printed and its exit status.
func Run(t *testing.T, h *lab.Host, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	return RunCommand(t, h, Command(args...))
}

// RunCommand is Run with a prepared command.
func RunCommand(t *testing.T, h *lab.Host, cmd *exec.Cmd) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	checkGoroutines := reportingGoroutines(t, cmd)
	err := h.Run(cmd)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	checkGoroutines()
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// AsUser makes a command run as a user without privileges.
func AsUser(t *testing.T, cmd *exec.Cmd, uid uint32) *exec.Cmd {
	t.Helper()
	if SingleUser(t) {
		t.Skip("this user namespace has no other user than root: run as root to test with another one")
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
	return cmd
}

// StartWithOutput runs a command on a host and reads what it prints. ours and theirs are the two ends
// of its output; theirs is closed.
func StartWithOutput(t *testing.T, h *lab.Host, cmd *exec.Cmd, ours, theirs *os.File) *Program {
	t.Helper()
	cmd.Stdout, cmd.Stderr = theirs, theirs
	p := start(t, h, cmd, ours) // a terminal ends with EIO when its other end is closed
	theirs.Close()
	t.Cleanup(p.end)
	return p
}

// Kill sends SIGKILL and waits for the process.
func (p *Program) Kill() {
	p.T.Helper()
	p.Signal(syscall.SIGKILL)
	p.Wait()
}
