package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/verdict"
)

// Keys makes the TLS that the gateway speaks with servers.
type Keys interface {
	// ForServer returns the TLS client for a control connection and for its data connections; they share
	// what may be resumed.
	ForServer(f forward.Forward) (control, data *tls.Config, err error)
	// Explain returns why TLS failed, in words for a client without any text of the peer's, and what the
	// operator can do about it.
	Explain(err error) (reason, remedy string)
}

// ServerSetup is a control connection to a server after AUTH, PBSZ and PROT. Its greeting is for the client.
type ServerSetup struct {
	Lines    *ftp.LineReader
	Greeting []byte      // as received, with its line ends
	Data     *tls.Config // of data connections; nil: they are in clear
}

// Error says why the gateway cannot speak TLS with a server. Its Refusal has the words for the client.
type Error struct {
	verdict.Refusal
	Err error // nil: the server refused
}

// Error returns the cause, or the client's text if there is none.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Reason
	}
	return e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// BeginTLS begins TLS with a server by AUTH, PBSZ and PROT (RFC 4217 section 4), before any login or file
// name is sent. It never falls back to plain text. It waits at most for the forward's login time. The error
// is an *Error, also after a negative greeting, or an error of Keys.
func BeginTLS(ctx context.Context, c *conn.Control, f forward.Resolved, keys Keys) (*ServerSetup, error) {
	control, data, err := keys.ForServer(f.Forward)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(f.Limits.OrDefault().Login))
	stop := context.AfterFunc(ctx, c.Interrupt)
	defer stop()
	setup := &serverTLSSetup{
		conn: c, lines: ftp.NewLineReader(c, 0), keys: keys, handshake: f.Limits.OrDefault().Dial,
	}
	s := &ServerSetup{Lines: setup.lines, Data: data}
	if f.TLS.ServerDataClear {
		s.Data = nil
	}
	if s.Greeting, err = setup.begin(control, f.TLS); err != nil {
		return nil, err
	}
	if stop() {
		_ = c.SetDeadline(time.Time{})
	}
	return s, nil
}

// serverTLSSetup is the dialogue with a server before the client's.
type serverTLSSetup struct {
	conn      *conn.Control
	lines     *ftp.LineReader
	keys      Keys
	handshake time.Duration // as long as for the connection
}

// begin encrypts the connection, negotiates PROT, and returns the server's greeting.
func (s *serverTLSSetup) begin(control *tls.Config, t forward.TLS) (greeting []byte, err error) {
	if greeting, err = s.greet(control, t.Server); err != nil {
		return nil, err
	}
	return greeting, s.protect(t)
}

// greet reads the server's greeting, which must be positive, and encrypts the connection before it, after it
// or not at all.
func (s *serverTLSSetup) greet(control *tls.Config, t forward.ServerTLS) (greeting []byte, err error) {
	if t == forward.ServerTLSImplicit {
		if err := s.encrypt(control); err != nil {
			return nil, err
		}
	}
	reply, err := s.reply()
	if err != nil {
		return nil, err
	}
	if reply.Code/100 != 2 {
		return nil, refused(verdict.RefusedUnreachable, verdict.CodeServerTurnedAway,
			dialogue.NoSessionsNow,
			"the server greets with %d: its own log says why", reply.Code)
	}
	if greeting, err = reply.AppendTo(nil); err != nil {
		return nil, s.replyError(err)
	}
	if t == forward.ServerTLSRequired {
		if code, err := s.ask("AUTH TLS"); err != nil {
			return nil, err
		} else if code != 234 {
			return nil, refused(verdict.RefusedEncryption, verdict.CodeServerNoTLS,
				"the server does not encrypt its sessions",
				"the server answers AUTH TLS with %d: switch on its explicit FTPS; "+
					"one that begins with TLS (port 990) wants tls.server = \"implicit\"", code)
		}
		if err := s.encrypt(control); err != nil {
			return nil, err
		}
	}
	return greeting, nil
}

