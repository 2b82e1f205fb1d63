package tracker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"ftpgate/internal/dnat"
	"ftpgate/internal/ftp"
)

// DataPath opens pinholes; the relay and the kernel's tables do.
type DataPath interface {
	// Open reserves a port for a pinhole: nothing comes through before it is armed. The error
	// means that no port is free.
	Open(ctx context.Context, hole dnat.Pinhole) (Data, error)
}

// Data is one pinhole and the connection that comes through it. The session owns it and closes it.
type Data interface {
	At() netip.AddrPort    // where it is
	Arm()                  // let the one connection come
	Close()                // end it, with the connection that came through it; idempotent
	Connected() bool       // a connection has come
	Done() <-chan struct{} // closed when there is nothing more to come
	Result() (err error)   // after Done: nil where both directions ended in order
}

// Limits of a session. The zero value of each stands for its default.
type Limits struct {
	Dial  time.Duration // until the server answers
	Login time.Duration // until the client has logged in
	Idle  time.Duration // without a command; never runs while a transfer does (RFC 1123 section 4.1.3.2: five minutes at least)
	Write time.Duration // until a peer takes a line
}

// The limits where none are given, each with its reason.
const (
	defaultDial  = 10 * time.Second // three SYNs: the server is down, not slow
	defaultLogin = 60 * time.Second // time to type a password
	defaultIdle  = 10 * time.Minute // twice what RFC 1123 asks for, and what servers have
	defaultWrite = 60 * time.Second // a peer that takes nothing for so long has gone
)

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		limit *time.Duration
		value time.Duration
	}{{&l.Dial, defaultDial}, {&l.Login, defaultLogin}, {&l.Idle, defaultIdle}, {&l.Write, defaultWrite}} {
		if *d.limit == 0 {
			*d.limit = d.value
		}
	}
	return l
}

// failureDelay is how long the answer to a failed login waits, for each failure so far: guessing
// becomes slow, a typing mistake does not hurt (RFC 2577 section 4).
const failureDelay = time.Second

// lingerTime is how long a peer may take to read our last line before the connection is cut.
const lingerTime = 2 * time.Second

// session is one control connection and its server's.
type session struct {
	client, server *net.TCPConn
	path           DataPath
	limits         Limits
	log            *slog.Logger
	ctx            context.Context // done: end when no transfer runs
	began          time.Time

	mu       sync.Mutex
	changed  sync.Cond // of mu: the dialogue has moved, or the session has ended
	dialogue *Dialogue
	data     Data // of the last negotiation
	holding  bool // a reply is held back until its transfer is through: nothing may overtake it
	ended    bool
	gone     chan struct{} // closed with ended
}

// newSession joins two connections, which it owns from now on.
func newSession(ctx context.Context, client, server *net.TCPConn, announced netip.Addr, path DataPath, limits Limits, log *slog.Logger) *session {
	s := &session{client: client, server: server, path: path, limits: limits.withDefaults(), log: log, ctx: ctx, began: time.Now(), gone: make(chan struct{})}
	s.changed.L = &s.mu
	s.dialogue = NewDialogue(Ends{
		Client:    remote(client),
		Gateway:   local(client),
		Outside:   local(server),
		Server:    remote(server),
		Announced: announced,
	})
	return s
}

func local(c net.Conn) netip.Addr  { return addrOf(c.LocalAddr()) }
func remote(c net.Conn) netip.Addr { return addrOf(c.RemoteAddr()) }

func addrOf(a net.Addr) netip.Addr { return a.(*net.TCPAddr).AddrPort().Addr().Unmap().WithZone("") }

// run serves the session to its end, and returns when both connections are closed.
func (s *session) run() {
	var wait sync.WaitGroup
	wait.Go(s.readServer)
	stop := context.AfterFunc(s.ctx, s.wake)
	s.readClient()
	stop()
	wait.Wait()
	if s.data != nil {
		s.data.Close()
	}
}

// wake has the client's reader look at what has changed: it may be told to end.
func (s *session) wake() { _ = s.client.SetReadDeadline(time.Now()) }

// readClient takes the client's commands, one when the one before is answered.
func (s *session) readClient() {
	defer s.end("")
	lines := ftp.NewLineReader(s.client, 0)
	for {
		s.mu.Lock()
		s.setDeadline()
		s.mu.Unlock()
		line, _, err := lines.ReadLine()
		var long *ftp.TooLongError
		var nul *ftp.NULError
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if s.timeUp() {
				return
			}
			continue
		case errors.As(err, &long), errors.As(err, &nul):
			s.end(fmt.Sprintf("421 %v", err))
			return
		case err != nil: // the client has gone; half a line is none
			return
		}
		if !s.take(line) {
			return
		}
	}
}

// setDeadline gives the client its time for the next line. It is called with the lock held, before
// a line is read, and again when the dialogue has moved meanwhile.
func (s *session) setDeadline() {
	deadline := time.Now().Add(s.limits.Idle)
	if !s.dialogue.loggedIn {
		deadline = s.began.Add(s.limits.Login)
	}
	if s.ctx.Err() != nil && !s.busy() {
		deadline = time.Now()
	}
	_ = s.client.SetReadDeadline(deadline)
}

