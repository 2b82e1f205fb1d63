package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/verdict"
)

// opening is the beginning of a dialogue with a server in TLS, of which the client hears the greeting.
type opening struct {
	lines    *ftp.LineReader
	greeting []byte      // as it came, with its endings
	data     *tls.Config // for data connections; nil: they are in clear
}

// noTLSError says why a server cannot be spoken to in TLS.
type noTLSError struct {
	kind          dialogue.Refusal
	code          verdict.Code
	plain, remedy string
	err           error // nil: the server has just said no
}

func (e *noTLSError) Error() string {
	if e.err == nil {
		return e.plain
	}
	return e.err.Error()
}
func (e *noTLSError) Unwrap() error { return e.err }

// open begins TLS with a server, before anything is said that is worth reading: AUTH, PBSZ and PROT
// (RFC 4217 section 4). There is no way on in plain text. A greeting that is a no is the client's to hear.
func (p *Proxy) open(ctx context.Context, w *conn.Wire, f forward.Resolved) (*opening, error) {
	control, data, err := p.Keys.ForServer(f.Forward)
	if err != nil {
		return nil, err
	}
	_ = w.SetDeadline(time.Now().Add(f.Limits.OrDefault().Login))
	stop := context.AfterFunc(ctx, func() { _ = w.SetDeadline(past) })
	defer stop()
	a := &asker{w: w, lines: ftp.NewLineReader(w, 0), keys: p.Keys, handshake: f.Limits.OrDefault().Dial}
	o := &opening{lines: a.lines, data: data}
	if f.TLS.ServerDataClear {
		o.data = nil
	}
	if o.greeting, err = a.begin(control, f.TLS); err != nil {
		return nil, err
	}
	if stop() {
		_ = w.SetDeadline(time.Time{})
	}
	return o, nil
}

// asker speaks with a server before the client does.
type asker struct {
	w         *conn.Wire
	lines     *ftp.LineReader
	keys      Keys
	handshake time.Duration // as long as for the connection: it is some round trips more
}

// begin has the connection encrypted and what comes by it agreed upon, and returns the greeting.
func (a *asker) begin(control *tls.Config, t forward.TLS) (greeting []byte, err error) {
	if t.Server == forward.ServerTLSImplicit {
		if err := a.encrypt(control); err != nil {
			return nil, err
		}
	}
	reply, err := a.reply()
	if err != nil {
		return nil, err
	}
	if reply.Code/100 != 2 {
		return nil, &noTLSError{kind: dialogue.RefusedServer, code: verdict.CodeServerTurnedAway, plain: "the server takes no sessions now",
			remedy: fmt.Sprintf("the server greets with %d: its own log says why", reply.Code)}
	}
	if greeting, err = reply.AppendTo(nil); err != nil {
		return nil, a.lost(err)
	}
	if t.Server == forward.ServerTLSRequired {
		if code, err := a.ask("AUTH TLS"); err != nil {
			return nil, err
		} else if code != 234 {
			return nil, &noTLSError{kind: dialogue.RefusedSecurity, code: verdict.CodeServerNoTLS, plain: "the server does not encrypt its sessions",
				remedy: fmt.Sprintf("the server answers AUTH TLS with %d: switch on its explicit FTPS; one that begins with TLS (port 990) wants tls.server = \"implicit\"", code)}
		}
		if err := a.encrypt(control); err != nil {
			return nil, err
		}
	}
	return greeting, a.protect(t)
}

// protect agrees upon what data connections are.
func (a *asker) protect(t forward.TLS) error {
	prot := "PROT P"
	if t.ServerDataClear {
		prot = "PROT C"
	}
	if _, err := a.ask("PBSZ 0"); err != nil { // a server that does not know it need not know PROT C
		return err
	}
	code, err := a.ask(prot)
	switch {
	case err != nil:
		return err
	case code/100 == 2, t.ServerDataClear && t.Server == forward.ServerTLSRequired && code/10 == 50: // C is how it begins
		return nil
	case t.ServerDataClear:
		return &noTLSError{kind: dialogue.RefusedSecurity, code: verdict.CodeServerTLS, plain: "the server wants its data connections encrypted",
			remedy: fmt.Sprintf("the server answers PROT C with %d: leave server_data = \"clear\" out", code)}
	}
	return &noTLSError{kind: dialogue.RefusedSecurity, code: verdict.CodeServerNoTLS, plain: "the server does not encrypt its data connections",
		remedy: fmt.Sprintf("the server answers PROT P with %d: have it encrypt data, or give the forward server_data = \"clear\"", code)}
}

// encrypt does the handshake. What the server has said in plain text behind its yes is thrown away.
func (a *asker) encrypt(control *tls.Config) error {
	late := time.AfterFunc(a.handshake, func() { _ = a.w.SetDeadline(past) })
	defer late.Stop()
	if err := a.w.Request(control); err != nil {
		plain, remedy := a.keys.Explain(err)
		return &noTLSError{kind: dialogue.RefusedSecurity, code: verdict.CodeServerTLS, plain: "no TLS with the server: " + plain, remedy: remedy, err: err}
	}
	a.lines.Reset(a.w)
	return nil
}

// ask sends a command and returns the code of the answer.
func (a *asker) ask(command string) (code int, err error) {
	if _, err := a.w.Write([]byte(command + "\r\n")); err != nil {
		return 0, a.lost(err)
	}
	reply, err := a.reply()
	return reply.Code, err
}

// reply reads an answer; those that only ask for patience are passed over.
func (a *asker) reply() (ftp.Reply, error) {
	for {
		reply, err := ftp.ReadReply(a.lines, &ftp.ReplyScanner{})
		if err != nil {
			return ftp.Reply{}, a.lost(err)
		}
		if reply.Code/100 != 1 {
			return reply, nil
		}
	}
}

// lost says why a server has no more to say.
func (a *asker) lost(err error) error {
	e := &noTLSError{kind: dialogue.RefusedServer, code: verdict.CodeServerBadReply, plain: "the server's answer is not FTP", err: err,
		remedy: "see what listens there: a server that begins with TLS (port 990) wants tls.server = \"implicit\""}
	remote, refused := errors.AsType[*net.OpError](err)
	switch {
	case refused && remote.Op == "remote error": // TLS 1.3 lets a server refuse our certificate behind the handshake
		plain, remedy := a.keys.Explain(err)
		e.kind, e.code, e.plain, e.remedy = dialogue.RefusedSecurity, verdict.CodeServerTLS, "no TLS with the server: "+plain, remedy
	case timedOut(err):
		e.code, e.plain = verdict.CodeServerSilent, "the server does not answer"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		e.code, e.plain, e.remedy = verdict.CodeServerLeft, "the server has closed the connection", "its own log says why"
	}
	return e
}

// serverLines returns the lines of the server, after those that were read already have been dealt with.
func (s *session) serverLines() *ftp.LineReader {
	o := s.opening
	if o == nil {
		return ftp.NewLineReader(s.server, 0)
	}
	s.opening = nil
	for lines := o.greeting; len(lines) > 0; {
		line, rest, _ := bytes.Cut(lines, []byte("\r\n"))
		if lines = rest; !s.fromServer(line, nil, len(rest) > 0) {
			break
		}
	}
	return o.lines
}
