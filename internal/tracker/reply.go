package tracker

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"

	"ftpgate/internal/dnat"
	"ftpgate/internal/ftp"
)

// hiddenFeatures are the extensions that do not work through this gateway: FEAT does not list them
// (RFC 2389 section 3.2).
var hiddenFeatures = []string{"ADAT", "AUTH", "CCC", "CONF", "CPSV", "ENC", "LPRT", "LPSV", "MIC", "PBSZ", "PROT", "SSCN"}

// end makes a step that ends the session with a reason.
func end(format string, args ...any) Step {
	s := refuse(421, format, args...)
	s.End = true
	return s
}

// reply takes a server's line.
func (d *Dialogue) reply(line []byte) Step {
	firstLine := d.scan.Code() == 0
	done, err := d.scan.Scan(line)
	if err != nil {
		return end("the server's answer is not FTP")
	}
	code := d.scan.Code()
	if done || code == 0 {
		code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	}
	r, known := d.answered(code)
	switch {
	case !known && code == 421: // the server may give up at any time
		return Step{ToClient: withEnding(line), End: done}
	case !known:
		return Step{Refused: "the server sent a reply that nobody asked for"}
	case r.asked == "PASV" || r.asked == "EPSV":
		return d.passiveReply(r, line, code, firstLine, done)
	case code == 227 || code == 229: // counts as the answer to PASV and EPSV only
		if !done {
			return Step{}
		}
		d.pending = d.pending[1:]
		return refuse(451, "the server's answer does not fit the command")
	case r.verb == "PORT" || r.verb == "EPRT":
		return d.activeReply(r, line, code, done)
	case r.verb == "FEAT" && !firstLine && !done && hides(line):
		return Step{}
	}
	s := Step{ToClient: withEnding(line)}
	if done {
		d.finish(r, code, &s)
	}
	return s
}

// answered finds the request that a reply belongs to: the first one under way. ABOR is answered
// twice by servers that end the transfer with a reply of its own, and once by others.
func (d *Dialogue) answered(code int) (*request, bool) {
	if len(d.pending) == 0 {
		return nil, false
	}
	if d.pending[0].verb == "ABOR" && len(d.pending) > 1 && code/100 != 2 {
		d.pending = d.pending[1:]
	}
	return &d.pending[0], true
}

func withEnding(line []byte) []byte { return append(slices.Clip(line), '\r', '\n') }

// hides tells whether a line of FEAT's reply names what does not work here.
func hides(line []byte) bool {
	word, _, _ := bytes.Cut(bytes.TrimLeft(line, " "), []byte{' '})
	return slices.Contains(hiddenFeatures, strings.ToUpper(string(word)))
}

// finish takes the last line of a reply that was passed on.
func (d *Dialogue) finish(r *request, code int, s *Step) {
	if code/100 == 1 {
		r.began = true
		return
	}
	verb, began := r.verb, r.began
	d.pending = d.pending[1:]
	switch verb {
	case greeting:
		s.End = code/100 != 2
	case "USER", "PASS", "ACCT":
		d.login(code, s)
	case "REIN": // RFC 959 section 4.1.1: as after the connection was made
		if code/100 == 2 {
			d.loggedIn, d.epsvAll, d.open = false, false, false
			s.Action = Close
		}
	case "ABOR":
		s.Action = Close
		d.open = false
	case "QUIT":
		s.End = code/100 == 2
	default:
		if slices.Contains(transfers, verb) && began && code/100 == 2 {
			s.Action = Complete
		}
	}
}

func (d *Dialogue) login(code int, s *Step) {
	switch {
	case code/100 == 2:
		d.loggedIn = true
	case code/100 == 3:
	default:
		d.loggedIn = false
		d.failures++
		s.Failures = d.failures
		s.Refused = "login failed"
		if d.failures >= maxLoginFailures {
			s.ToClient = append(s.ToClient, "421 too many failed logins\r\n"...)
			s.End = true
		}
	}
}

