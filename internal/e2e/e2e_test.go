// Package e2e runs the whole program in the lab, with an FTP server behind it and clients in front.
package e2e

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ftpgate/internal/cli"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// asProgram has the test binary be ftpgate.
const asProgram = "FTPGATE_E2E_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	// These tests wait for processes more than they compute, on a machine of any size.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	labtest.Main(m)
}

// patience is how long anything may take that takes milliseconds on an idle machine.
const patience = 30 * time.Second

// program is a running ftpgate.
type program struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended and its log is read to the end

	mu   sync.Mutex
	log  strings.Builder
	news chan struct{} // closed and made anew with each line
}

// command prepares ftpgate with arguments.
func command(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	// With -race a program rests for a second before it ends, and these are many.
	cmd.Env = append(os.Environ(), asProgram+"=1", strings.TrimSpace("GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// unprivileged prepares ftpgate with arguments, without a single capability: as for an ordinary user.
func unprivileged(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	labtest.Need(t, "setpriv")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := command()
	cmd.Path, cmd.Err = exec.LookPath("setpriv")
	cmd.Args = append([]string{"setpriv", "--inh-caps=-all", "--bounding-set=-all", exe}, args...)
	return cmd
}

// start runs ftpgate on a host; the test's end ends it.
func start(t *testing.T, h *lab.Host, args ...string) *program {
	t.Helper()
	return launch(t, h, command(args...))
}

// launch is start with a command that is prepared.
func launch(t *testing.T, h *lab.Host, cmd *exec.Cmd) *program {
	t.Helper()
	p := &program{t: t, cmd: cmd, done: make(chan struct{}), news: make(chan struct{})}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(p.cmd); err != nil {
		t.Fatal(err)
	}
	go p.read(stderr)
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("log of %s:\n%s", strings.Join(cmd.Args, " "), p.text())
		}
	})
	return p
}

func (p *program) read(stderr io.Reader) {
	defer close(p.done)
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		p.mu.Lock()
		p.log.WriteString(lines.Text() + "\n")
		close(p.news)
		p.news = make(chan struct{})
		p.mu.Unlock()
	}
	p.cmd.Wait()
}

func (p *program) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// await returns when a line of the log has the text, for the nth time.
func (p *program) await(text string, nth int) {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		p.mu.Lock()
		log, news := p.log.String(), p.news
		p.mu.Unlock()
		if strings.Count(log, text) >= nth {
			return
		}
		select {
		case <-news:
		case <-p.done:
			if strings.Count(p.text(), text) < nth {
				p.t.Fatalf("ftpgate has ended before it logged %q:\n%s", text, p.text())
			}
			return
		case <-deadline:
			p.t.Fatalf("ftpgate did not log %q within %s:\n%s", text, patience, p.text())
		}
	}
}

// ready returns when the first client may come.
func (p *program) ready() *program {
	p.t.Helper()
	p.await("msg=ready", 1)
	return p
}

// signal sends a signal.
func (p *program) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// end waits for the process and returns its exit status.
func (p *program) end() int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatalf("ftpgate has not ended within %s:\n%s", patience, p.text())
		return -1
	}
}

// interrupt ends ftpgate as Ctrl-C does, and expects success.
func (p *program) interrupt() {
	p.t.Helper()
	p.signal(syscall.SIGINT)
	if got := p.end(); got != 0 {
		p.t.Fatalf("got exit status %d; want 0:\n%s", got, p.text())
	}
}

// run runs ftpgate to its end and returns what it printed and its exit status.
func run(t *testing.T, h *lab.Host, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	return finish(t, h, command(args...))
}

// finish is run with a command that is prepared.
func finish(t *testing.T, h *lab.Host, cmd *exec.Cmd) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := h.Run(cmd)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// sh runs a shell command on a host; it must succeed.
func sh(t *testing.T, h *lab.Host, format string, args ...any) string {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := h.Output(ctx, "sh", "-c", line)
	if err != nil {
		t.Fatalf("%s: %s: %v\n%s", h.Name(), line, err, out)
	}
	return string(out)
}

// writeFile writes a file of the test and returns its path.
func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
