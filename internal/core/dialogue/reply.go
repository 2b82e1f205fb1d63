package dialogue

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
)

// hiddenFeatures are the extensions that do not work through this gateway: FEAT does not list them
// (RFC 2389 section 3.2). The server's tlsFeatures are listed only where sessions are passed through.
var (
	hiddenFeatures = []string{"ADAT", "CONF", "CPSV", "ENC", "LPRT", "LPSV", "MIC", "SSCN"}
	tlsFeatures    = []string{"AUTH", "CCC", "PBSZ", "PROT"}
)

// maxUnasked is how many replies that nobody asked for may come in a row. Each is a line in the log.
const maxUnasked = 16

// reply takes a server's line.
func (d *Dialogue) reply(s *Step, line ftp.ServerLine) {
	if line.Code == 0 {
		s.end(RefusedAnswer, "the server's answer is not FTP")
		return
	}
	if line.First {
		d.answering = d.match(line.Code)
	}
	if d.answering < 0 {
		d.unaskedReply(s, line)
		return
	}
	d.unasked = 0
	d.serverClosing = line.Code == 221 || line.Code == 421
	r := d.pending[d.answering]
	switch {
	case Negotiates(r.verb) && (d.asked == "PASV" || d.asked == "EPSV"):
		d.passiveReply(s, line)
	case line.Code == 227 || line.Code == 229: // counts as the answer to PASV and EPSV only
		d.misfit(s, r, line)
	case r.verb == "PORT" || r.verb == "EPRT":
		d.activeReply(s, line)
	case r.verb == "FEAT":
		d.features(s, line)
		d.finish(s, r, line)
	case !line.Last && r.transfer && line.Code/100 > 1:
		d.holdBack(line)
	default:
		d.pass(s, line)
		d.finish(s, r, line)
	}
}

// maxHeldBack is how much of a transfer's last reply is kept until it ends, in bytes. The rest is dropped:
// servers write counts and greetings there.
const maxHeldBack = 4 << 10

// holdBack keeps a line until the whole reply is there: Broken may have to replace the reply.
func (d *Dialogue) holdBack(line ftp.ServerLine) {
	if len(d.heldBack)+len(line.Text) < maxHeldBack {
		d.heldBack = appendLine(d.heldBack, line.Text)
	}
}

// match returns the index in pending of the command that a reply with this code answers; -1: none. It is
// the first one, with two exceptions. STAT is answered while a transfer goes on (RFC 959 section 4.1.3).
// And some servers answer ABOR in a transfer with two replies, one for the transfer, others with one only:
// with those, the next reply that does not fit ABOR answers the command after it.
func (d *Dialogue) match(code int) int {
	if len(d.pending) < 2 {
		return len(d.pending) - 1
	}
	switch {
	case d.pending[0].transfer && d.pending[1].verb == "STAT" && 211 <= code && code <= 213:
		return 1
	case d.pending[0].verb == "ABOR" && code != 225 && code != 226 && code/100 < 4:
		d.pending = slices.Delete(d.pending, 0, 1)
	}
	return 0
}

// answered removes the command that the reply under way answers from pending.
func (d *Dialogue) answered() {
	if Negotiates(d.pending[d.answering].verb) {
		d.asked = ""
	}
	d.pending = slices.Delete(d.pending, d.answering, d.answering+1)
}

// unaskedReply drops a reply that answers nothing. Only a 421 may come at any time.
func (d *Dialogue) unaskedReply(s *Step, line ftp.ServerLine) {
	switch {
	case line.Code == 421:
		d.pass(s, line)
		s.End = line.Last
	case !line.Last:
	case d.unasked == maxUnasked:
		s.end(RefusedReply, "the server answers what nobody has asked")
	default:
		d.unasked++
		s.Refusal.Kind, s.Refusal.Reason = RefusedReply, "the server sent a reply that nobody asked for"
	}
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
	s.refuse(RefusedAnswer, 451, "the server's answer does not fit the command")
}

