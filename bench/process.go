package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"ftpgate/internal/lab"
)

const (
	startLimit = 30 * time.Second // until a process is ready
	stopLimit  = 30 * time.Second // until it has ended: one with ten thousand sessions has much to close
	maxLog     = 8 << 10          // bytes of a process's log that are kept
)

// readyText is what ftpgate logs when the first client may come, and what the origin says.
const readyText = "msg=ready"

// roleEnv makes this program one of the other processes: the origin or the load.
const roleEnv = "FTPGATE_BENCH_ROLE"

// as is this very program in another role.
func as(role string, args ...string) *exec.Cmd {
	cmd := program("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	return cmd
}

// program is a command that ends with this process, and gets no signals from its terminal.
func program(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.WaitDelay = stopLimit
	return cmd
}

// process is a running program and the goroutine that waits for it.
type process struct {
	name  string
	cmd   *exec.Cmd
	log   *tail
	ask   func() error // asks it to end
	ended chan struct{}
	err   error // what Wait said; to be read once ended is closed
}

// launch starts cmd on a host; it is ready once it has logged that text. Its log is what it writes to standard error, and to standard output
// where nobody else reads that.
func launch(h *lab.Host, name string, cmd *exec.Cmd, readyText string, ask func() error) (*process, error) {
	p := &process{name: name, cmd: cmd, log: &tail{wanted: []byte(readyText), ready: make(chan struct{})}, ask: ask, ended: make(chan struct{})}
	cmd.Stderr = p.log
	if cmd.Stdout == nil {
		cmd.Stdout = p.log
	}
	if err := h.Start(cmd); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	go func() {
		defer close(p.ended)
		p.err = cmd.Wait()
	}()
	return p, nil
}

// ready waits until the log says that it is.
func (p *process) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("not ready within %s", startLimit))
	defer cancel()
	select {
	case <-p.log.ready:
		return nil
	case <-p.ended:
		return fmt.Errorf("bench: %s has ended (%w): %s", p.name, orExit(p.err), p.log.text())
	case <-ctx.Done():
		return fmt.Errorf("bench: %s: %w: %s", p.name, context.Cause(ctx), p.log.text())
	}
}

// orExit is what Wait said, or that it said nothing.
func orExit(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// stop ends the process and waits for it; one that has failed, or does not end, is an error.
func (p *process) stop() error {
	_ = p.ask() // it may have ended by itself: then there is nobody to ask
	select {
	case <-p.ended:
	case <-time.After(stopLimit):
		_ = p.cmd.Process.Kill() // it may just have ended
		<-p.ended
	}
	if p.err != nil {
		return fmt.Errorf("bench: stop %s: %w: %s", p.name, p.err, p.log.text())
	}
	return nil
}

// tail keeps the end of a log, and waits for a text.
type tail struct {
	wanted []byte
	ready  chan struct{} // closed at that

	mu   sync.Mutex // guards what is below
	kept []byte
	said bool // ready is closed
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	t.kept = t.kept[max(0, len(t.kept)-maxLog):]
	if !t.said && bytes.Contains(t.kept, t.wanted) {
		t.said = true
		close(t.ready)
	}
	return len(p), nil
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.kept))
}
