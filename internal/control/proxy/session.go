package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/observe/sessions"
)

// session is one control connection and its server's. It has a goroutine for each, and no timer:
// its proxy's watch tells it when its time is up.
type session struct {
	proxy          *Proxy
	record         *sessions.Record
	forward        string
	limits         forward.Limits
	client, server *conn.Wire
	ctx            context.Context // of data connections
	plain          forward.Forward // what was asked for when the session began
	opening        *opening        // what has been said to the server before the session began; nil: nothing
	began          time.Time

	// writing is when the line under way began to be written, in nanoseconds since began; 0: none is.
	writing atomic.Int64

	mu         sync.Mutex
	changed    sync.Cond // of mu: the dialogue has moved, or the session has ended
	dialogue   *dialogue.Dialogue
	data       dataplane.Data  // of the last negotiation; nil: none
	gate       dataplane.Gate  // of a session that is passed through; nil: none
	beginning  *beginning      // of data; nil: it need not know, or knows
	seals      dataplane.Seals // of data connections; those of a leg where no TLS was begun are nil
	control    *tls.Config     // for the client's handshake to come
	then       dialogue.Then   // what the control connections become, once the client's goroutine sees to it
	mute       bool            // the client would take a last line for TLS
	aside      bool            // nobody takes what the server says for lines any more
	halfEnded  bool            // one direction of a tunnel has ended
	unread     bool            // the server has said more than was looked at: none of it answers what is yet to be asked
	hold       *hold           // why nothing may overtake the reply in hand; nil: nothing is held
	out        []byte          // for the client, and not sent yet
	loginFrom  time.Time
	lastLine   time.Time // of either side
	leaving    bool      // to end as soon as no transfer runs
	ended      bool
	goodbye    string // the last line for the client; "": none
	said       said
	passage    string // that of gate, in words
	transfers  int
	violations int // refusals so far
}

// hold is what a reply waits for.
type hold struct {
	cancel   chan struct{} // closed: wait no longer
	transfer bool          // for data to be delivered
	stopped  bool          // cancel is closed
	aborted  bool          // by ABOR
}

func (h *hold) stop() {
	if !h.stopped {
		h.stopped = true
		close(h.cancel)
	}
}

// newSession joins two connections, which it owns from now on. o is what has been said to the server
// already; nil: nothing.
func newSession(ctx context.Context, p *Proxy, client, server *conn.Wire, f forward.Resolved, o *opening, record *sessions.Record) *session {
	now := time.Now()
	s := &session{
		proxy: p, record: record, forward: f.Name, plain: f.Forward, limits: f.Limits.OrDefault(), ctx: ctx,
		client: client, server: server, opening: o,
		began: now, loginFrom: now, lastLine: now,
	}
	s.changed.L = &s.mu
	terms := dialogue.Terms{ServerMode: f.ServerMode, LoginFailures: s.limits.LoginFailures, TLS: f.TLS}
	if f.PassesThrough() {
		terms.Passive = f.ServerPorts
	}
	s.dialogue = dialogue.NewDialogue(dialogue.Ends{
		Client:    remote(client),
		Gateway:   local(client),
		Outside:   local(server),
		Server:    remote(server),
		Announced: f.AdvertisedTo(remote(client)),
	}, terms)
	s.seals.ClientUnshut, s.seals.ServerUnshut = f.TLS.ClientCloseNotifyOptional, f.TLS.ServerCloseNotifyOptional
	if o != nil {
		s.seals.Server = o.data
	}
	return s
}

func local(c net.Conn) netip.Addr  { return addrOf(c.LocalAddr()) }
func remote(c net.Conn) netip.Addr { return addrOf(c.RemoteAddr()) }

func addrOf(a net.Addr) netip.Addr { return a.(*net.TCPAddr).AddrPort().Addr().Unmap().WithZone("") }