// pass hands a server's line to the client, behind those that were held back.
func (d *Dialogue) pass(s *Step, line ftp.ServerLine) {
	s.ToClient = appendLine(append(s.ToClient, d.heldBack...), line.Text)
	d.heldBack = nil
}

// appendLine appends a server's line, with a question mark for each CR in it: some clients would take a CR
// for the line's end.
func appendLine(to, line []byte) []byte {
	to = slices.Grow(to, len(line)+2)
	begin := len(to)
	to = append(to, line...)
	if passed := to[begin:]; bytes.IndexByte(passed, '\r') >= 0 {
		for i, c := range passed {
			if c == '\r' {
				passed[i] = '?'
			}
		}
	}
	return append(to, '\r', '\n')
}

// hidden reports whether a line of FEAT's reply names an extension that does not work here. Servers write a
// feature with one space in front, with none, and behind the code; some on the first or the last line.
func (d *Dialogue) hidden(text []byte) bool {
	line := text
	if bytes.HasPrefix(text, []byte("211 ")) || bytes.HasPrefix(text, []byte("211-")) {
		line = text[len("211 "):]
	}
	name, _, _ := bytes.Cut(bytes.TrimLeft(line, " "), []byte{' '})
	word := strings.ToUpper(string(name))
	return slices.Contains(hiddenFeatures, word) || !d.passesThrough() && slices.Contains(tlsFeatures, word)
}

// finish takes the end of a reply that was passed on: what it means for the session.
func (d *Dialogue) finish(s *Step, r request, line ftp.ServerLine) {
	if !line.Last {
		return
	}
	code := line.Code
	if code/100 == 1 {
		d.pending[d.answering].started = true
		if d.dataReady && !d.bridged && (code == 125 || code == 150) { // a command not listed in transfers
			d.pending[d.answering].transfer = true
			d.useData(s)
		}
		return
	}
	d.answered()
	switch {
	case r.transfer && code/100 == 2:
		s.Action = Finish
	case r.transfer:
		s.Action = Fail
	case r.verb == greeting:
		if s.End = code/100 != 2; s.End {
			s.Refusal.Code = verdict.CodeServerTurnedAway
		}
	case r.verb == "USER" || r.verb == "PASS" || r.verb == "ACCT":
		d.login(s, r, code)
	case r.verb == "REIN" && code/100 == 2: // RFC 959 section 4.1.1: as after the connection was made
		d.reinit(s)
	case r.verb == "AUTH":
		d.authReply(s, code)
	case r.verb == "QUIT":
		s.End = code/100 == 2
	}
}

// login takes the answer to USER, PASS or ACCT.
func (d *Dialogue) login(s *Step, r request, code int) {
	if r.verb == "USER" && code/100 < 4 { // a server that refuses USER keeps the one before
		d.claimed = r.user
	}
	switch {
	case code/100 == 2:
		d.loggedIn, d.user = true, d.claimed
	case code/100 == 3:
		if r.verb == "USER" { // RFC 959 section 4.1.1: it ends the login before
			d.loggedIn = false
		}
	case code == 421 || code/10 == 50: // the server did not try the password
	default:
		if r.verb == "PASS" {
			d.loggedIn = false
		}
		d.failures++
		s.FailedLogins = d.failures
		s.Refusal.Kind, s.Refusal.Reason = RefusedLogin, "login failed"
		if d.failures >= d.config.LoginFailures {
			s.end(RefusedLogin, "too many failed logins")
		}
	}
}

