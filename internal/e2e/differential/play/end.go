package play

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"ftpgate/internal/e2e/differential/script"
)

// end is one end of a session.
type end struct {
	*run
	side   script.Side
	host   Host
	other  netip.Addr
	ports  *Ports // to listen on; nil: the kernel's choice
	record []string

	control       *net.TCPConn
	lines         *bufio.Reader
	sawEnd        bool   // of control
	controlBroken bool   // a write found it broken
	closed        bool   // control, by the script
	reply         string // the code of the reply of several lines that is being read
	far           netip.AddrPort
	listener      *net.TCPListener
	data          []*stream

	mu      sync.Mutex
	sockets []io.Closer // closed when the session is broken off
	over    bool
}

func newEnd(r *run, side script.Side, h Host, other netip.Addr) *end {
	return &end{run: r, side: side, host: h, other: other}
}

// own makes closeAll close a socket.
func (e *end) own(c io.Closer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sockets = append(e.sockets, c)
	if e.over {
		c.Close()
	}
}

// closeAll closes every socket of this end. What waits for one of them returns.
func (e *end) closeAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = true
	for _, c := range e.sockets {
		c.Close()
	}
}

// saw adds an event to the record.
func (e *end) saw(format string, args ...any) {
	e.record = append(e.record, fmt.Sprintf(format, args...))
}

// play connects the control connection and carries out the steps. When both ends have done so, the client
// ends what it sends, the server closes, and both read what is left.
func (e *end) play(steps []script.Step, connect func() (net.Conn, error)) {
	ready := sync.OnceFunc(e.ready.Done)
	defer ready()
	c, err := connect()
	if err != nil {
		e.fail(fmt.Sprintf("%s: control connection: %v", e.side, err))
		return
	}
	e.own(c)
	e.control, e.lines = c.(*net.TCPConn), bufio.NewReader(c)
	if err := inlineUrgent(e.control); err != nil {
		e.fail(fmt.Sprintf("%s: %v", e.side, err))
		return
	}
	for _, s := range steps {
		if !e.carryOut(s) {
			return
		}
	}
	ready()
	e.ready.Wait()
	if e.ctx.Err() == nil {
		e.finish()
	}
}

// carryOut reports whether a step succeeded.
func (e *end) carryOut(s script.Step) bool {
	if e.ctx.Err() != nil {
		return false
	}
	err := e.step(s)
	if err == nil {
		return true
	}
	if e.ctx.Err() == nil {
		var ended errEnd
		if errors.As(err, &ended) {
			e.saw("%s: %s", s.String()[2:], ended.text)
		} else {
			e.saw("%s: %v", s.String()[2:], err)
		}
		e.fail(describe(e.side, s, err))
	}
	return false
}

// finish ends the control connection, where the script has not.
func (e *end) finish() {
	for _, s := range script.Steps("C half\nC end\nC close\nS end\nS close\n") {
		if s.Side == e.side && !e.closed && (s.Verb != "end" || !e.sawEnd) && !e.carryOut(s) {
			return
		}
	}
}

// step carries out one step.
func (e *end) step(s script.Step) error {
	if what, ok := strings.CutPrefix(s.Verb, "data "); ok {
		return e.dataStep(what, s)
	}
	switch s.Verb {
	case "send":
		return e.send(s.Text + `\r\n`)
	case "raw":
		return e.send(s.Text)
	case "urgent":
		return e.urgent(s.Text)
	case "expect":
		return e.expect(s.Text)
	case "readable":
		return e.lineReadable()
	case "end":
		return e.readToEnd()
	case "half":
		e.note(e.control.CloseWrite())
	case "close", "reset":
		return e.closeControl(s.Verb == "reset")
	case "listen":
		return e.listen(s.Text)
	case "unlisten":
		return e.listener.Close()
	case "present":
		return e.present()
	case "accept":
		return e.accept()
	case "dial":
		return e.dial(s.Text)
	case "refused":
		return e.refused(s.Text)
	case "signal":
		close(e.signals[s.Text])
	case "wait":
		return e.wait(e.signals[s.Text])
	case "pause":
		return e.pause(s.Time)
	}
	return nil
}

// note remembers that a write found control broken. What the end sees of it, a later read says.
func (e *end) note(err error) {
	if err != nil && isReset(err) {
		e.controlBroken = true
	}
}

func (e *end) send(text string) error {
	var own netip.AddrPort
	if e.listener != nil {
		own = e.listener.Addr().(*net.TCPAddr).AddrPort()
	}
	writes, err := script.Expand(text, own)
	if err != nil {
		return err
	}
	if err := e.control.SetWriteDeadline(time.Now().Add(e.bound)); err != nil {
		return err
	}
	for _, w := range writes {
		_, err := e.control.Write(w)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return errTimeout
		}
		e.note(err)
	}
	return nil
}

func (e *end) urgent(text string) error {
	urgent, err := script.Flat(text, netip.AddrPort{})
	for _, b := range urgent {
		e.note(sendUrgent(e.control, b))
	}
	return err
}

func (e *end) closeControl(reset bool) error {
	e.closed = true
	if reset {
		if err := e.control.SetLinger(0); err != nil {
			return err
		}
	}
	return e.control.Close()
}

// pause lets time pass.
func (e *end) pause(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-e.ctx.Done():
		return e.ctx.Err()
	}
}