// run serves the session to its end, and returns when both connections are closed.
func (s *session) run() {
	var other sync.WaitGroup
	other.Go(s.readServer)
	s.readClient()
	other.Wait()
	s.closeData()
	s.server.Close()
	if !s.mute {
		if s.goodbye != "" {
			s.out = append(append(s.out, s.goodbye...), '\r', '\n')
		}
		_ = s.client.SetWriteDeadline(time.Now().Add(conn.LingerTime))
		_, _ = s.client.Write(s.out)
	}
	conn.HangUp(s.client)
}

// readClient takes the client's commands, one when the one before is answered.
func (s *session) readClient() {
	lines := ftp.NewLineReader(s.client, 0)
	for more := s.begins(lines); more; {
		line, _, err := lines.ReadLine()
		var then dialogue.Then
		if then, more = s.fromClient(line, err); then != dialogue.GoOn {
			more = s.become(then, lines)
		}
	}
}

// fromClient deals with a client's line as soon as the dialogue is ready for it, and returns how the
// client is to be read on; false: it was the last.
func (s *session) fromClient(line []byte, err error) (then dialogue.Then, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		for err == io.EOF && !s.ended && s.dialogue.Waits() { // it may have closed its side only, and still read
			s.changed.Wait()
		}
		s.clientFault(err)
		return dialogue.GoOn, false
	}
	s.lastLine = time.Now()
	for !s.ended && !s.ready(line) {
		s.changed.Wait()
	}
	if s.ended {
		return dialogue.GoOn, false
	}
	s.trace(dialogue.Client, line)
	s.tellCommand(line)
	busy := s.dialogue.Busy()
	s.do(s.dialogue.Step(dialogue.Client, line))
	s.tellStep(line, busy)
	s.observe()
	s.flush()
	for !s.ended && s.dialogue.Undecided() {
		s.changed.Wait()
	}
	return s.then, !s.ended
}

// ready tells whether a client's line can be dealt with. What is held waits for nothing else once the
// client has given it up.
func (s *session) ready(line []byte) bool {
	if s.hold == nil {
		return !s.unread && s.dialogue.Accepts(line)
	}
	if s.hold.transfer && dialogue.VerbOf(line) == "ABOR" {
		s.hold.aborted = true
		s.hold.stop()
	}
	return false
}

// clientFault ends the session for what is wrong with the client's stream.
func (s *session) clientFault(err error) {
	var long *ftp.TooLongError
	var nul *ftp.NULError
	if errors.As(err, &long) || errors.As(err, &nul) {
		s.over(dialogue.RefusedLine, verdict.CodeClientLine, err.Error())
		return
	}
	s.over(dialogue.NotRefused, "", "") // the client has gone; half a line is none
}

// readServer takes the server's replies.
func (s *session) readServer() {
	lines := s.serverLines()
	for more := true; more; {
		line, _, err := lines.ReadLine()
		more = s.fromServer(line, err, err == nil && lines.Ready())
	}
	if s.tunnelled() {
		s.pump(s.client, s.server, lines.Rest())
	}
}

// fromServer deals with a server's line; more tells that the next one is there already, so that what
// goes to the client can go in one write. False: it was the last.
func (s *session) fromServer(line []byte, err error, more bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.hold != nil && !s.ended { // the client's TLS begins or ends
		s.changed.Wait()
	}
	if s.ended {
		return false
	}
	if s.then == dialogue.Tunnel { // the client has begun with TLS
		if err == nil {
			s.refused(dialogue.RefusedSecurity, verdict.CodeTLSOther, "the server begins in plain text, and the client with TLS", "", nil)
			s.over(dialogue.NotRefused, "", "")
		}
		s.aside = true
		s.changed.Broadcast()
		return false
	}
	if err != nil {
		s.serverFault(err)
		return false
	}
	s.lastLine = time.Now()
	loggedIn := s.dialogue.LoggedIn
	s.trace(dialogue.Server, line)
	s.unread = more
	busy := s.dialogue.Busy()
	step := s.dialogue.Step(dialogue.Server, line)
	s.tellReply(line)
	s.do(step)
	s.tellAnswered(line, busy, loggedIn)
	s.observe()
	if loggedIn && !s.dialogue.LoggedIn {
		s.loginFrom = s.lastLine
	}
	if !more || len(s.out) > maxGathered {
		s.flush()
	}
	if s.leaving && !s.busy() {
		s.over(dialogue.NotRefused, verdict.CodeShutDown, shuttingDown)
	}
	s.aside = s.then == dialogue.Tunnel
	s.changed.Broadcast()
	return !s.ended && !s.aside
}

