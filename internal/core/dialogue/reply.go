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
// (RFC 2389 section 3.2). tlsFeatures are the server's only where sessions are passed through.
var (
	hiddenFeatures = []string{"ADAT", "CONF", "CPSV", "ENC", "LPRT", "LPSV", "MIC", "SSCN"}
	tlsFeatures    = []string{"AUTH", "CCC", "PBSZ", "PROT"}
)

// maxUnasked is how many replies that nobody asked for may come in a row: each is a line in the log.
const maxUnasked = 16

// reply takes a server's line.
func (d *Dialogue) reply(line []byte) {
	first := d.Scan.Code() == 0
	done, err := d.Scan.Scan(line)
	if err != nil {
		d.end(RefusedAnswer, "the server's answer is not FTP")
		return
	}
	if first {
		d.Code = codeOf(line)
		d.turn = d.match(d.Code)
	}
	code := d.Code
	if d.turn < 0 {
		d.unaskedReply(line, code, done)
		return
	}
	d.unasked = 0
	d.Parting = code == 221 || code == 421
	r := d.Pending[d.turn]
	switch {
	case Negotiates(r.verb) && (d.asked == "PASV" || d.asked == "EPSV"):
		d.passiveReply(line, code, first, done)
	case code == 227 || code == 229: // counts as the answer to PASV and EPSV only
		d.misfit(r, done)
	case r.verb == "PORT" || r.verb == "EPRT":
		d.activeReply(line, code, done)
	case r.verb == "FEAT":
		d.features(line, code, first, done)
		if done {
			d.finish(r, code)
		}
	case !done && r.transfer && code/100 > 1:
		d.keep(line)
	default:
		d.pass(line)
		if done {
			d.finish(r, code)
		}
	}
}

// maxKept is how much of a transfer's last reply waits for its end, in bytes. What is more is left out: it
// is counts and praise.
const maxKept = 4 << 10

// keep holds a line back until the whole reply is there: another one may have to take its place.
func (d *Dialogue) keep(line []byte) {
	if len(d.kept)+len(line) < maxKept {
		d.kept = appendLine(d.kept, line)
	}
}

// Negotiates tells whether a command agrees upon a data connection.
func Negotiates(verb string) bool {
	return verb == "PASV" || verb == "EPSV" || verb == "PORT" || verb == "EPRT"
}

// codeOf reads the code of a line that is known to have one.
func codeOf(line []byte) int {
	return int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
}

// match returns which command a reply with this code answers, -1 for none. It is the first one but in
// two cases: STAT is answered while a transfer goes on (RFC 959 section 4.1.3), and ABOR is
// answered twice by servers that end the transfer with a reply of its own, and once by others:
// there a reply that is none to ABOR is for the command behind it.
func (d *Dialogue) match(code int) int {
	if len(d.Pending) < 2 {
		return len(d.Pending) - 1
	}
	switch {
	case d.Pending[0].transfer && d.Pending[1].verb == "STAT" && 211 <= code && code <= 213:
		return 1
	case d.Pending[0].verb == "ABOR" && code != 225 && code != 226 && code/100 < 4:
		d.Pending = slices.Delete(d.Pending, 0, 1)
	}
	return 0
}

// answered takes the command that the reply under way answers off the list.
func (d *Dialogue) answered() {
	if Negotiates(d.Pending[d.turn].verb) {
		d.asked = ""
	}
	d.Pending = slices.Delete(d.Pending, d.turn, d.turn+1)
}

// unaskedReply drops a reply that answers nothing. Only a 421 may come at any time.
func (d *Dialogue) unaskedReply(line []byte, code int, done bool) {
	switch {
	case code == 421:
		d.pass(line)
		d.LastStep.End = done
	case !done:
	case d.unasked == maxUnasked:
		d.end(RefusedReply, "the server answers what nobody has asked")
	default:
		d.unasked++
		d.LastStep.Refused, d.LastStep.Reason = RefusedReply, "the server sent a reply that nobody asked for"
	}
}

// misfit refuses a 227 or 229 that answers another command.
func (d *Dialogue) misfit(r request, done bool) {
	if !done {
		return
	}
	d.answered()
	if r.transfer || Negotiates(r.verb) {
		d.drop()
	}
	d.refuse(RefusedAnswer, 451, "the server's answer does not fit the command")
}

// pass hands a server's line to the client, with those that were kept before it.
func (d *Dialogue) pass(line []byte) {
	d.LastStep.ToClient = appendLine(append(d.LastStep.ToClient, d.kept...), line)
	d.kept = Emptied(d.kept)
}

