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

	"ftpgate/internal/try/lab"
)

const (
	startLimit = 30 * time.Second // until a process is ready
	stopLimit  = 30 * time.Second // until it exits: with 10,000 sessions it has much to close
	maxLog     = 8 << 10          // bytes of a process's log that are kept
)

// readyText is what ftpgate logs, and the origin writes, when clients may connect.
const readyText = "msg=ready"

// roleEnv makes this program run as the origin or as the load.
const roleEnv = "FTPGATE_BENCH_ROLE"

// roleCommand is this program in another role.
func roleCommand(role string, args ...string) *exec.Cmd {
	cmd := command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	return cmd
}

// command is killed when this process ends, and gets no signals from its terminal.
func command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.WaitDelay = stopLimit
	return cmd
}

// process is a running program. A goroutine waits for it and closes exited.
type process struct {
	name        string
	cmd         *exec.Cmd
	log         *logTail
	requestStop func() error // asks the program to exit
	exited      chan struct{}
	err         error // of Wait; read it only after exited is closed
}

// startProcess starts cmd on a host. The process is ready when it has logged the text. Its log is its
// standard error, and its standard output unless the caller reads that.
func startProcess(
	h *lab.Host, name string, cmd *exec.Cmd, readyText string, requestStop func() error,
) (*process, error) {
	p := &process{name: name, cmd: cmd, log: &logTail{marker: []byte(readyText), ready: make(chan struct{})},
		requestStop: requestStop, exited: make(chan struct{})}
	cmd.Stderr = p.log
	if cmd.Stdout == nil {
		cmd.Stdout = p.log
	}
	if err := h.Start(cmd); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	go func() {
		defer close(p.exited)
		p.err = cmd.Wait()
	}()
	return p, nil
}

// waitReady waits until the process has logged that it is ready.
func (p *process) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("not ready within %s", startLimit))
	defer cancel()
	select {
	case <-p.log.ready:
		return nil
	case <-p.exited:
		return fmt.Errorf("bench: %s has ended (%w): %s", p.name, exitReason(p.err), p.log.text())
	case <-ctx.Done():
		return fmt.Errorf("bench: %s: %w: %s", p.name, context.Cause(ctx), p.log.text())
	}
}

// exitReason returns the error of Wait, or one for exit status 0.
func exitReason(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// stop asks the process to exit, waits for it, and kills it after stopLimit. A process that failed is an
// error.
func (p *process) stop() error {
	_ = p.requestStop() // an error means that it has exited already
	select {
	case <-p.exited:
	case <-time.After(stopLimit):
		_ = p.cmd.Process.Kill() // an error means that it has exited already
		<-p.exited
	}
	if p.err != nil {
		return fmt.Errorf("bench: stop %s: %w: %s", p.name, p.err, p.log.text())
	}
	return nil
}

// logTail keeps the end of a log, and waits for the marker.
type logTail struct {
	marker []byte
	ready  chan struct{} // closed when the marker comes

	mu   sync.Mutex // guards buf and seen
	buf  []byte
	seen bool // ready is closed
}

// Write implements io.Writer.
func (t *logTail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	t.buf = t.buf[max(0, len(t.buf)-maxLog):]
	if !t.seen && bytes.Contains(t.buf, t.marker) {
		t.seen = true
		close(t.ready)
	}
	return len(p), nil
}

func (t *logTail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.buf))
}