// maxGathered is how much is gathered for one write.
const maxGathered = 4 << 10

// serverFault ends the session for what is wrong with the server's stream.
func (s *session) serverFault(err error) {
	var nul *ftp.NULError
	var long *ftp.TooLongError
	switch {
	case s.dialogue.Parting: // it has said why
		s.over(dialogue.NotRefused, "", "")
	case errors.As(err, &nul), errors.As(err, &long):
		s.over(dialogue.RefusedAnswer, verdict.CodeServerBadReply, "the server's answer is not FTP")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		s.over(dialogue.RefusedServer, verdict.CodeServerLeft, "the server has closed the connection")
	default:
		s.over(dialogue.RefusedServer, verdict.CodeServerLeft, "the connection to the server is broken")
	}
}

// busy tells whether a transfer is under way, the delivery of its data included. Of a session that nobody
// reads nobody knows.
func (s *session) busy() bool {
	return s.hold != nil && s.hold.transfer || s.then == dialogue.Tunnel || s.dialogue.Busy()
}

// over ends the session, with a last line for the client if there is a reason; the first one counts. It
// is called with the lock held.
func (s *session) over(kind dialogue.Refusal, code verdict.Code, reason string) {
	if s.ended {
		return
	}
	s.ended = true
	if reason != "" {
		s.goodbye = "421 " + reason
	}
	if kind != dialogue.NotRefused {
		s.refused(kind, code, reason, "", nil)
	} else if code != "" {
		s.record.Refuse(s.fault(kind, code, reason, "", nil))
	}
	if s.hold != nil {
		s.hold.stop()
	}
	_ = s.client.SetReadDeadline(past) // whoever reads returns
	_ = s.server.SetReadDeadline(past)
	if s.then != dialogue.GoOn { // so does who writes without the lock
		_ = s.client.SetWriteDeadline(past)
		_ = s.server.SetWriteDeadline(past)
	}
	s.changed.Broadcast()
}

// past is a deadline that makes what waits return.
var past = time.Unix(1, 0)

// refused counts what was refused, and logs it, with a remedy if there is one.
func (s *session) refused(kind dialogue.Refusal, code verdict.Code, reason, remedy string, err error) {
	if kind != dialogue.RefusedTransfer { // its data connection says it
		s.record.Refuse(s.fault(kind, code, reason, remedy, err))
	}
	s.violations++
	s.proxy.refuse(kind)
	attrs := []slog.Attr{slog.String("kind", kind.String()), slog.String("reason", reason)}
	if remedy != "" {
		attrs = append(attrs, slog.String("remedy", remedy))
	}
	if err != nil {
		attrs = append(attrs, slog.Any("err", err))
	}
	s.log(slog.LevelWarn, "refused", attrs...)
}

// log writes a line about the session. It puts the line together when there is one: a logger of its own
// would stay in memory with every idle session.
func (s *session) log(level slog.Level, msg string, attrs ...slog.Attr) {
	if !s.proxy.Log.Enabled(s.ctx, level) {
		return
	}
	s.proxy.Log.LogAttrs(s.ctx, level, msg, append([]slog.Attr{
		slog.String("forward", s.forward),
		slog.String("session", s.record.ID()),
		slog.String("client", s.client.RemoteAddr().String()),
		slog.String("server", s.server.RemoteAddr().String()),
	}, attrs...)...)
}

// timedOut tells whether an error is a deadline that has passed.
func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
