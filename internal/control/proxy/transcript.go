package proxy

import (
	"bytes"
	"errors"
	"strings"
	"unicode/utf8"

	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/observe/sessions"
)

// meter has the journal see what comes through a data connection.
type meter struct{ dataplane.Data }

// Progress returns what has come through so far, after Close too.
func (m meter) Progress() sessions.Progress {
	o := m.Outcome()
	p := sessions.Progress{Connected: o.Connected, Up: o.Up, Down: o.Down, Over: o.Over, Stranger: o.Stranger}
	if o.Failure != nil && o.Failure.Fault.Code != "" {
		p.Fault = &o.Failure.Fault
	}
	return p
}

// codes are what refusals mostly are.
var codes = [dialogue.Refusals]verdict.Code{
	dialogue.RefusedClient:   verdict.CodeClientNotAllowed,
	dialogue.RefusedLimit:    verdict.CodeTooMany,
	dialogue.RefusedDrain:    verdict.CodeShutDown,
	dialogue.RefusedServer:   verdict.CodeServerUnreachable,
	dialogue.RefusedTime:     verdict.CodeIdle,
	dialogue.RefusedLine:     verdict.CodeClientLine,
	dialogue.RefusedLogin:    verdict.CodeLogin,
	dialogue.RefusedEarly:    verdict.CodeNotLoggedIn,
	dialogue.RefusedCommand:  verdict.CodeCommand,
	dialogue.RefusedSecurity: verdict.CodeTLSOther,
	dialogue.RefusedFamily:   verdict.CodeFamily,
	dialogue.RefusedAddress:  verdict.CodeThirdParty,
	dialogue.RefusedPort:     verdict.CodeLowPort,
	dialogue.RefusedReply:    verdict.CodeServerUnasked,
	dialogue.RefusedAnswer:   verdict.CodeServerBadReply,
	dialogue.RefusedNoPort:   verdict.CodeNoPath,
	dialogue.RefusedTransfer: verdict.CodeDataReset,
}

// fault is a refusal as the journal has it.
func (s *session) fault(kind dialogue.Refusal, code verdict.Code, reason, remedy string, err error) verdict.Fault {
	f := verdict.Fault{Code: code, Verb: s.said.verb, Said: reason, Peer: remote(s.client), Remedy: remedy,
		Fatal: s.ended || s.dialogue.LastStep.End}
	if err != nil {
		f.Err = err.Error()
	}
	known := failureOf(err).Fault
	switch {
	case known.Code != "":
		f.Code = known.Code
		if known.At.IsValid() {
			f.At = known.At
		}
		f.Err = known.Err
	case f.Code == "":
		f.Code = codes[kind]
	}
	if f.Code == verdict.CodeLogin && !f.Fatal {
		f.Said = s.said.reply
	}
	return f
}

// said is what was said last, as far as it may be told.
type said struct {
	verb   string // of the client's last command, if it is a known one
	arg    string // of USER, TYPE and transfers
	secret []byte // of PASS and ACCT, while it is not answered: no reply may repeat it
	shy    bool   // the words of the answer may be a secret, too
	reply  string // the server's last
	inside bool   // the server's reply under way has begun
	mode   string // of the last negotiation: "PASV", "EPSV", "PORT" or "EPRT"
}

// argumentIsTold tells whether the argument of a known command may be told. That of others may be a secret: SITE's
// for changing a password.
func argumentIsTold(verb string) bool {
	switch verb {
	case "PASS", "ACCT", "ADAT", "SITE", "CONF", "ENC", "MIC":
		return false
	}
	return true
}

// tellCommand tells the journal what the client has sent.
func (s *session) tellCommand(line []byte) {
	if s.record == nil {
		return
	}
	_, text := ftp.CutTelnet(line)
	c, err := ftp.ParseCommand(text)
	s.said = said{mode: s.said.mode}
	switch {
	case err != nil:
		s.said.shy = true
		s.record.Command(s.lastLine, "(no command)")
		return
	case !dialogue.Known(c.Verb):
		s.said.shy = true
		s.record.Command(s.lastLine, "(unknown command)")
		return
	}
	if s.said.verb = c.Verb; dialogue.Negotiates(c.Verb) {
		s.said.mode = c.Verb
	}
	if len(c.Arg) == 0 {
		s.record.Command(s.lastLine, c.Verb)
		return
	}
	if !argumentIsTold(c.Verb) {
		if c.Verb == "PASS" || c.Verb == "ACCT" {
			s.said.secret = bytes.Clone(c.Arg)
		} else {
			s.said.shy = true
		}
		s.record.Command(s.lastLine, c.Verb+" (not shown)")
		return
	}
	shown := string(text)
	s.said.arg = shown[len(shown)-len(c.Arg):]
	s.record.Command(s.lastLine, shown)
	if c.Verb == "USER" {
		s.record.User(s.said.arg)
	}
}

