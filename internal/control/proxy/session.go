package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/control/upstream"
	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/observe/sessions"
)

// session is one control connection and its server's. It has a goroutine for each, and no timer: its
// proxy's watch ends it when its time is up.
type session struct {
	proxy          *Proxy
	forward        forward.Forward // as it was when the session began
	limits         forward.Limits
	client, server *conn.Control
	ctx            context.Context   // of data connections
	secured        *upstream.Secured // the server's side, if it has TLS and its lines are not taken yet; else nil
	began          time.Time

	state

	// What follows belongs to the reader that has the turn, in passthrough to the client's reader, and to
	// run once both have returned.

	dialogue        *dialogue.Dialogue
	replies         ftp.ReplyScanner // of the server's lines
	at              time.Time        // when the line came that is carried out
	out             []byte           // for the client, and not sent yet
	data            dataplane.Data   // of the last negotiation; nil: none
	passthrough     dataplane.Gate   // of a session that is passed through; nil: none
	transferStarted *transferStarted // for data; nil: it need not know, or knows
	dataTLS         dataplane.Seals  // of data connections; nil on a leg without TLS
	clientTLS       *tls.Config      // for the client's next handshake
	noGoodbye       bool             // the client would take a last line for TLS
	transcript      transcript
	transfers       int
	refusals        int
	endingTold      bool
}

// What a reply may have at most. STAT answers with whole listings, and the gateway keeps nothing of them,
// but a reply must end.
const (
	maxReplyLines = 1 << 20
	maxReplyBytes = 64 << 20
)

// newSession joins two connections, and owns them from now on. secured is what was said with the server
// already; nil: nothing.
func newSession(ctx context.Context, p *Proxy, client, server *conn.Control, f forward.Resolved,
	secured *upstream.Secured, record *sessions.Record) *session {
	s := &session{
		proxy: p, forward: f.Forward, limits: f.Limits.OrDefault(), ctx: ctx,
		client: client, server: server, secured: secured, began: time.Now(),
		replies:    ftp.ReplyScanner{MaxLines: maxReplyLines, MaxBytes: maxReplyBytes},
		transcript: transcript{record: record},
	}
	s.state.init(reading)
	if f.TLS.Implicit {
		s.state.phase = switching // the client begins with its handshake
	}
	config := dialogue.Config{ServerMode: f.ServerMode, LoginFailures: s.limits.LoginFailures, TLS: f.TLS}
	if f.PassesThrough() {
		config.Passive = f.ServerPorts
	}
	s.dialogue = dialogue.New(dialogue.Addresses{
		Client:    remote(client),
		Gateway:   local(client),
		Outside:   local(server),
		Server:    remote(server),
		Announced: f.AdvertisedTo(remote(client)),
	}, config)
	s.dataTLS.ClientUnshut, s.dataTLS.ServerUnshut = f.TLS.ClientUnshut, f.TLS.ServerUnshut
	if secured != nil {
		s.dataTLS.Server = secured.Data
	}
	return s
}

func local(c net.Conn) netip.Addr  { return addrOf(c.LocalAddr()) }
func remote(c net.Conn) netip.Addr { return addrOf(c.RemoteAddr()) }

func addrOf(a net.Addr) netip.Addr { return a.(*net.TCPAddr).AddrPort().Addr().Unmap().WithZone("") }

// readClient takes the client's commands, each when the one before is answered. It returns when the session
// is over.
func (s *session) readClient() {
	defer s.readerEnded()
	lines := ftp.NewLineReader(s.client, 0)
	for more := s.clientBegins(lines); more; {
		line, _, err := lines.ReadLine()
		var next dialogue.Transition
		if next, more = s.fromClient(line, err); next != dialogue.None {
			more = s.apply(next, lines)
		}
	}
}

// fromClient handles a client's line as soon as the dialogue is ready for it. It returns what becomes of the
// client's connection; false: this was the last line.
func (s *session) fromClient(text []byte, err error) (next dialogue.Transition, more bool) {
	if err != nil {
		s.clientFailed(err)
		return dialogue.None, false
	}
	line := ftp.ParseClientLine(text)
	if !s.takeClientTurn(line) {
		return dialogue.None, false
	}
	s.traceCommand(line)
	s.transcript.command(s.at, line)
	inTransfer := s.dialogue.InTransfer()
	step, ok := s.carryOut(s.dialogue.Command(line))
	if !ok {
		return dialogue.None, false
	}
	s.transcript.commandStep(s.at, line, step, !inTransfer && s.dialogue.InTransfer())
	s.watchTransfer()
	s.flush()
	awaits := s.dialogue.AwaitsTransition()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endTurn()
	for awaits && (s.phase.inStep() || s.phase == reading && s.dialogue.AwaitsTransition()) {
		s.changed.Wait()
	}
	return s.transition, s.phase != terminated
}

// takeClientTurn waits until the client's line can be handled, and takes the turn; false: the session is
// over.
func (s *session) takeClientTurn(line ftp.ClientLine) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastLine = time.Now()
	for s.phase != terminated && !s.ready(line) {
		s.changed.Wait()
	}
	if s.phase == terminated {
		return false
	}
	s.takeTurn()
	s.at = s.lastLine
	return true
}

