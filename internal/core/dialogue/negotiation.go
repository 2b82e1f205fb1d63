package dialogue

import (
	"bytes"
	"errors"
	"net/netip"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/pinhole"
)

// negotiation is what client and server are agreeing upon: one data connection.
type negotiation struct {
	asked  string         // what the server was asked; another verb than the client's where that was translated
	tried  bool           // the other way to ask has been tried
	knows  string         // what this server has been found to know in place of EPSV, or of PASV
	noEPRT bool           // it has been found to know PORT and not EPRT
	client netip.AddrPort // where an active client listens
	offer  uint16         // the port that a 227 or 229 under way names
}

// passive takes PASV and EPSV.
func (d *Dialogue) passive(c ftp.Command) {
	if !d.LoggedIn {
		d.refuse(RefusedEarly, 530, "log in first")
		return
	}
	if c.Verb == "PASV" {
		switch {
		case d.epsvAll: // RFC 2428 section 4
			d.refuse(RefusedCommand, 501, "PASV is not allowed after EPSV ALL")
		case d.Ends.Client.Is6():
			d.refuse(RefusedFamily, 522, "use EPSV: PASV has no room for an IPv6 address")
		default:
			d.askPassive(c.Verb)
		}
		return
	}
	how, err := ftp.ParseEPSV(bytes.Trim(c.Arg, " "))
	switch family := (*ftp.FamilyError)(nil); {
	case errors.As(err, &family),
		how == ftp.EPSVIPv4 && d.Ends.Client.Is6(),
		how == ftp.EPSVIPv6 && d.Ends.Client.Is4():
		d.refuseFamily()
	case err != nil:
		d.refuse(RefusedCommand, 501, "EPSV takes nothing, 1, 2 or ALL")
	case how == ftp.EPSVAll && d.translates():
		// RFC 6384 section 6: who rewrites EPSV to PASV cannot let the client promise never to use it.
		d.refuse(RefusedCommand, 504, "EPSV ALL is not for a connection that is translated")
	case how == ftp.EPSVAll:
		d.epsvAll = true
		d.say(200, "EPSV ALL: data connections by EPSV only from now on")
	default:
		d.askPassive(c.Verb)
	}
}

// translates tells whether the client is as RFC 6384 has it: with IPv6, its server with IPv4.
func (d *Dialogue) translates() bool { return d.Ends.Client.Is6() && d.Ends.Server.Is4() }

// askPassive asks the server for a port, in the way that fits it; the answer may call for the other.
func (d *Dialogue) askPassive(verb string) {
	d.asked, d.tried, d.offer = verb, false, 0
	switch {
	case d.Ends.Server.Is6():
		d.asked = "EPSV"
	case d.translates() && !d.as64: // RFC 6384 section 6: many servers with IPv4 know PASV only
		d.asked = "PASV"
	case d.knows != "":
		d.asked = d.knows
	case verb == "PORT":
		d.asked = "PASV"
	case verb == "EPRT":
		d.asked = "EPSV"
	}
	d.drop()
	d.Pending = append(d.Pending, request{verb: verb})
	d.ask(ftp.Command{Verb: d.asked})
}

// drop ends the negotiation before.
func (d *Dialogue) drop() {
	d.open, d.bridged = false, false
	d.LastStep.Action = Close
}

