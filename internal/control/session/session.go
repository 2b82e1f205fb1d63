// Package session is one FTP session: it reads and writes the lines of both control connections, carries out
// what the dialogue asks for, and writes the session's record. Package dialogue decides what a line means;
// the caller's data path carries the data.
//
// Locks: a session's state has a lock that is held only briefly: never during a dial, a read, a write, a log
// write or a call of the data path. These belong to the one reader that has the turn (see phase), which needs
// no lock. So a kernel that does not answer stops one step of one session, and neither Kill nor CheckTimeouts
// wait for it. No other lock is taken while this one is held.
package session

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/control/refusal"
	"ftpgate/internal/control/transcript"
	"ftpgate/internal/control/upstream"
	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/observe/sessions"
)

// Env is what all sessions of a forward share. Its exported fields do not change.
type Env struct {
	Path     dataplane.Path
	Keys     Keys // nil: no forward has TLS
	Log      *slog.Logger
	Reporter refusal.Reporter
	// is called when a session is over, with the data that is relayed for it
	Ended    func(s *Session)
	Dial     DialFunc                     // connects to a server that a client named
	Account  AccountFunc                  // returns what such a client logs in to the gateway itself with
	Draining context.Context              // done: no dial begins any more
	Banned   func(client netip.Addr) bool // reports whether a client is banned now; nil: none is

	WriteTime  time.Duration // how long a peer may take for a line
	CloseTime  time.Duration // how long a session that is over waits for the data path
	LoginDelay time.Duration // how long the answer to a third failed login and more waits, for each so far

	longLines atomic.Int32 // how many sessions have a long line of a reply in memory
}

// Session is one control connection and its server's. It has a goroutine for each, and no timer: its proxy
// calls CheckTimeouts.
type Session struct {
	env            *Env
	record         *sessions.Record
	forward        forward.Forward // as it was when the session began
	limits         forward.Limits
	client, server *conn.Control
	from           conn.Accepted         // who the client is
	aborted        context.Context       // done: the time for data connections is up, too
	serverSetup    *upstream.ServerSetup // with TLS to the server, until its greeting is handled; else nil
	began          time.Time
	writing        atomic.Int64 // when the write under way began, in nanoseconds after began; 0: none

	state

	// The fields below belong to the reader that has the turn; in switching and passthrough to the client's
	// reader, in stopping to the server's; and once both have returned, to finish. Any goroutine may read the
	// dialogue under mu, except while the session is working.

	reading          *conn.Control // the server that the server's reader reads; it alone uses it
	dialogue         *dialogue.Dialogue
	replies          ftp.ReplyScanner    // of the server's lines
	lineAt           time.Time           // when the line under way arrived
	toClient         []byte              // for the client, and not sent yet
	dataConn         dataplane.Data      // of the last negotiation; nil: none
	detached         []dataplane.Data    // of earlier ones, closed, whose connections may continue
	passthrough      dataplane.Handle    // of a passed-through session; nil: none
	handshake        *handshake          // of a passed-through session; the two readers share it
	transferStarted  *transferStarted    // of dataConn; nil: it does not wait for the transfer's start
	dataTLS          dataplane.DataTLS   // of data connections, but for the client's leg
	clientTLS        ClientTLS           // of the client's last AUTH; nil: there was none
	requested        dialogue.Transition // by the step, for the end of the turn
	noGoodbye        bool                // the client would take a last line for TLS
	transcript       transcript.Transcript
	passthroughPorts string // of the passthrough, in words
	refusals         refusals
	endingReported   bool
}

// The limits of one reply. STAT answers with whole listings, which the gateway does not store, but a reply
// must end.
const (
	maxReplyLines = 1 << 20
	maxReplyBytes = 64 << 20
)

