package dialogue

import (
	"net/netip"
	"slices"
	"strconv"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
)

// passiveReply handles a line of the answer to PASV or EPSV. It forwards nothing before the reply is
// complete: servers put the numbers on the first line or on the last.
func (d *Dialogue) passiveReply(s *Step, line ftp.ServerLine) {
	if line.First || line.Last {
		if port := passivePort(line); port != 0 {
			d.offeredPort = port
		}
	}
	code := line.Code
	d.lineEnding = line.Ending
	if d.line = d.line[:0]; line.First && line.Last && len(line.Text) <= maxRewritten {
		d.line = append(d.line, line.Text...)
	}
	switch {
	case !line.Last:
		d.hold(line)
	case code/100 == 1: // not allowed here, and of no use to the client
		d.offeredPort = 0
	case code/100 == 5 && code != 530 && d.mayAskOtherwise():
		d.askOtherwise(s)
	default:
		d.passiveAnswered(s, line)
	}
}

// passiveAnswered handles the complete answer to PASV or EPSV.
func (d *Dialogue) passiveAnswered(s *Step, line ftp.ServerLine) {
	r := *d.queue.answering()
	switch {
	case line.Code/100 > 2:
		d.answered()
		d.pass(s, line)
		s.Refusal.Code = verdict.CodeServerRefusedPASV
	case d.asksElse && line.Code != 227 && line.Code != 229: // such as the 200 to EPSV ALL
		d.epsvAll = d.epsvAll || d.asksAll
		d.answered()
		d.pass(s, line)
	case d.offeredPort == 0:
		d.namesNoPort(s, r, line)
	case d.offeredPort < forward.LowestDataPort:
		d.answered()
		s.refuse(verdict.RefusedPort, 425, "the server offers port %d: data ports below %d are not allowed",
			d.offeredPort, forward.LowestDataPort)
		s.Refusal.Code = verdict.CodeServerLowPort
	case r.verb == "PORT" || r.verb == "EPRT":
		d.agree()
		d.bridge = &pinhole.Bridge{
			Client: pinhole.Leg{SourceIP: d.addrs.Gateway, Own: d.addrs.OwnGateway, Target: d.clientListen},
			Server: pinhole.Leg{SourceIP: d.addrs.Outside, Own: d.addrs.OwnOutside, Target: d.offered()},

			TLS: d.legs(),
		}
		d.serveWaiting(s)
		s.say(200, "%s command successful", r.verb)
	default:
		d.drop(s)
		s.Action = Open
		s.Pinhole = &pinhole.Pinhole{
			From:     d.addrs.Client,
			Listen:   netip.AddrPortFrom(d.addrs.Gateway, 0),
			Target:   d.offered(),
			SourceIP: d.addrs.Outside,

			OwnListen: d.addrs.OwnGateway,
			OwnSource: d.addrs.OwnOutside,

			TLS: d.legs(),
		}
	}
}

// namesNoPort handles a 227 or 229 without a port. It forwards it only if no client can find a port in it.
func (d *Dialogue) namesNoPort(s *Step, r request, line ftp.ServerLine) {
	same := r.verb == d.sentVerb && line.Code == passiveCode(r.verb)
	d.answered()
	switch text := line.Text[min(len(line.Text), 4):]; {
	case !same || !line.First:
	case ftp.WithoutNumbers(text):
		line.Ending = ftp.EndCRLF // a client that ends lines only at CR LF would read on, and find a port
		d.pass(s, line)
		return
	case line.Code == 229:
		if text, ok := ftp.Rewrite229(nil, text, ftp.NoPort); ok {
			s.say(line.Code, "%s", text)
			return
		}
	}
	s.refuse(verdict.RefusedBadReply, 425, "the server's answer names no port")
}

// passiveCode is the code of the answer to PASV or EPSV.
func passiveCode(verb string) int {
	if verb == "EPSV" {
		return 229
	}
	return 227
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
		if port, err := ftp.Port227(line.Text[4:]); err == nil {
			return port
		}
	case 229:
		if port, err := ftp.Parse229(line.Text[4:]); err == nil {
			return port
		}
	}
	return 0
}

// mayAskOtherwise reports whether a server that refuses PASV or EPSV is asked by the other verb.
func (d *Dialogue) mayAskOtherwise() bool {
	return !d.retried && !d.asksElse && !d.epsvAll && d.addrs.Server.Is4() && !d.raw64
}

// askOtherwise sends PASV to a server that does not know EPSV, and EPSV to one that does not know PASV.
func (d *Dialogue) askOtherwise(s *Step) {
	d.retried, d.offeredPort = true, 0
	if d.sentVerb == "PASV" {
		d.sentVerb = "EPSV"
	} else {
		d.sentVerb = "PASV"
	}
	s.send(ftp.Command{Verb: d.sentVerb})
}

// usualOffer is the length that most answers to PASV and EPSV do not exceed, in bytes.
const usualOffer = 64

// appendOffer appends the answer to PASV or EPSV that names the gateway's port. If the server was asked by
// the client's verb, this is the server's line with other numbers. If a client could find wrong numbers in
// that line, or none (several lines, digits or parentheses in the text, a delimiter other than the bar), it
// is the text of the RFCs.
func (d *Dialogue) appendOffer(to []byte, verb string, same bool, port uint16) []byte {
	code := passiveCode(verb)
	to = append(strconv.AppendInt(slices.Grow(to, usualOffer), int64(code), 10), ' ')
	var words []byte
	if same && d.last.code == code && len(d.line) > 4 {
		words = d.line[4:]
	}
	if verb == "EPSV" {
		if own, ok := ftp.Rewrite229(to, words, uint32(port)); ok {
			return own
		}
		return ftp.Append229(to, port)
	}
	at := netip.AddrPortFrom(d.addrs.Announced, port)
	if own, ok := ftp.Rewrite227(to, words, at); ok {
		return own
	}
	return ftp.Append227(to, at)
}
