package demo

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// How long a process may take to become ready, and to end. Both take a few milliseconds, unless the kernel
// must load modules.
const (
	startTimeout = 15 * time.Second
	stopTimeout  = 5 * time.Second
)

// maxLog bounds how much of a process's log is kept for error messages, in bytes.
const maxLog = 16 << 10

// ownCommand is this program with other arguments. It dies with this process. It has a process group of its
// own, so that signals from the terminal do not reach it.
func ownCommand(args []string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = os.Args[0]
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.WaitDelay = stopTimeout // in case another process holds its output open
	return cmd
}

// process is a running program and the goroutine that waits for it.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // from Wait; read it after ended is closed
}

// startProcess starts cmd on a machine. It calls after when the process has ended and its output is read.
func startProcess(m machine, cmd *exec.Cmd, after func()) (*process, error) {
	if err := m.Start(cmd); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go p.wait(after)
	return p, nil
}

func (p *process) wait(after func()) {
	defer close(p.ended)
	p.err = p.cmd.Wait()
	after()
}

// stop asks the process to end, waits for it, and kills it after stopTimeout. The error says how what it is
// ended, with its log.
func (p *process) stop(what string, ask func() error, log *logBuffer) error {
	_ = ask() // fails if the process has already ended
	select {
	case <-p.ended:
	case <-time.After(stopTimeout):
		p.kill()
		return fmt.Errorf("stop %s: did not end within %s", what, stopTimeout)
	}
	if p.err != nil {
		return fmt.Errorf("stop %s: %w:%s", what, p.err, log.quote())
	}
	return nil
}

// kill ends the process and waits for it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails if the process has just ended
	<-p.ended
}

func withStartTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready within %s", startTimeout))
}

// logBuffer keeps the last maxLog bytes of a process's log, and watches it for the record "ready".
type logBuffer struct {
	ready chan struct{} // closed at that record; nil: do not watch

	mu      sync.Mutex // guards the fields below
	tail    []byte
	line    []byte // the last line, perhaps incomplete
	isReady bool   // ready is closed
}

// Write implements io.Writer.
func (w *logBuffer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tail = append(w.tail, p...)
	w.tail = w.tail[max(0, len(w.tail)-maxLog):]
	w.line = append(w.line, p...)
	for {
		line, rest, whole := bytes.Cut(w.line, []byte("\n"))
		if !whole {
			break
		}
		if w.ready != nil && !w.isReady && slices.Contains(strings.Fields(string(line)), "msg=ready") {
			close(w.ready)
			w.isReady = true
		}
		w.line = rest
	}
	w.line = w.line[max(0, len(w.line)-maxLog):]
	return len(p), nil
}

// quote returns the log with a newline before and two spaces in front of each line.
func (w *logBuffer) quote() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for line := range strings.Lines(string(w.tail)) {
		b.WriteString("\n  " + strings.TrimRight(line, "\r\n"))
	}
	return b.String()
}
