package dialogue

import (
	"bytes"
	"slices"
	"strings"

	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/verdict"
)

// hiddenFeatures are the extensions that do not work through this gateway: FEAT does not list them
// (RFC 2389 section 3.2). The server's tlsFeatures are listed only where sessions are passed through.
var (
	hiddenFeatures = []string{"ADAT", "CONF", "CPSV", "ENC", "LPRT", "LPSV", "MIC", "SSCN"}
	tlsFeatures    = []string{"AUTH", "CCC", "PBSZ", "PROT"}
)

// maxUnexpected is how many unsolicited replies in a row are accepted. Each is a line in the log.
const maxUnexpected = 16

// reply handles a server's line.
func (d *Dialogue) reply(s *Step, line ftp.ServerLine) {
	if line.Code == 0 {
		d.lineWithoutCode(s, line)
		return
	}
	d.codeless = 0
	if line.First {
		d.held.partlySent = false
		d.queue.begin(line.Code)
	}
	answering := d.queue.answering()
	if answering == nil {
		d.unexpectedReply(s, line)
		return
	}
	d.unexpected = 0
	d.serverClosing = line.Code == 221 || line.Code == 421
	r := *answering
	switch {
	case d.introduces(s, r, line):
	case Negotiates(r.verb) && (d.sentVerb == "PASV" || d.sentVerb == "EPSV"):
		d.passiveReply(s, line)
	case line.Code == 227 || line.Code == 229: // counts as the answer to PASV and EPSV only
		d.misfit(s, r, line)
	case r.verb == "PORT" || r.verb == "EPRT":
		d.activeReply(s, line)
	case r.verb == "FEAT":
		d.features(s, line)
		d.replyEnds(s, r, line)
	case !line.Last && r.transfer && line.Code/100 > 1:
		d.holdBack(s, line)
	default:
		d.pass(s, line)
		d.replyEnds(s, r, line)
	}
	if line.Last {
		d.held.lines = nil
	}
}

// answered removes the command that the reply under way answers.
func (d *Dialogue) answered() {
	if r := d.queue.answering(); r != nil && Negotiates(r.verb) {
		d.sentVerb = ""
	}
	d.queue.answered()
}

// unexpectedReply drops an unsolicited reply, which would be taken for the answer to the next command. A
// 421 is valid at any time: the server is about to close. After the client's last command any reply may
// say goodbye: pure-ftpd answers the end of the connection with the last code again, such as "230 Logout."
func (d *Dialogue) unexpectedReply(s *Step, line ftp.ServerLine) {
	goodbye := d.clientEnded && !namesPort(line)
	if line.Code == 421 || goodbye {
		d.serverClosing = true
		d.pass(s, line)
	}
	switch {
	case !line.Last:
	case d.unexpected == maxUnexpected:
		s.end(verdict.RefusedUnaskedReply, "the server sent too many unexpected replies")
	case line.Code == 421, goodbye:
		d.unexpected++
	default:
		d.unexpected++
		s.Refusal.Kind, s.Refusal.Reason = verdict.RefusedUnaskedReply,
			"the server sent an unsolicited reply"
	}
}

// namesPort reports whether a line may name a port for data, as a 227 or 229 does.
func namesPort(line ftp.ServerLine) bool {
	return (line.Code == 227 || line.Code == 229) && bytes.ContainsAny(line.Text[len("227"):], "0123456789")
}

// misfit refuses a 227 or 229 that answers another command.
func (d *Dialogue) misfit(s *Step, r request, line ftp.ServerLine) {
	if !line.Last {
		return
	}
	d.answered()
	if r.transfer || Negotiates(r.verb) {
		d.drop(s)
	}
	s.refuse(verdict.RefusedBadReply, 451, "the server's answer does not fit the command")
}

// pass forwards a server's line to the client, after the lines that were held back.
func (d *Dialogue) pass(s *Step, line ftp.ServerLine) {
	s.ToClient = appendLine(append(s.ToClient, d.held.lines...), line)
	d.held.lines = nil
}

// appendLine appends a server's line, with a question mark for each CR in it: some clients would take a CR
// for the line's end. A line within a reply that resembles a 227 or a 229 gets a leading space (RFC 959
// section 4.2): some clients see the reply's end too early, and would take the line for the answer to the
// next PASV.
func appendLine(to []byte, line ftp.ServerLine) []byte {
	to = slices.Grow(to, len(line.Text)+3)
	if !line.First && !line.Last && (bytes.HasPrefix(line.Text, []byte("227")) ||
		bytes.HasPrefix(line.Text, []byte("229"))) {
		to = append(to, ' ')
	}
	begin := len(to)
	to = append(to, line.Text...)
	if passed := to[begin:]; bytes.IndexByte(passed, '\r') >= 0 {
		for i, c := range passed {
			if c == '\r' {
				passed[i] = '?'
			}
		}
	}
	return endLine(to, line.Ending)
}

// endLine ends a line as the server ended it, and a line that the end of the stream cut off with CR LF.
func endLine(to []byte, ending ftp.Ending) []byte {
	if ending == ftp.EndLF {
		return append(to, '\n')
	}
	return append(to, '\r', '\n')
}

// hidden reports whether a line of FEAT's reply names an extension that does not work here. Servers write a
// feature with one leading space, with none, or after the code; some on the first or the last line.
func (d *Dialogue) hidden(text []byte) bool {
	line := text
	if bytes.HasPrefix(text, []byte("211 ")) || bytes.HasPrefix(text, []byte("211-")) {
		line = text[len("211 "):]
	}
	name, _, _ := bytes.Cut(bytes.TrimLeft(line, " "), []byte{' '})
	word := strings.ToUpper(string(name))
	return slices.Contains(hiddenFeatures, word) || !d.passesThrough() && slices.Contains(tlsFeatures, word)
}