func (s *session) busy() bool { return s.holding || s.dialogue.Busy() }

// timeUp tells whether a deadline that has passed ends the session; it never does during a transfer.
func (s *session) timeUp() bool {
	s.mu.Lock()
	busy, loggedIn, ended := s.busy(), s.dialogue.loggedIn, s.ended
	s.mu.Unlock()
	switch {
	case ended:
	case busy:
		return false
	case s.ctx.Err() != nil:
		s.end("421 the gateway is shutting down")
	case !loggedIn:
		s.end(fmt.Sprintf("421 no login within %s", s.limits.Login))
	default:
		s.end(fmt.Sprintf("421 idle for %s", s.limits.Idle))
	}
	return true
}

// take deals with a client's line as soon as the dialogue is ready for it.
func (s *session) take(line []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.ended && (s.holding || !s.dialogue.Accepts(line)) {
		s.changed.Wait()
	}
	if s.ended {
		return false
	}
	return s.carryOut(s.dialogue.Step(Client, line))
}

// readServer takes the server's replies.
func (s *session) readServer() {
	lines := ftp.NewLineReader(s.server, 0)
	for {
		line, _, err := lines.ReadLine()
		if err != nil {
			s.serverGone(err)
			return
		}
		s.mu.Lock()
		step := s.dialogue.Step(Server, line)
		if step.Failures > 0 {
			s.pause(time.Duration(step.Failures) * failureDelay)
		}
		if step.Action == Complete {
			step = s.complete(step)
		}
		goOn := !s.ended && s.carryOut(step)
		s.changed.Broadcast()
		if !s.ended { // then hangUp has set another
			s.setDeadline()
		}
		s.mu.Unlock()
		if !goOn {
			s.end("")
			return
		}
	}
}

// serverGone ends the session with the reason, unless it has ended by itself.
func (s *session) serverGone(err error) {
	if errors.Is(err, io.EOF) {
		s.end("421 the server has closed the connection")
		return
	}
	s.end("421 the connection to the server is broken")
}

// pause waits without the lock, and not beyond the session's end.
func (s *session) pause(d time.Duration) {
	s.holding = true
	s.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.gone:
	case <-s.ctx.Done():
	}
	s.mu.Lock()
	s.holding = false
}

// complete holds back the reply that a transfer is complete until its data is through the gateway,
// and puts it right where that has failed: never a short file with a 226.
func (s *session) complete(step Step) Step {
	data := s.data
	if data == nil || !data.Connected() {
		return step
	}
	s.holding = true
	s.mu.Unlock()
	select {
	case <-data.Done():
	case <-s.gone:
	}
	s.mu.Lock()
	s.holding = false
	if s.ended {
		return Step{}
	}
	if err := data.Result(); err != nil {
		s.log.Warn("transfer broken", "err", err)
		return refuse(426, "the data connection broke off: %v", err)
	}
	return step
}

// carryOut sends a step's lines and does what it asks for; false ends the session. It is called
// with the lock held.
func (s *session) carryOut(step Step) bool {
	if step.Refused != "" {
		s.log.Warn("refused", "reason", step.Refused)
	}
	if !s.write(s.client, step.ToClient) || step.Synch && !s.synch() || !s.write(s.server, step.ToServer) {
		return false
	}
	switch step.Action {
	case Open:
		s.closeData()
		return s.carryOut(s.open(step.Pinhole))
	case Arm:
		s.data.Arm()
	case Close:
		s.closeData()
	}
	return !step.End
}

func (s *session) closeData() {
	if s.data != nil {
		s.data.Close()
	}
}

func (s *session) open(hole dnat.Pinhole) Step {
	data, err := s.path.Open(s.ctx, hole)
	if err != nil {
		s.log.Warn("no pinhole", "pinhole", hole.String(), "err", err)
		return s.dialogue.Opened(netip.AddrPort{}, err)
	}
	s.data = data
	return s.dialogue.Opened(data.At(), nil)
}

func (s *session) write(c *net.TCPConn, text []byte) bool {
	if len(text) == 0 {
		return true
	}
	_ = c.SetWriteDeadline(time.Now().Add(s.limits.Write))
	_, err := c.Write(text)
	return err == nil
}

// end closes both connections, once; the client is told why.
func (s *session) end(reply string) {
	s.mu.Lock()
	ended := s.ended
	if !ended {
		s.ended = true
		close(s.gone)
	}
	if !ended && reply != "" {
		s.write(s.client, []byte(reply+"\r\n"))
	}
	s.changed.Broadcast()
	s.mu.Unlock()
	if !ended {
		hangUp(s.client)
		s.server.Close()
	}
}

// hangUp closes a connection so that its peer can still read our last line: one that is closed with
// bytes unread is reset, and what was sent is lost with it.
func hangUp(c *net.TCPConn) {
	defer c.Close()
	if c.CloseWrite() != nil {
		return
	}
	_ = c.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.Copy(io.Discard, io.LimitReader(c, lingerBytes))
}

// lingerBytes bounds what is thrown away of a peer that goes on sending.
const lingerBytes = 1 << 20