// active takes PORT and EPRT: what the client names must be itself, and no service's port.
func (d *Dialogue) active(c ftp.Command) {
	switch {
	case !d.LoggedIn:
		d.refuse(RefusedEarly, 530, "log in first")
		return
	case d.epsvAll: // RFC 2428 section 4
		d.refuse(RefusedCommand, 501, "%s is not allowed after EPSV ALL", c.Verb)
		return
	}
	parse := ftp.ParseHostPort
	if c.Verb == "EPRT" {
		parse = ftp.ParseEPRT
	}
	to, err := parse(bytes.Trim(c.Arg, " ")) // some clients put two spaces, or one behind
	switch family := (*ftp.FamilyError)(nil); {
	case errors.As(err, &family), err == nil && to.Addr().Is4() != d.Ends.Client.Is4():
		d.refuseFamily()
		return
	case err != nil:
		d.refuse(RefusedCommand, 501, "%s names no address and port", c.Verb)
		return
	case to.Addr() != d.Ends.Client:
		d.refuse(RefusedAddress, 504, "data connections go to your own address, %s, only", d.Ends.Client)
		return
	case to.Port() < forward.LowestDataPort:
		d.refuse(RefusedPort, 504, "data connections go to ports from %d on only", forward.LowestDataPort)
		return
	}
	d.client = to
	if d.terms.ServerMode == forward.ServerModePassive {
		d.askPassive(c.Verb)
		return
	}
	d.drop()
	d.Pending = append(d.Pending, request{verb: c.Verb})
	d.LastStep.Action = Open
	d.LastStep.Pinhole = pinhole.Pinhole{
		From:     d.Ends.Server,
		Listen:   netip.AddrPortFrom(d.Ends.Outside, 0),
		Target:   to,
		SourceIP: d.Ends.Gateway,

		Active: true,
		TLS:    d.legs(),
	}
}

// refuseFamily names the families that would do (RFC 2428 section 2).
func (d *Dialogue) refuseFamily() {
	number := ftp.FamilyIPv6
	if d.Ends.Client.Is4() {
		number = ftp.FamilyIPv4
	}
	d.refuse(RefusedFamily, 522, "network protocol not supported, use (%d)", number)
}

// Opened tells where the pinhole is that the last step asked for.
func (d *Dialogue) Opened(at netip.AddrPort) *Step {
	d.LastStep.Action = None
	verb := d.Pending[len(d.Pending)-1].verb
	if verb == "PORT" || verb == "EPRT" {
		d.askActive(verb, at)
		return &d.LastStep
	}
	d.agree()
	d.LastStep.Action = Arm
	if verb == "EPSV" {
		d.LastStep.ToClient = ftp.Append229(append(d.LastStep.ToClient, "229 "...), at.Port())
	} else {
		d.LastStep.ToClient = ftp.Append227(append(d.LastStep.ToClient, "227 "...), netip.AddrPortFrom(d.Ends.Announced, at.Port()))
	}
	d.LastStep.ToClient = append(d.LastStep.ToClient, '\r', '\n')
	return &d.LastStep
}

// agree ends a negotiation by PASV or EPSV with success: a transfer may use what it came to.
func (d *Dialogue) agree() {
	d.open = true
	if d.tried {
		d.knows = d.asked
	}
	d.answered()
}

// askActive tells the server where to connect to.
func (d *Dialogue) askActive(verb string, at netip.AddrPort) {
	d.asked, d.tried, d.client = verb, false, at
	switch {
	case at.Addr().Is6():
		d.asked = "EPRT"
	case d.noEPRT, d.translates() && !d.as64: // RFC 6384 section 7
		d.asked = "PORT"
	}
	d.sendPort()
}

func (d *Dialogue) sendPort() {
	c := ftp.Command{Verb: d.asked}
	if d.asked == "EPRT" {
		c.Arg = ftp.AppendEPRT(nil, d.client)
	} else {
		c.Arg = ftp.AppendHostPort(nil, d.client)
	}
	d.ask(c)
}

// algs answers ALGS, with which a client asks what a gateway between IPv6 and IPv4 does (RFC 6384
// section 11). Between ends of one family there is no such gateway, and the command goes to the server
// like any that is not known here: one behind us may be meant.
func (d *Dialogue) algs(c ftp.Command) bool {
	if d.Ends.oneFamily() {
		return false
	}
	switch what := string(bytes.ToUpper(c.Arg)); {
	case what == "STATUS64", what == "ENABLE64":
		d.as64 = d.as64 && what == "STATUS64"
	case what == "DISABLE64" && d.translates(): // a server with IPv6 cannot do without
		d.as64 = true
	default:
		d.refuse(RefusedCommand, 504, "ALGS takes STATUS64, ENABLE64 or DISABLE64")
		return true
	}
	if d.as64 {
		d.say(216, "NONE")
	} else {
		d.say(216, "EPSVEPRT")
	}
	return true
}
