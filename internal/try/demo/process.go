package demo

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// How long a process may take, until it is ready and until it has ended. Both take a few
// milliseconds, unless modules must be loaded.
const (
	startTimeout = 15 * time.Second
	stopTimeout  = 5 * time.Second
)

// maxLog is how much of a process's log is kept to be shown, in bytes.
const maxLog = 16 << 10

// ownCommand is this very program with other arguments. It dies with the process that started it,
// and only that one sends it signals: the terminal's go to the process group.
func ownCommand(args []string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = os.Args[0]
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.WaitDelay = stopTimeout // for its output, should somebody else hold that open
	return cmd
}

// process is a running program and the goroutine that waits for it.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // what Wait said; to be read once ended is closed
}

// startProcess starts cmd on a machine; after is called when it has ended and its output was read.
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

// stop asks the process to end, waits for it, and kills one that does not end.
func (p *process) stop(ask func() error) error {
	_ = ask() // it may have ended by itself: then there is nobody to ask
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("it has not ended within %s", stopTimeout), p.kill())
	}
}

// kill ends the process and waits for it.
func (p *process) kill() error {
	_ = p.cmd.Process.Kill() // it may just have ended
	<-p.ended
	return nil
}

// exitText says how the process ended.
func (p *process) exitText() string {
	if p.err == nil {
		return "exit status 0"
	}
	return p.err.Error()
}

// logBuffer keeps the end of a process's log, and waits for the record that says "ready".
type logBuffer struct {
	ready chan struct{} // closed at that record; nil: nobody waits for it

	mu      sync.Mutex // guards what is below
	tail    []byte
	line    []byte // the last line, as far as it has come
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