// ready reports whether a client's line can be handled. While the last reply of a transfer waits for the
// data, ABOR cancels that. It is called with the lock held.
func (s *session) ready(line ftp.ClientLine) bool {
	if s.phase == delivering && line.Command.Verb == "ABOR" {
		s.abortDelivery()
	}
	return s.phase == reading && !s.serverAhead && s.dialogue.Accepts(line)
}

// clientFailed ends the session for what is wrong with the client's stream.
func (s *session) clientFailed(err error) {
	s.mu.Lock()
	// A client that closed its side may still read: it gets its answer.
	for s.phase == working || s.phase == reading && err == io.EOF && s.dialogue.AwaitsAnswer() {
		s.changed.Wait()
	}
	s.mu.Unlock()
	if badLine(err) {
		s.terminate(refused(dialogue.RefusedLine, verdict.CodeClientLine, err.Error()))
		return
	}
	s.terminate(refusal{}) // the client has gone; half a line is none
}

// badLine reports whether an error is about a line, and not about the stream.
func badLine(err error) bool {
	_, long := errors.AsType[*ftp.TooLongError](err)
	_, nul := errors.AsType[*ftp.NULError](err)
	return long || nul
}

// readServer takes the server's replies. It returns when the session is over.
func (s *session) readServer() {
	defer s.readerEnded()
	lines, more := s.serverLines()
	for more {
		text, _, err := lines.ReadLine()
		more = s.fromServer(text, err, err == nil && lines.Ready())
	}
	if s.inPassthrough() {
		s.pump(s.client, s.server, lines.Rest())
	}
}

// serverLines returns the stream of the server's lines. Where TLS was set up, it handles the greeting, which
// was read already, first; false: the session ended with it.
func (s *session) serverLines() (lines *ftp.LineReader, more bool) {
	secured := s.secured
	if secured == nil {
		return ftp.NewLineReader(s.server, 0), true
	}
	s.secured = nil
	more = true
	for greeting := secured.Greeting; more && len(greeting) > 0; {
		line, rest, _ := bytes.Cut(greeting, []byte("\r\n"))
		greeting = rest
		more = s.fromServer(line, nil, len(rest) > 0)
	}
	return secured.Lines, more
}

// fromServer handles a server's line. ahead says that the next one is there already, so that what goes to the
// client can go in one write. False: this was the last line.
func (s *session) fromServer(text []byte, err error, ahead bool) bool {
	if !s.takeServerTurn(err, ahead) {
		return false
	}
	line := s.replies.Next(text)
	loggedIn, inTransfer := s.dialogue.LoggedIn(), s.dialogue.InTransfer()
	s.traceReply(line)
	s.transcript.reply(s.at, line)
	step, ok := s.carryOut(s.dialogue.Reply(line))
	if !ok {
		return false
	}
	if loggedIn != s.dialogue.LoggedIn() {
		s.transcript.login(s.dialogue.LoggedIn())
	}
	s.transcript.replyStep(s.at, line, step, !inTransfer && s.dialogue.InTransfer())
	s.watchTransfer()
	if !ahead || len(s.out) > maxGathered {
		s.flush()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if loggedIn && !s.dialogue.LoggedIn() {
		s.loginFrom = s.lastLine
	}
	s.endTurn()
	if s.draining && s.phase == reading && !s.dialogue.InTransfer() {
		s.endFor(refused(dialogue.NotRefused, verdict.CodeShutDown, shuttingDown))
	}
	if s.phase == stopping {
		s.stopServerReader()
	}
	return s.phase != terminated && !s.phase.inPassthrough()
}

// maxGathered is how much is gathered for one write to the client, in bytes.
const maxGathered = 4 << 10

// takeServerTurn waits until the server's line can be handled, and takes the turn. False: no more lines come.
func (s *session) takeServerTurn(err error, ahead bool) bool {
	s.mu.Lock()
	for s.phase.inStep() || s.phase == switching {
		s.changed.Wait()
	}
	switch {
	case s.phase == terminated:
		s.mu.Unlock()
		return false
	case s.phase == stopping: // the client began TLS
		s.mu.Unlock()
		s.leaveLines(err)
		return false
	case err != nil:
		closing := s.dialogue.ServerClosing()
		s.mu.Unlock()
		s.serverFailed(err, closing)
		return false
	}
	s.takeTurn()
	s.lastLine = time.Now()
	s.at, s.serverAhead = s.lastLine, ahead
	s.mu.Unlock()
	return true
}

// leaveLines has the server's reader stop for a passthrough. It was interrupted, unless err is nil: then a
// line of the server's came just when the client began with TLS.
func (s *session) leaveLines(err error) {
	if err == nil {
		s.refuse(refused(dialogue.RefusedSecurity, verdict.CodeTLSOther, "the server begins in plain text, and the client with TLS"))
		s.terminate(refusal{})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopServerReader()
}

// serverFailed ends the session for what is wrong with the server's stream. closing says that the server has
// told the client why.
func (s *session) serverFailed(err error, closing bool) {
	switch {
	case closing:
		s.terminate(refusal{})
	case badLine(err):
		s.terminate(refused(dialogue.RefusedAnswer, verdict.CodeServerBadReply, "the server's answer is not FTP"))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		s.terminate(refused(dialogue.RefusedServer, verdict.CodeServerLeft, "the server has closed the connection"))
	default:
		s.terminate(refused(dialogue.RefusedServer, verdict.CodeServerLeft, "the connection to the server is broken"))
	}
}