// appendLine appends a server's line. A CR within would end the line for some clients.
func appendLine(to, line []byte) []byte {
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

// hidden tells whether a line of FEAT's reply names what does not work here. Servers write features
// with one space before, with none, and with the code; some put one on the first or the last line.
func (d *Dialogue) hidden(line []byte) bool {
	if l, err := ftp.ParseReplyLine(line); err == nil && l.Code == 211 {
		line = l.Text
	}
	name, _, _ := bytes.Cut(bytes.TrimLeft(line, " "), []byte{' '})
	word := strings.ToUpper(string(name))
	return slices.Contains(hiddenFeatures, word) || !d.passesThrough() && slices.Contains(tlsFeatures, word)
}

// finish takes the last line of a reply that was passed on.
func (d *Dialogue) finish(r request, code int) {
	if code/100 == 1 {
		d.Pending[d.turn].begun = true
		if d.open && !d.bridged && (code == 125 || code == 150) { // a command that is not known here, and transfers
			d.Pending[d.turn].transfer = true
			d.useData()
		}
		return
	}
	d.answered()
	switch {
	case r.transfer && code/100 == 2:
		d.LastStep.Action = Finish
	case r.transfer:
		d.LastStep.Action = Fail
	case r.verb == greeting:
		if d.LastStep.End = code/100 != 2; d.LastStep.End {
			d.LastStep.Code = verdict.CodeServerTurnedAway
		}
	case r.verb == "USER" || r.verb == "PASS" || r.verb == "ACCT":
		d.login(r.verb, code)
	case r.verb == "REIN" && code/100 == 2: // RFC 959 section 4.1.1: as after the connection was made
		d.reinit()
	case r.verb == "AUTH":
		d.authAnswered(code)
	case r.verb == "QUIT":
		d.LastStep.End = code/100 == 2
	}
}

// login takes the answer to USER, PASS or ACCT.
func (d *Dialogue) login(verb string, code int) {
	switch {
	case code/100 == 2:
		d.LoggedIn = true
	case code/100 == 3:
		if verb == "USER" { // RFC 959 section 4.1.1: the login before is flushed
			d.LoggedIn = false
		}
	case code == 421 || code/10 == 50: // not a password that was tried
	default:
		if verb == "PASS" {
			d.LoggedIn = false
		}
		d.failures++
		d.LastStep.Failures = d.failures
		d.LastStep.Refused, d.LastStep.Reason = RefusedLogin, "login failed"
		if d.failures >= d.terms.LoginFailures {
			d.end(RefusedLogin, "too many failed logins")
		}
	}
}

// passiveReply takes a line of the answer to PASV or EPSV. Nothing of it is passed on before all
// of it is there; servers put the numbers on the first line or on the last.
func (d *Dialogue) passiveReply(line []byte, code int, first, done bool) {
	if first || done {
		if port := passivePort(code, line); port != 0 {
			d.offer = port
		}
	}
	switch {
	case !done:
		return
	case code/100 == 1: // not allowed there, and of no use to the client
		d.offer = 0
		return
	case code/100 == 5 && code != 530 && !d.tried && d.Ends.Server.Is4() && !d.as64:
		d.askOtherwise()
		return
	}
	r := d.Pending[d.turn]
	switch {
	case code/100 > 2:
		d.answered()
		d.pass(line)
		d.LastStep.Code = verdict.CodeServerRefusedPASV
	case d.offer == 0:
		d.answered()
		d.refuse(RefusedAnswer, 425, "the server's answer names no port")
	case d.offer < forward.LowestDataPort:
		d.answered()
		d.refuse(RefusedPort, 425, "the server offers port %d: data connections go to ports from %d on only", d.offer, forward.LowestDataPort)
		d.LastStep.Code = verdict.CodeServerLowPort
	case r.verb == "PORT" || r.verb == "EPRT":
		d.agree()
		d.bridged = true
		d.bridge = pinhole.Bridge{
			Client: pinhole.Leg{SourceIP: d.Ends.Gateway, Target: d.client},
			Server: pinhole.Leg{SourceIP: d.Ends.Outside, Target: netip.AddrPortFrom(d.Ends.Server, d.offer)},

			TLS: d.legs(),
		}
		d.say(200, "%s command successful", r.verb)
	default:
		d.LastStep.Action = Open
		d.LastStep.Pinhole = pinhole.Pinhole{
			From:     d.Ends.Client,
			Listen:   netip.AddrPortFrom(d.Ends.Gateway, 0),
			Target:   netip.AddrPortFrom(d.Ends.Server, d.offer),
			SourceIP: d.Ends.Outside,

			TLS: d.legs(),
		}
	}
}

// passivePort reads the port of a 227 or 229; 0: none. The address in a 227 is not looked at: servers
// name private, foreign and no addresses, and hostile ones a victim's.
func passivePort(code int, line []byte) uint16 {
	if len(line) < 4 {
		return 0
	}
	switch code {
	case 227:
		if ap, err := ftp.Parse227(line[4:]); err == nil {
			return ap.Port()
		}
	case 229:
		if port, err := ftp.Parse229(line[4:]); err == nil {
			return port
		}
	}
	return 0
}

// askOtherwise asks a server that does not know EPSV with PASV, and the other way round.
func (d *Dialogue) askOtherwise() {
	d.tried, d.offer = true, 0
	if d.asked == "PASV" {
		d.asked = "EPSV"
	} else {
		d.asked = "PASV"
	}
	d.ask(ftp.Command{Verb: d.asked})
}

// activeReply takes a line of the answer to PORT or EPRT.
func (d *Dialogue) activeReply(line []byte, code int, done bool) {
	if !done || code/100 == 1 {
		return
	}
	if code/100 == 5 && code != 530 && d.asked == "EPRT" && d.Ends.Server.Is4() && !d.as64 {
		d.asked, d.tried = "PORT", true
		d.sendPort()
		return
	}
	verb := d.Pending[d.turn].verb
	if code/100 != 2 {
		d.answered()
		d.drop()
		d.pass(line)
		d.LastStep.Code = verdict.CodeServerRefusedPORT
		return
	}
	d.noEPRT = d.noEPRT || d.tried
	d.open = true
	d.answered()
	d.LastStep.Action = Arm
	d.say(200, "%s command successful", verb)
}
