package session

import (
	"context"
	"errors"
	"time"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/control/upstream"
	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/verdict"
)

// DialFunc connects to a server that a client named, and begins TLS if the forward asks for it; setup is nil
// then. It ends when the session or the forward ends. The error is an *upstream.Error.
type DialFunc func(ctx context.Context, f forward.Forward, to forward.Server, client conn.Accepted) (
	server *conn.Control, setup *upstream.ServerSetup, err error)

// AccountFunc returns the account that clients log in to the gateway with before they name a server; the zero
// Account: none.
type AccountFunc func(f forward.Forward) (dialogue.Account, error)

// greet greets a client that is to name its server; false: the session is over. A forward's own server greets
// its clients itself.
func (s *Session) greet() bool {
	if !s.forward.Explicit() {
		return true
	}
	s.mu.Lock()
	if s.phase != reading {
		s.mu.Unlock()
		return false
	}
	s.takeTurn()
	s.mu.Unlock()
	if _, ok := s.carryOut(s.dialogue.Greet()); !ok {
		return false
	}
	s.flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endTurn()
	return s.phase != terminated
}

// nextServer waits until the session has a server that was not read yet; false: it gets no other one. Only
// the server's reader calls it.
func (s *Session) nextServer() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.forward.Explicit() {
		first := s.reading == nil
		s.reading = s.server
		return first
	}
	for s.phase != terminated && !s.phase.inPassthrough() && (s.phase.inStep() || !s.dialogue.HasServer() ||
		s.reading == s.server) {
		s.changed.Wait()
	}
	s.reading = s.server
	return s.phase == reading || s.phase == switching
}

// dial leaves the session's server, if it has one, and connects to the one that the client named. It returns
// the dialogue's answer to the outcome.
func (s *Session) dial(step dialogue.Step) (dialogue.Step, error) {
	if !s.closeData() {
		return step, errTurnTaken
	}
	s.leaveServer()
	ctx, cancel := context.WithCancel(s.env.Draining)
	defer cancel()
	s.mu.Lock()
	if s.cancelDial = cancel; s.phase == terminated {
		cancel()
	}
	s.mu.Unlock()
	began := time.Now()
	server, setup, err := s.env.Dial(ctx, s.forward, *step.Server, s.from)
	if err != nil {
		server, setup = conn.None(), nil
	}
	s.mu.Lock()
	s.cancelDial = nil
	s.server, s.serverAhead = server, false
	s.mu.Unlock()
	s.lineAt = time.Now()
	if err != nil {
		return s.dialogue.NotDialled(refusalOf(err)), err
	}
	s.serverSetup, s.dataTLS.Server = setup, nil
	if setup != nil {
		s.dataTLS.Server = setup.Data
		s.encrypted("server", server.TLS)
	}
	s.replies = ftp.ReplyScanner{MaxLines: maxReplyLines, MaxBytes: maxReplyBytes}
	s.record.Connected(conn.AddrPort(server.RemoteAddr()), time.Since(began))
	return s.dialogue.Dialled(addressesOf(forward.Resolved{Forward: s.forward}, s.from, server)), nil
}

// refusalOf returns the refusal for the client of a server that is not connected.
func refusalOf(err error) verdict.Refusal {
	if e, ok := errors.AsType[*upstream.Error](err); ok {
		return e.Refusal
	}
	return verdict.Refusal{Kind: verdict.RefusedUnreachable, Code: verdict.CodeServerUnreachable,
		Reason: "cannot reach the server"}
}

// leaveServer ends the connection to the session's server in order: QUIT, then the end of the stream, and the
// server's own end within conn.LingerTime.
func (s *Session) leaveServer() {
	if s.server.RemoteAddr() == nil {
		return
	}
	_ = s.server.SetWriteDeadline(time.Now().Add(conn.LingerTime))
	_, _ = s.server.Write([]byte("QUIT\r\n"))
	s.server.HangUp()
	s.serverSetup = nil
}
