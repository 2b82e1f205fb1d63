package dialogue

import (
	"bytes"
	"errors"
	"net/netip"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
)

// negotiation is the data connection that client and server are negotiating.
type negotiation struct {
	sentVerb     string         // the verb that the server was sent; the client's may be another
	retried      bool           // the server was asked with the other verb, too
	asksAll      bool           // the client's command is EPSV ALL
	asksElse     bool           // it asks for something other than a port: only the server can answer it
	prefers      string         // PASV or EPSV, if this server knows only that one
	noEPRT       bool           // this server knows PORT and not EPRT
	clientListen netip.AddrPort // active mode: where the client listens
	portArg      netip.AddrPort // active mode: the pinhole, as PORT or EPRT names it to the server
	offeredPort  uint16         // the port that a 227 or 229 under way names; 0: none
	line         []byte         // the server's answer to PASV or EPSV, if it is one line of usual length
	lineEnding   ftp.Ending     // of the answer's last line
}

// maxRewritten is the longest server line in which only the numbers are rewritten, in bytes.
const maxRewritten = 256

// passive handles PASV and EPSV. A server of the client's address family gets them unchanged, arguments
// included.
func (d *Dialogue) passive(s *Step, c ftp.Command) {
	switch {
	case !d.loggedIn:
		s.refuse(verdict.RefusedNotLoggedIn, 530, "log in first")
	case c.Verb == "PASV" && d.addrs.Client.Is6():
		s.refuse(verdict.RefusedFamily, 522, "use EPSV: PASV has no room for an IPv6 address")
	case d.addrs.oneFamily():
		d.askPassive(s, c)
	case c.Verb == "EPSV":
		d.translateEPSV(s, c)
	case d.epsvAll: // RFC 2428 section 4
		s.refuse(verdict.RefusedCommand, 501, "PASV is not allowed after EPSV ALL")
	default:
		d.askPassive(s, ftp.Command{Verb: c.Verb})
	}
}

// translateEPSV handles EPSV if the server has another address family: the server's answer to an argument
// would be about the wrong family.
func (d *Dialogue) translateEPSV(s *Step, c ftp.Command) {
	how, err := ftp.ParseEPSV(bytes.Trim(c.Arg, " "))
	switch _, family := errors.AsType[*ftp.FamilyError](err); {
	case family, err == nil && !d.hasFamily(how):
		d.refuseFamily(s)
	case err != nil:
		s.refuse(verdict.RefusedCommand, 501, "EPSV takes nothing, 1, 2 or ALL")
	case how == ftp.EPSVAll && d.translates():
		// RFC 6384 section 6: a gateway that rewrites EPSV to PASV cannot accept the promise never to use
		// PASV.
		s.refuse(verdict.RefusedCommand, 504, "EPSV ALL is not possible on a translated connection")
	case how == ftp.EPSVAll:
		d.epsvAll = true
		s.say(200, "EPSV ALL: data connections by EPSV only from now on")
	default:
		d.askPassive(s, ftp.Command{Verb: c.Verb})
	}
}

// hasFamily reports whether EPSV's argument names no other family than the client's.
func (d *Dialogue) hasFamily(how ftp.EPSV) bool {
	return how != ftp.EPSVIPv4 && how != ftp.EPSVIPv6 || (how == ftp.EPSVIPv4) == d.addrs.Client.Is4()
}

// translates reports whether RFC 6384 applies: the client has IPv6, and its server IPv4.
func (d *Dialogue) translates() bool { return d.addrs.Client.Is6() && d.addrs.Server.Is4() }

// askPassive asks the server for a port, by PASV or EPSV, whichever fits it; see askOtherwise. A command
// whose argument asks for something else goes to the server as it is, and the last negotiation stays valid
// until the server names a port.
func (d *Dialogue) askPassive(s *Step, c ftp.Command) {
	d.sentVerb, d.retried, d.offeredPort = c.Verb, false, 0
	d.asksAll, d.asksElse = d.passiveArgument(c)
	switch {
	case d.asksElse:
	case d.addrs.Server.Is6():
		d.sentVerb = "EPSV"
	case d.translates() && !d.raw64: // RFC 6384 section 6: many servers with IPv4 know PASV only
		d.sentVerb = "PASV"
	case d.prefers != "":
		d.sentVerb = d.prefers
	case c.Verb == "PORT":
		d.sentVerb = "PASV"
	case c.Verb == "EPRT":
		d.sentVerb = "EPSV"
	}
	if !d.asksElse {
		d.drop(s)
	}
	d.queue.add(c.Verb)
	ask := ftp.Command{Verb: d.sentVerb}
	if d.sentVerb == c.Verb {
		ask.Arg = c.Arg
	}
	s.send(ask)
}

// passiveArgument reports whether a command is EPSV ALL, and whether it asks for something other than a port
// of the client's family.
func (d *Dialogue) passiveArgument(c ftp.Command) (isAll, isElse bool) {
	argument := bytes.Trim(c.Arg, " ")
	switch c.Verb {
	case "PASV":
		return false, len(argument) > 0
	case "EPSV":
		how, err := ftp.ParseEPSV(argument)
		isAll = err == nil && how == ftp.EPSVAll
		return isAll, isAll || err != nil || !d.hasFamily(how)
	}
	return false, false
}