// passiveReply takes a line of the answer to PASV or EPSV. Nothing of it is passed on before all
// of it is there; servers put the numbers on the first line or on the last.
func (d *Dialogue) passiveReply(r *request, line []byte, code int, firstLine, done bool) Step {
	if firstLine {
		d.first = netip.AddrPort{}
		if port := passivePort(code, line); port != 0 {
			d.first = netip.AddrPortFrom(d.ends.Server, port)
		}
	}
	if code/100 == 1 && done {
		return Step{} // not allowed there, and of no use to the client
	}
	if !done {
		return Step{}
	}
	to := d.first
	if port := passivePort(code, line); port != 0 {
		to = netip.AddrPortFrom(d.ends.Server, port)
	}
	switch {
	case code/100 == 5 && !r.tried && d.ends.Server.Is4():
		return d.askOtherwise(r)
	case code/100 > 2:
		d.pending = d.pending[1:]
		return Step{ToClient: withEnding(line)}
	case !to.IsValid():
		d.pending = d.pending[1:]
		return refuse(425, "the server's answer names no port")
	case to.Port() < lowestPort:
		d.pending = d.pending[1:]
		return refuse(425, "the server offers port %d: data connections go to ports from %d on only", to.Port(), lowestPort)
	}
	return Step{Action: Open, Pinhole: dnat.Pinhole{
		From: d.ends.Client,
		At:   netip.AddrPortFrom(d.ends.Gateway, 0),
		To:   to,
		As:   d.ends.Outside,
	}}
}

// passivePort reads the port of a 227 or 229. The address in a 227 is not looked at: servers name
// private, foreign and no addresses, and hostile ones a victim's.
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

// askOtherwise asks a server that does not know EPSV with PASV, and the other way round
// (RFC 6384 section 3).
func (d *Dialogue) askOtherwise(r *request) Step {
	r.tried = true
	if r.asked == "PASV" {
		r.asked = "EPSV"
	} else {
		r.asked = "PASV"
	}
	return Step{ToServer: ftp.Command{Verb: r.asked}.AppendTo(nil)}
}

// activeReply takes a line of the answer to PORT or EPRT.
func (d *Dialogue) activeReply(r *request, line []byte, code int, done bool) Step {
	if !done {
		return Step{}
	}
	if code/100 == 5 && r.asked == "EPRT" && !r.tried && d.ends.Server.Is4() {
		r.tried, r.asked = true, "PORT"
		return Step{ToServer: ftp.Command{Verb: "PORT", Arg: ftp.AppendHostPort(nil, r.client)}.AppendTo(nil)}
	}
	verb := r.verb
	d.pending = d.pending[1:]
	if code/100 != 2 {
		return Step{ToClient: withEnding(line), Action: Close}
	}
	d.open = true
	s := answer(200, "%s command successful", verb)
	s.Action = Arm
	return s
}

// Opened tells what has become of a pinhole that a step asked for: the gateway's address and port for
// it, or an error, which the client is told as a refusal that may pass.
func (d *Dialogue) Opened(at netip.AddrPort, err error) Step {
	r := &d.pending[0]
	if err != nil {
		d.pending = d.pending[1:]
		return refuse(425, "no port is free for a data connection, try again later")
	}
	if r.verb == "PORT" || r.verb == "EPRT" {
		r.client = at // what the server is told
		r.asked = r.verb
		if at.Addr().Is6() {
			r.asked = "EPRT"
		}
		c := ftp.Command{Verb: r.asked}
		if r.asked == "EPRT" {
			c.Arg = ftp.AppendEPRT(nil, at)
		} else {
			c.Arg = ftp.AppendHostPort(nil, at)
		}
		return Step{ToServer: c.AppendTo(nil)}
	}
	d.open = true
	verb := r.verb
	d.pending = d.pending[1:]
	var s Step
	if verb == "EPSV" {
		s.ToClient = ftp.Append229([]byte("229 "), at.Port())
	} else {
		s.ToClient = ftp.Append227([]byte("227 "), netip.AddrPortFrom(d.ends.Announced, at.Port()))
	}
	s.ToClient = append(s.ToClient, '\r', '\n')
	s.Action = Arm
	return s
}