// refused returns the error for a negative reply.
func refused(kind verdict.RefusalKind, code verdict.Code, reason, remedy string, answer int) *Error {
	remedy = fmt.Sprintf(remedy, answer)
	return &Error{Refusal: verdict.Refusal{Kind: kind, Code: code, Reason: reason, Remedy: remedy}}
}

// protect negotiates whether data connections use TLS.
func (s *serverTLSSetup) protect(t forward.TLS) error {
	prot := "PROT P"
	if t.ServerDataClear {
		prot = "PROT C"
	}
	if _, err := s.ask("PBSZ 0"); err != nil { // only the answer to PROT counts
		return err
	}
	code, err := s.ask(prot)
	switch {
	case err != nil:
		return err
	case t.AgreesOnData(code):
		return nil
	case t.ServerDataClear:
		return refused(verdict.RefusedEncryption, verdict.CodeServerTLS,
			"the server wants its data connections encrypted",
			"the server answers PROT C with %d: leave server_data = \"clear\" out", code)
	}
	return refused(verdict.RefusedEncryption, verdict.CodeServerNoTLS,
		"the server does not encrypt its data connections",
		"the server answers PROT P with %d: have it encrypt data, "+
			"or give the forward server_data = \"clear\"", code)
}

// encrypt does the handshake. It drops what the server sent in plain text after its positive reply.
func (s *serverTLSSetup) encrypt(control *tls.Config) error {
	late := time.AfterFunc(s.handshake, s.conn.Interrupt)
	defer late.Stop()
	if err := s.conn.BeginTLS(control); err != nil {
		return s.noTLS(err)
	}
	s.lines.Reset(s.conn)
	return nil
}

// noTLS returns the error for a failed handshake.
func (s *serverTLSSetup) noTLS(err error) *Error {
	reason, remedy := s.keys.Explain(err)
	return &Error{Err: err, Refusal: verdict.Refusal{
		Kind: verdict.RefusedEncryption, Code: verdict.CodeServerTLS,
		Reason: "no TLS with the server: " + reason, Remedy: remedy,
	}}
}

// ask sends a command and returns the code of the answer.
func (s *serverTLSSetup) ask(command string) (code int, err error) {
	if _, err := s.conn.Write([]byte(command + "\r\n")); err != nil {
		return 0, s.replyError(err)
	}
	reply, err := s.reply()
	return reply.Code, err
}

// reply reads an answer. It skips preliminary replies (1yz).
func (s *serverTLSSetup) reply() (ftp.Reply, error) {
	for {
		reply, err := ftp.ReadReply(s.lines, &ftp.ReplyScanner{})
		if err != nil {
			return ftp.Reply{}, s.replyError(err)
		}
		if reply.Code/100 != 1 {
			return reply, nil
		}
	}
}

// replyError returns the error for a server that does not answer, or not in FTP.
func (s *serverTLSSetup) replyError(err error) *Error {
	remote, isRemote := errors.AsType[*net.OpError](err)
	if isRemote && remote.Op == "remote error" { // TLS 1.3: the server refuses our certificate only now
		return s.noTLS(err)
	}
	e := &Error{Err: err, Refusal: verdict.Refusal{
		Kind:   verdict.RefusedBadReply,
		Code:   verdict.CodeServerBadReply,
		Reason: dialogue.NotFTP,
		Remedy: "see what listens there: a server that begins with TLS (port 990) " +
			"wants tls.server = \"implicit\"",
	}}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		e.Kind, e.Code = verdict.RefusedUnreachable, verdict.CodeServerSilent
		e.Reason = dialogue.ServerSilent
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		e.Kind, e.Code = verdict.RefusedUnreachable, verdict.CodeServerLeft
		e.Reason = dialogue.ServerLeft
		e.Remedy = "its own log says why"
	}
	return e
}