// New takes over two connections; after an error the caller still owns them. If the client is to name the
// server, server is conn.None. Data connections end when ctx is
// done. setup is the TLS that was set up with the server; nil: none. The caller starts ReadClient and
// ReadServer, each in a goroutine of its own, and waits for both.
func New(aborted context.Context, env *Env, from conn.Accepted, server *conn.Control, f forward.Resolved,
	setup *upstream.ServerSetup, record *sessions.Record) (*Session, error) {
	s := &Session{
		env: env, forward: f.Forward, limits: f.Limits.OrDefault(), aborted: aborted,
		client: from.Control(), from: from, server: server, serverSetup: setup, began: time.Now(),
		replies:    ftp.ReplyScanner{MaxLines: maxReplyLines, MaxBytes: maxReplyBytes},
		transcript: transcript.New(record), record: record,
	}
	s.state.init(reading)
	if f.TLS.Implicit { // the client begins with its handshake
		s.state.phase = switching
		var err error
		if s.clientTLS, err = env.Keys.ForClient(f.Forward, s.Client()); err != nil {
			return nil, err
		}
	}
	config := dialogue.Config{ServerMode: f.ServerMode, LoginFailures: s.limits.LoginFailures, TLS: f.TLS}
	if f.PassesThrough() {
		config.Passive = f.ServerPorts
	}
	if config.Named = f.Explicit(); config.Named {
		var err error
		if config.Account, err = env.Account(f.Forward); err != nil {
			return nil, err
		}
	}
	s.dialogue = dialogue.New(addressesOf(f, from, server), config)
	s.dataTLS.ClientCloseNotifyOptional = f.TLS.ClientCloseNotifyOptional
	s.dataTLS.ServerCloseNotifyOptional = f.TLS.ServerCloseNotifyOptional
	if setup != nil {
		s.dataTLS.Server = setup.Data
	}
	s.log(slog.LevelInfo, "session begins")
	if setup != nil {
		s.encrypted("server", server.TLS)
	}
	return s, nil
}

// Client returns the client's address.
func (s *Session) Client() netip.Addr { return s.from.Client.Addr() }

// CountsAs returns the client that the session counts for.
func (s *Session) CountsAs() netip.Prefix { return s.limits.ClientOf(s.Client()) }

// ShortestLimit returns the shortest time in which the session may have to end.
func (s *Session) ShortestLimit() time.Duration {
	return min(s.limits.Login, s.limits.Idle, s.env.WriteTime)
}

// ReadClient reads and handles the client's commands, each when the dialogue is ready for it. It returns when
// the session is over.
func (s *Session) ReadClient() {
	defer s.readerEnded()
	lines := ftp.NewLineReader(s.client, 0)
	for more := (!s.forward.TLS.Implicit || s.encrypt(lines)) && s.greet(); more; {
		if first, err := lines.Peek(); err == nil && first == handshakeRecord {
			more = s.clientHello(lines)
			continue
		}
		line, _, err := lines.ReadLine() // returns an error of Peek again
		var next dialogue.Transition
		if next, more = s.fromClient(line, err); next != dialogue.None {
			more = s.apply(next, lines)
		}
	}
}

// fromClient handles a client's line as soon as the dialogue is ready for it. It returns the transition to
// make on the client's connection; false: this was the last line.
func (s *Session) fromClient(text []byte, err error) (next dialogue.Transition, more bool) {
	if err != nil {
		s.clientFailed(err)
		return dialogue.None, false
	}
	line := ftp.ParseClientLine(text)
	if !s.takeClientTurn(line) {
		return dialogue.None, false
	}
	s.traceCommand(line)
	s.transcript.Command(s.lineAt, line)
	step, ok := s.carryOut(s.dialogue.Command(line))
	if !ok {
		return dialogue.None, false
	}
	s.transcript.CommandStep(s.lineAt, line, step)
	s.watchTransfer()
	s.flush()
	awaits := s.dialogue.AwaitsTransition()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commands++
	s.endTurn()
	for awaits && (s.phase.inStep() || s.phase == reading && s.dialogue.AwaitsTransition()) {
		s.changed.Wait()
	}
	return s.transition, s.phase != terminated
}

// takeClientTurn waits until the client's line can be handled, and takes the turn; false: the session is
// over.
func (s *Session) takeClientTurn(line ftp.ClientLine) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastActive = time.Now()
	for s.phase != terminated && !s.ready(line) {
		if s.phase == reading && !s.dialogue.Accepts(line) && !s.commandWaits {
			s.commandWaits = true
			s.changed.Broadcast()
		}
		s.changed.Wait()
	}
	s.commandWaits = false
	if s.phase == terminated {
		return false
	}
	s.takeTurn()
	s.lineAt = s.lastActive
	return true
}

// ready reports whether a client's line can be handled. If a reply is being held for its data, it is sent
// now: the client has sent another command. It is called with the lock held.
func (s *Session) ready(line ftp.ClientLine) bool {
	if s.phase == delivering {
		s.barrier.release()
	}
	return s.phase == reading && !s.serverAhead && s.dialogue.Accepts(line)
}

