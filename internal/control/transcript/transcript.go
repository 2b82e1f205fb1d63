// Package transcript records a session's commands, replies and transfers, without secrets.
package transcript

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/observe/sessions"
)

// Transcript is that of one session. It is not safe for use by several goroutines at once.
type Transcript struct {
	record   *sessions.Record
	commands int        // number sent by the client
	open     []exchange // the commands that await a reply, in order
	last     exchange   // that of the last line from either side
	reply    string     // the server's last one, without secrets
	mode     string     // of the last negotiation: "PASV", "EPSV", "PORT" or "EPRT"
}

// maxOpen is how many commands may await a reply; older ones are forgotten.
const maxOpen = 32

// New returns the transcript of a session; a nil record keeps nothing.
func New(record *sessions.Record) Transcript { return Transcript{record: record} }

// Verb returns the verb of the client's command that the last line belongs to; "": not a known one.
func (t *Transcript) Verb() string { return t.last.verb }

// ServerReply returns the server's last reply, without secrets.
func (t *Transcript) ServerReply() string { return t.reply }

// exchange is a command and its answer, without secrets.
type exchange struct {
	number      int    // of the client's commands; 0: the server's greeting
	verb        string // if it is a known one
	arg         string // of USER, TYPE and transfers
	secret      string // the argument of PASS or ACCT, until it is answered: a reply may repeat it
	redactReply bool   // the answer's text may be a secret, too
}

// knownVerbs are the verbs of the RFCs (RFC 5797 section 3), sorted. Logs and records name no others.
var knownVerbs = []string{
	"ABOR", "ACCT", "ADAT", "ALGS", "ALLO", "APPE", "AUTH", "CCC", "CDUP", "CONF", "CWD", "DELE", "ENC",
	"EPRT", "EPSV", "FEAT", "HELP", "HOST", "LANG", "LIST", "LPRT", "LPSV", "MDTM", "MIC", "MKD", "MLSD",
	"MLST", "MODE", "NLST", "NOOP", "OPTS", "PASS", "PASV", "PBSZ", "PORT", "PROT", "PWD", "QUIT", "REIN",
	"REST", "RETR", "RMD", "RNFR", "RNTO", "SITE", "SIZE", "SMNT", "STAT", "STOR", "STOU", "STRU", "SYST",
	"TYPE", "USER", "XCUP", "XCWD", "XMKD", "XPWD", "XRMD",
}

// Known reports whether an RFC defines a verb.
func Known(verb string) bool {
	_, found := slices.BinarySearch(knownVerbs, verb)
	return found
}

// Command records what the client sent.
func (t *Transcript) Command(at time.Time, line ftp.ClientLine) {
	if t.record == nil {
		return
	}
	t.commands++
	t.last = exchange{number: t.commands}
	t.recordCommand(at, line)
	if len(t.open) == maxOpen {
		t.open = slices.Delete(t.open, 0, 1)
	}
	t.open = append(t.open, t.last)
}

// recordCommand records what the client sent, and notes in last what a reply to it may repeat.
func (t *Transcript) recordCommand(at time.Time, line ftp.ClientLine) {
	c := line.Command
	if Known(c.Verb) {
		t.last.verb = c.Verb
	}
	if dialogue.Negotiates(c.Verb) {
		t.mode = c.Verb
	}
	switch {
	case line.Blank():
		t.record.Command(at, "(a blank line)")
	case c.Verb == "":
		t.last.redactReply = true
		t.record.Command(at, "(no command)")
	case t.last.verb == "":
		t.last.redactReply = true
		t.record.Command(at, "(unknown command)")
	case len(c.Arg) == 0:
		t.record.Command(at, c.Verb)
	case c.Verb == "PASS" || c.Verb == "ACCT":
		t.last.secret = string(c.Arg)
		t.record.Command(at, c.Verb+" (not shown)")
	case ftp.HidesArgument(c.Verb):
		t.last.redactReply = true
		t.record.Command(at, c.Verb+" (not shown)")
	default:
		text := string(line.Text)
		t.last.arg = text[len(text)-len(c.Arg):]
		t.record.Command(at, text)
		if c.Verb == "USER" {
			t.record.User(t.last.arg)
		}
	}
}

// CommandStep records the dialogue's step for a client's command.
func (t *Transcript) CommandStep(at time.Time, line ftp.ClientLine, step dialogue.Step) {
	if t.record == nil {
		return
	}
	if step.TransferBegan {
		t.record.TransferStarted(at, t.last.verb, t.last.arg)
	}
	if len(step.ToClient) > 0 {
		t.record.Answer(validText(firstLine(step.ToClient)))
	}
	if len(step.ToServer) == 0 { // the gateway answered it
		t.answered()
	}
	asked := bytes.TrimRight(step.ToServer, "\r\n")
	if len(asked) > 0 && dialogue.Negotiates(t.last.verb) && !bytes.Equal(asked, line.Text) {
		t.record.Ask(validText(asked))
	}
}

// Reply records a line of the server's: of a reply with several, the first and the last one. command is the
// number of the client's command that it answers.
func (t *Transcript) Reply(at time.Time, line ftp.ServerLine, command int) {
	switch {
	case t.record == nil, line.Code != 0 && !line.First && !line.Last:
		return
	case line.Code == 0: // it may repeat anything
		t.record.Reply(at, "(a line without a code)", true)
		return
	}
	if i := slices.IndexFunc(t.open, func(e exchange) bool { return e.number == command }); i >= 0 {
		t.last = t.open[i]
	}
	t.reply = t.redacted(line.Text)
	t.record.Reply(at, t.reply, !line.Last)
	if line.Last && line.Code/100 != 1 {
		t.record.Answered(t.last.verb, t.reply)
		t.answered()
	}
}