// tellStep tells the journal what a client's command has led to.
func (s *session) tellStep(line []byte, busy bool) {
	step := &s.dialogue.LastStep
	if s.record == nil {
		return
	}
	if !busy && s.dialogue.Busy() {
		s.record.Begins(s.lastLine, s.said.verb, s.said.arg)
	}
	if len(step.ToClient) > 0 {
		s.record.Answer(firstLine(step.ToClient))
	}
	if len(step.ToServer) > 0 && dialogue.Negotiates(s.said.verb) && !bytes.Equal(bytes.TrimRight(step.ToServer, "\r\n"), line) {
		s.record.Ask(firstLine(step.ToServer))
	}
}

// tellReply tells the journal what the server has said: of an answer in many lines the first and the last.
func (s *session) tellReply(line []byte) {
	if s.record == nil {
		return
	}
	first := !s.said.inside
	last := first && dialogue.IsReply(line) && (len(line) < 4 || line[3] != '-') || !first && s.dialogue.Scan.Code() == 0
	s.said.inside = !last
	if !first && !last {
		return
	}
	s.said.reply = s.shown(line)
	s.record.Reply(s.lastLine, s.said.reply, !last)
}

// shown is a reply without what may be a secret: the password that it repeats, and all words of an answer to
// what is no known command, which may have been one.
func (s *session) shown(line []byte) string {
	switch {
	case !dialogue.IsReply(line):
		return "(a line that is no reply)"
	case s.said.shy:
		return string(line[:3]) + " (not shown)"
	}
	text := printable(line)
	if secret := string(s.said.secret); secret != "" {
		text = strings.ReplaceAll(text, secret, "(not shown)")
	}
	return text
}

// tellAnswered tells the journal what a server's line has led to.
func (s *session) tellAnswered(line []byte, busy, loggedIn bool) {
	if s.record == nil {
		return
	}
	d := s.dialogue
	if !busy && d.Busy() { // a command that is not known here
		s.record.Begins(s.lastLine, "(unknown command)", "")
	}
	if loggedIn != d.LoggedIn {
		s.record.Login(d.LoggedIn)
	}
	step := &d.LastStep
	if len(step.ToServer) > 0 {
		s.record.Ask(firstLine(step.ToServer))
	}
	if len(step.ToClient) > 0 && (step.Refused != dialogue.NotRefused || dialogue.Negotiates(s.said.verb)) && !bytes.Equal(bytes.TrimRight(step.ToClient, "\r\n"), line) {
		s.record.Answer(s.shown(lineOf(step.ToClient)))
	}
	if s.said.verb == "TYPE" && len(line) > 0 && line[0] == '2' && s.said.arg != "" {
		s.record.Type(strings.ToUpper(s.said.arg[:1]))
	}
}

// firstLine is the first line of what is sent, as a text.
func firstLine(text []byte) string { return printable(lineOf(text)) }

// lineOf is the first line of what is sent.
func lineOf(text []byte) []byte {
	line, _, _ := bytes.Cut(text, []byte("\r\n"))
	return line
}

// printable is a line as a text, whatever a peer has put into it.
func printable(line []byte) string {
	if utf8.Valid(line) {
		return string(line)
	}
	return strings.ToValidUTF8(string(line), "?")
}

// tellOpened tells the journal of a pinhole or a bridge.
func (s *session) tellOpened(action dialogue.Action, hole pinhole.Pinhole, bridge pinhole.Bridge) {
	if s.record == nil {
		return
	}
	d := sessions.Data{Mode: s.said.mode, From: hole.From, At: hole.At, To: hole.To, As: hole.As, Active: hole.Active}
	on := hole.Encrypted
	if action == dialogue.Join {
		d = sessions.Data{Mode: s.said.mode, From: bridge.Client.To.Addr(), To: bridge.Server.To, As: bridge.Server.As}
		on = bridge.Encrypted
	}
	if on.Client {
		d.TLS.Client = "TLS"
	}
	if on.Server {
		d.TLS.Server = "TLS"
	}
	o := s.data.Outcome()
	if d.Path = o.Path.String(); o.Counted {
		d.Meter = meter{s.data}
	}
	s.record.Opened(d, s.lastLine)
}

// tellFinished tells the journal how a transfer has ended; err is what the data path has to say of it.
func (s *session) tellFinished(complete bool, err error) {
	if s.record == nil {
		return
	}
	var why *verdict.Fault
	switch {
	case complete:
	case errors.Is(err, errAborted), s.said.verb == "ABOR":
		why = &verdict.Fault{Code: verdict.CodeAborted}
	case err == errNotResumed:
		why = &verdict.Fault{Code: verdict.CodeServerReuse, Said: s.dialogue.LastStep.Reason, Remedy: s.dialogue.LastStep.Remedy}
	case err != nil:
		words := failureOf(err)
		f := s.fault(dialogue.RefusedTransfer, "", words.ReplyText, words.Remedy, err)
		f.Verb, f.Fatal = "", false
		why = &f
	}
	s.record.Finishes(complete, s.said.reply, why)
}