// ReadServer reads and handles the server's replies. It returns when the session is over.
func (s *Session) ReadServer() {
	defer s.readerEnded()
	for s.nextServer() {
		s.readServer()
	}
}

// readServer reads the session's server until that is over.
func (s *Session) readServer() {
	lines, more := s.serverLines()
	for more {
		text, ending, err := lines.ReadLine()
		long := isTooLong(err) && s.env.beginLongLine()
		if long {
			lines.SetLimit(maxLongLine)
			text, ending, err = lines.ReadLine()
		}
		if len(text) > 0 && err == io.ErrUnexpectedEOF { // its last line has no end
			err = nil
		}
		more = s.fromServer(text, ending, err, err == nil && lines.Ready())
		if long {
			lines.SetLimit(0)
			s.env.endLongLine()
		}
	}
	if s.inPassthrough() {
		s.pump(s.client, s.server, lines.Rest())
	}
}

// serverLines returns the stream of the server's lines. If TLS was set up with the server, it first handles
// the greeting, which was read then; false: the session ended with it.
func (s *Session) serverLines() (lines *ftp.LineReader, more bool) {
	setup := s.serverSetup
	if setup == nil {
		return ftp.NewLineReader(s.reading, 0), true
	}
	s.serverSetup = nil
	more = true
	for greeting := setup.Greeting; more && len(greeting) > 0; {
		line, rest, _ := bytes.Cut(greeting, []byte("\r\n"))
		greeting = rest
		more = s.fromServer(line, ftp.EndCRLF, nil, len(rest) > 0)
	}
	return setup.Lines, more
}

// fromServer handles a server's line. If ahead is set, the next line has arrived, and one write can carry
// both to the client. It returns false after the last line.
func (s *Session) fromServer(text []byte, ending ftp.Ending, err error, ahead bool) bool {
	if !s.takeServerTurn(err, ahead) {
		return false
	}
	line := s.replies.Next(text, ending, ahead)
	s.traceReply(line)
	step := s.dialogue.Reply(line)
	login := step.Login // whatever carryOut returns
	s.transcript.Reply(s.lineAt, line, s.dialogue.Answering())
	step, ok := s.carryOut(step)
	if !ok {
		return false
	}
	if login != dialogue.SameLogin {
		s.transcript.Login(login == dialogue.LoggedIn)
		s.shareLogin()
	}
	s.transcript.ReplyStep(s.lineAt, line, step)
	s.watchTransfer()
	if !ahead || s.requested != dialogue.None || len(s.toClient) > maxGathered {
		s.flush()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if login == dialogue.LoggedOut {
		s.loginFrom = s.lastActive
	}
	s.endTurn()
	if s.draining != nil && s.phase == reading && !s.dialogue.InTransfer() {
		s.terminateLocked(DrainRefusal(s.draining))
	}
	if s.phase == stopping {
		s.stopServerReader()
	}
	return s.phase != terminated && !s.phase.inPassthrough()
}

// maxGathered is how much is gathered for one write to the client, in bytes.
const maxGathered = 4 << 10

// takeServerTurn waits until the server's line can be handled, and takes the turn; false: no further line is
// handled.
func (s *Session) takeServerTurn(err error, ahead bool) bool {
	s.mu.Lock()
	for s.phase.inStep() || s.phase == switching {
		s.changed.Wait()
	}
	switch {
	case s.phase == terminated, s.forward.Explicit() && s.reading != s.server: // which was left
		s.mu.Unlock()
		return false
	case s.phase == stopping: // the client began TLS
		s.mu.Unlock()
		s.leaveLines(err)
		return false
	case err != nil:
		explained := s.dialogue.ServerClosing() || s.clientEnded
		if s.dialogue.OtherProtocol() {
			err = errNotFTP
		}
		s.mu.Unlock()
		s.serverFailed(err, explained)
		return false
	}
	s.takeTurn()
	s.lastActive = time.Now()
	s.lineAt, s.serverAhead = s.lastActive, ahead
	s.mu.Unlock()
	return true
}

// leaveLines stops the server's reader for a passthrough. The reader was interrupted, or, if err is nil, got
// a line just when the client began with TLS.
func (s *Session) leaveLines(err error) {
	if err == nil {
		s.refuse(refusal.New(verdict.RefusedEncryption, verdict.CodeClientBeginsTLS,
			"the server begins in plain text, and the client with TLS"))
		s.terminate(refusal.Refusal{})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopServerReader()
}