// answered removes the command of the last line: its replies are complete.
func (t *Transcript) answered() {
	t.open = slices.DeleteFunc(t.open, func(e exchange) bool { return e.number == t.last.number })
}

// redacted returns a reply's line without secrets: it removes a password that the line repeats, and the whole
// text of an answer to an unknown command, which may have been a password.
func (t *Transcript) redacted(line []byte) string {
	if t.last.redactReply {
		return string(line[:3]) + " (not shown)"
	}
	text := t.last.withoutSecret(validText(line))
	for _, e := range t.open { // which one the reply answers may be a guess
		text = e.withoutSecret(text)
	}
	return text
}

// withoutSecret returns a text without the command's secret.
func (e exchange) withoutSecret(text string) string {
	if e.secret == "" {
		return text
	}
	return strings.ReplaceAll(text, e.secret, "(not shown)")
}

// Login records that the server accepted the login, or ended it.
func (t *Transcript) Login(in bool) { t.record.Login(in) }

// ReplyStep records the dialogue's step for a server's line.
func (t *Transcript) ReplyStep(at time.Time, line ftp.ServerLine, step dialogue.Step) {
	if t.record == nil {
		return
	}
	if step.TransferBegan { // by a command that this package does not know
		t.record.TransferStarted(at, "(unknown command)", "")
	}
	if len(step.ToServer) > 0 {
		t.record.Ask(t.replayed(firstLine(step.ToServer)))
	}
	ours := step.Refusal.Kind != verdict.NotRefused || dialogue.Negotiates(t.last.verb)
	if ours && len(step.ToClient) > 0 && !bytes.Equal(lastLine(step.ToClient), line.Text) {
		t.record.Answer(t.redacted(firstLine(step.ToClient)))
	}
	if t.last.verb == "TYPE" && line.Code/100 == 2 && t.last.arg != "" {
		t.record.Type(strings.ToUpper(t.last.arg[:1]))
	}
}

// replayed returns a command that the server is sent after its reply, without its secret: a client that
// chooses its server may have sent the password before.
func (t *Transcript) replayed(line []byte) string {
	c, err := ftp.ParseCommand(line)
	if err != nil || !ftp.HidesArgument(c.Verb) {
		return validText(line)
	}
	t.last.secret = string(c.Arg)
	return c.Verb + " (not shown)"
}

// firstLine returns the first of some lines, without its ending.
func firstLine(lines []byte) []byte {
	line, _, _ := bytes.Cut(lines, []byte("\r\n"))
	return line
}

// lastLine returns the last of some lines, without its ending.
func lastLine(lines []byte) []byte {
	lines = bytes.TrimSuffix(lines, []byte("\r\n"))
	return lines[bytes.LastIndexByte(lines, '\n')+1:]
}

// validText returns a line as a string, with "?" for bytes that are not UTF-8. It keeps control characters.
func validText(line []byte) string {
	if utf8.Valid(line) {
		return string(line)
	}
	return strings.ToValidUTF8(string(line), "?")
}

// Opened records a pinhole.
func (t *Transcript) Opened(at time.Time, data dataplane.Data, p pinhole.Pinhole) {
	t.negotiated(at, data, p.TLS, sessions.Data{
		From: p.From, Listen: p.Listen, Target: p.Target, SourceIP: p.SourceIP,
		Active: p.Active, Named: t.otherHost(p),
	})
}

// otherHost returns the host that the server's 227 names if it differs from the target of a passive pinhole;
// else an invalid address.
func (t *Transcript) otherHost(p pinhole.Pinhole) netip.Addr {
	text, is227 := strings.CutPrefix(t.reply, "227")
	if !is227 || p.Active {
		return netip.Addr{}
	}
	named, err := ftp.Parse227([]byte(text))
	if err != nil || named.Addr() == p.Target.Addr() {
		return netip.Addr{}
	}
	return named.Addr()
}

// Bridged records a data connection for which the gateway connects to both ends.
func (t *Transcript) Bridged(at time.Time, data dataplane.Data, b pinhole.Bridge) {
	t.negotiated(at, data, b.TLS, sessions.Data{
		From: b.Client.Target.Addr(), Target: b.Server.Target, SourceIP: b.Server.SourceIP,
	})
}

// negotiated records a data connection, with TLS on these legs.
func (t *Transcript) negotiated(at time.Time, data dataplane.Data, on pinhole.TLSLegs, d sessions.Data) {
	if t.record == nil {
		return
	}
	d.Mode = t.mode
	if on.Client {
		d.TLS.Client = "TLS"
	}
	if on.Server {
		d.TLS.Server = "TLS"
	}
	d.Path, d.Meter = data.Outcome().Path.String(), data
	t.record.Opened(d, at)
}

// Declined records that the server refused a transfer's command, and left the data connection for the next.
func (t *Transcript) Declined() { t.record.TransferDeclined(t.reply) }

// Finished records how a transfer ended. why is the reason if it is incomplete; nil: the server's reply says
// it.
func (t *Transcript) Finished(complete bool, why *verdict.Fault) {
	t.record.TransferFinished(complete, t.reply, why)
}