// passiveReply takes a line of the answer to PASV or EPSV. It passes nothing on before the whole reply is
// there: servers put the numbers on the first line or on the last.
func (d *Dialogue) passiveReply(s *Step, line ftp.ServerLine) {
	if line.First || line.Last {
		if port := passivePort(line); port != 0 {
			d.offeredPort = port
		}
	}
	code := line.Code
	switch {
	case !line.Last:
	case code/100 == 1: // not allowed here, and of no use to the client
		d.offeredPort = 0
	case code/100 == 5 && code != 530 && !d.retried && d.addrs.Server.Is4() && !d.raw64:
		d.askOtherwise(s)
	default:
		d.passiveAnswered(s, line)
	}
}

// passiveAnswered takes the end of the answer to PASV or EPSV.
func (d *Dialogue) passiveAnswered(s *Step, line ftp.ServerLine) {
	r := d.pending[d.answering]
	switch {
	case line.Code/100 > 2:
		d.answered()
		d.pass(s, line)
		s.Refusal.Code = verdict.CodeServerRefusedPASV
	case d.offeredPort == 0:
		d.answered()
		s.refuse(RefusedAnswer, 425, "the server's answer names no port")
	case d.offeredPort < forward.LowestDataPort:
		d.answered()
		s.refuse(RefusedPort, 425, "the server offers port %d: data connections go to ports from %d on only",
			d.offeredPort, forward.LowestDataPort)
		s.Refusal.Code = verdict.CodeServerLowPort
	case r.verb == "PORT" || r.verb == "EPRT":
		d.agree()
		d.bridged = true
		d.bridge = pinhole.Bridge{
			Client: pinhole.Leg{SourceIP: d.addrs.Gateway, Target: d.target},
			Server: pinhole.Leg{SourceIP: d.addrs.Outside, Target: d.offered()},

			TLS: d.legs(),
		}
		s.say(200, "%s command successful", r.verb)
	default:
		s.Action = Open
		s.Pinhole = pinhole.Pinhole{
			From:     d.addrs.Client,
			Listen:   netip.AddrPortFrom(d.addrs.Gateway, 0),
			Target:   d.offered(),
			SourceIP: d.addrs.Outside,

			TLS: d.legs(),
		}
	}
}

// offered is where the server listens for the data connection.
func (d *Dialogue) offered() netip.AddrPort { return netip.AddrPortFrom(d.addrs.Server, d.offeredPort) }

// passivePort returns the port that a 227 or 229 names; 0: none. It ignores the address in a 227: servers
// name private and foreign addresses, and hostile ones a victim's.
func passivePort(line ftp.ServerLine) uint16 {
	if len(line.Text) < 4 {
		return 0
	}
	switch line.Code {
	case 227:
		if ap, err := ftp.Parse227(line.Text[4:]); err == nil {
			return ap.Port()
		}
	case 229:
		if port, err := ftp.Parse229(line.Text[4:]); err == nil {
			return port
		}
	}
	return 0
}

// askOtherwise sends PASV to a server that does not know EPSV, and EPSV to one that does not know PASV.
func (d *Dialogue) askOtherwise(s *Step) {
	d.retried, d.offeredPort = true, 0
	if d.asked == "PASV" {
		d.asked = "EPSV"
	} else {
		d.asked = "PASV"
	}
	s.ask(ftp.Command{Verb: d.asked})
}

// activeReply takes a line of the answer to PORT or EPRT.
func (d *Dialogue) activeReply(s *Step, line ftp.ServerLine) {
	code := line.Code
	if !line.Last || code/100 == 1 {
		return
	}
	if code/100 == 5 && code != 530 && d.asked == "EPRT" && d.addrs.Server.Is4() && !d.raw64 {
		d.asked, d.retried = "PORT", true
		d.sendPort(s)
		return
	}
	verb := d.pending[d.answering].verb
	d.answered()
	if code/100 != 2 {
		d.drop(s)
		d.pass(s, line)
		s.Refusal.Code = verdict.CodeServerRefusedPORT
		return
	}
	d.noEPRT = d.noEPRT || d.retried
	d.dataReady = true
	s.Action = Arm
	s.say(200, "%s command successful", verb)
}