// drop ends the negotiation before this one.
func (d *Dialogue) drop(s *Step) {
	d.dataReady, d.bridge = false, nil
	s.Action = Close
}

// active handles PORT and EPRT: the client must name its own address, and no service's port.
func (d *Dialogue) active(s *Step, c ftp.Command) {
	switch {
	case !d.loggedIn:
		s.refuse(verdict.RefusedNotLoggedIn, 530, "log in first")
		return
	case d.epsvAll && (!d.addrs.oneFamily() || d.config.ServerMode == forward.ServerModePassive):
		// RFC 2428 section 4. Else the server gets the command, and refuses it.
		s.refuse(verdict.RefusedCommand, 501, "%s is not allowed after EPSV ALL", c.Verb)
		return
	}
	argument := bytes.Trim(c.Arg, " ") // some clients send two spaces, or one at the end
	if len(argument) == 0 {            // it has no address: the server refuses it
		d.queue.add(c.Verb)
		s.send(c)
		return
	}
	parse, otherFamily := ftp.ParseHostPort, d.addrs.Client.Is6()
	if c.Verb == "EPRT" {
		family, ok := ftp.EPRTFamily(argument)
		parse, otherFamily = ftp.ParseEPRT, ok && family != d.family()
	}
	to, err := parse(argument)
	switch {
	case otherFamily:
		d.refuseFamily(s)
		return
	case err != nil:
		s.refuse(verdict.RefusedCommand, 501, "%s names no address and port", c.Verb)
		return
	case to.Addr() != d.addrs.Client:
		s.refuse(verdict.RefusedAddress, 504, "use your own address (%s) for data connections",
			d.addrs.Client)
		return
	case to.Port() < forward.LowestDataPort:
		s.refuse(verdict.RefusedPort, 504, "data ports below %d are not allowed",
			forward.LowestDataPort)
		return
	}
	d.clientListen = to
	if d.config.ServerMode == forward.ServerModePassive {
		d.askPassive(s, c)
		return
	}
	d.drop(s)
	d.queue.add(c.Verb)
	s.Action = Open
	s.Pinhole = &pinhole.Pinhole{
		From:     d.addrs.Server,
		Listen:   netip.AddrPortFrom(d.addrs.Outside, 0),
		Target:   to,
		SourceIP: d.addrs.Gateway,

		OwnListen: d.addrs.OwnOutside,
		OwnSource: d.addrs.OwnGateway,

		Active: true,
		TLS:    d.legs(),
	}
}

// refuseFamily names the supported families (RFC 2428 section 2).
func (d *Dialogue) refuseFamily(s *Step) {
	s.refuse(verdict.RefusedFamily, 522, "network protocol not supported, use (%s)", d.family())
}

// family returns the number of the client's address family in EPRT and EPSV.
func (d *Dialogue) family() string {
	if d.addrs.Client.Is4() {
		return ftp.FamilyIPv4
	}
	return ftp.FamilyIPv6
}

// agree completes a negotiation by PASV or EPSV: a transfer may use the data connection.
func (d *Dialogue) agree() {
	d.dataReady = true
	if d.retried {
		d.prefers = d.sentVerb
	}
	d.queue.dropOptionalBefore()
	d.answered()
}

// serveWaiting gives the negotiated data connection to a transfer that waits for it: some servers accept STOR
// before PASV.
func (d *Dialogue) serveWaiting(s *Step) {
	t := d.queue.transfer()
	if t == nil {
		return
	}
	action := s.Action
	if d.useData(s, t); s.Action == Use { // after Arm
		s.Action = action
	}
}

// askActive sends the server the address and port to connect to.
func (d *Dialogue) askActive(s *Step, verb string, at netip.AddrPort) {
	d.sentVerb, d.retried, d.portArg = verb, false, at
	switch {
	case at.Addr().Is6():
		d.sentVerb = "EPRT"
	case d.noEPRT, d.translates() && !d.raw64: // RFC 6384 section 7
		d.sentVerb = "PORT"
	}
	d.sendPort(s)
}

// sendPort sends the server the pinhole, by PORT or EPRT.
func (d *Dialogue) sendPort(s *Step) {
	c := ftp.Command{Verb: d.sentVerb}
	if d.sentVerb == "EPRT" {
		c.Arg = ftp.AppendEPRT(nil, d.portArg)
	} else {
		c.Arg = ftp.AppendHostPort(nil, d.portArg)
	}
	s.send(c)
}

// algs answers ALGS, with which a client asks what a gateway between IPv6 and IPv4 translates (RFC 6384
// section 11); false: both ends have one family. The command then goes to the server like any unknown one:
// the client may mean a gateway behind us.
func (d *Dialogue) algs(s *Step, c ftp.Command) bool {
	if d.addrs.oneFamily() {
		return false
	}
	switch what := string(bytes.ToUpper(c.Arg)); {
	case what == "STATUS64", what == "ENABLE64":
		d.raw64 = d.raw64 && what == "STATUS64"
	case what == "DISABLE64" && d.translates(): // a server with IPv6 needs EPSV and EPRT translated
		d.raw64 = true
	default:
		s.refuse(verdict.RefusedCommand, 504, "ALGS takes STATUS64, ENABLE64 or DISABLE64")
		return true
	}
	if d.raw64 {
		s.say(216, "NONE")
	} else {
		s.say(216, "EPSVEPRT")
	}
	return true
}