// replyEnds applies a complete reply to the session.
func (d *Dialogue) replyEnds(s *Step, r request, line ftp.ServerLine) {
	switch {
	case !line.Last:
		return
	case line.Code/100 == 1:
		d.preliminary(s, line.Code)
		return
	}
	code := line.Code
	d.answered()
	switch {
	case r.transfer:
		d.transferEnds(s, r, code)
	case r.verb == greeting:
		d.greeted(s, code)
	case isLogin(r.verb):
		d.login(s, r, code)
	case r.verb == "REIN" && code/100 == 2: // RFC 959 section 4.1.1: as after the connection was made
		d.reinit(s)
	case r.verb == "AUTH":
		d.authReply(s, code)
	case r.verb == "QUIT" && code/100 == 2:
		d.quit = true
	case r.verb == "ABOR" && r.ignorable && !d.InTransfer() && d.queue.negotiation() == nil:
		d.drop(s) // what was negotiated before it
	}
	if d.InTransfer() && d.queue.abortBefore(r) && !r.transfer && r.verb != "QUIT" {
		d.abandonTransfer(s)
	}
	if d.quit && !d.queue.awaits() {
		s.End = true
	}
}

// preliminary handles a 1yz: a transfer starts, or another command may get a further reply.
func (d *Dialogue) preliminary(s *Step, code int) {
	r := d.queue.answering()
	switch {
	case r.transfer && r.started && r.aborted: // pure-ftpd's last reply if a client ends the data itself
		d.abandonTransfer(s)
	case r.transfer:
		r.started = true
	case d.dataReady && d.bridge == nil && (code == 125 || code == 150): // a command not listed in transfers
		r.transfer, r.started, s.TransferBegan = true, true, true
		d.useData(s, r)
	case !binding(r.verb):
		r.optional = true
	}
}

// abandonTransfer ends a transfer and its ABOR if the server may send no further reply to them.
func (d *Dialogue) abandonTransfer(s *Step) {
	d.queue.abandonTransfer()
	s.Aborted, s.Action = true, Fail
}

// transferEnds handles the last reply of a transfer. If the server refused the command, the next one may use
// the negotiated data connection, unless that is the reason. The reply that a download is complete waits
// until it is delivered, unless the client awaits other replies after it, or the server sent no 1yz.
func (d *Dialogue) transferEnds(s *Step, r request, code int) {
	s.Aborted = r.aborted
	switch {
	case code/100 > 3 && r.hasData && !r.started && !r.aborted && !dataRefused(code):
		s.Action = Decline
		d.dataReady = true
	case code/100 != 2:
		s.Action, s.DataRefused = Fail, dataRefused(code)
	case !r.started, r.aborted, ftp.IsUpload(r.verb), d.queue.awaits():
		s.Action = Complete
	default:
		s.Action = Finish
	}
}

// greeted handles the server's greeting. A server may accept the client with it, without a login.
func (d *Dialogue) greeted(s *Step, code int) {
	d.loggedIn = code == 230
	if s.End = code/100 != 2; s.End {
		s.Refusal = verdict.Refusal{Kind: verdict.RefusedUnreachable, Code: verdict.CodeServerTurnedAway,
			Reason: NoSessionsNow}
	}
}

// login handles the answer to USER, PASS or ACCT.
func (d *Dialogue) login(s *Step, r request, code int) {
	if r.verb == "USER" && code/100 < 4 { // a server that refuses USER keeps the previous login
		d.pendingUser = r.user
	}
	switch {
	// a command that the server knows and the gateway does not
	case r.glued && code/100 == 2 && code/10 != 23:
	case code/100 == 2:
		d.loggedIn, d.user = true, d.pendingUser
	case code/100 == 3:
		if r.verb == "USER" { // RFC 959 section 4.1.1: it ends the previous login
			d.loggedIn = false
		}
	case code == 421 || code/10 == 50 && !d.queue.forgot: // the server did not try the password
	case r.verb == "USER" && d.loggedIn: // "Can't change from guest user": the login stays as it is
	default:
		if r.verb == "PASS" {
			d.loggedIn = false
		}
		d.failures++
		s.FailedLogins, s.FailedUser = d.failures, d.pendingUser
		if r.verb == "USER" {
			s.FailedUser = r.user
		}
		s.Refusal.Kind, s.Refusal.Reason = verdict.RefusedLogin, "login failed"
		if d.failures >= d.config.LoginFailures {
			s.end(verdict.RefusedLogin, "too many failed logins")
		}
	}
}

// activeReply handles a line of the answer to PORT or EPRT.
func (d *Dialogue) activeReply(s *Step, line ftp.ServerLine) {
	code := line.Code
	switch {
	case !line.Last:
		d.hold(line)
		return
	case code/100 == 1:
		return
	}
	if code/100 == 5 && code != 530 && d.sentVerb == "EPRT" && d.addrs.Server.Is4() && !d.raw64 &&
		!d.epsvAll {
		d.sentVerb, d.retried = "PORT", true
		d.sendPort(s)
		return
	}
	verb := d.queue.answering().verb
	same := verb == d.sentVerb && d.addrs.oneFamily() // the server answers the client's own command
	asked := d.sentVerb != ""                         // the client has named an address
	d.answered()
	if !asked {
		d.pass(s, line)
		return
	}
	if code/100 != 2 {
		d.drop(s)
		d.pass(s, line)
		s.Refusal.Code = verdict.CodeServerRefusedPORT
		return
	}
	d.noEPRT = d.noEPRT || d.retried
	d.dataReady = true
	s.Action = Arm
	d.serveWaiting(s)
	if same {
		d.pass(s, line)
		return
	}
	s.say(200, "%s command successful", verb)
}
