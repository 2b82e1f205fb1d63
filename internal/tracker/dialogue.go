// Package tracker follows FTP sessions as a proxy: the control connection of a client ends here, and
// one to the server begins. Lines are passed on by the RFCs, not by packet; what names an
// address or a port is answered with the gateway's own.
//
// The dialogue itself is pure: lines in, lines and effects out. A data path, which the caller
// brings, opens the pinholes; the package carries no data.
package tracker

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"ftpgate/internal/dnat"
	"ftpgate/internal/ftp"
)

// Side is one of the two ends of a control connection.
type Side uint8

// The sides.
const (
	Client Side = iota
	Server
)

// Ends are the four addresses of a session. They are what data connections are held to, whatever the
// peers say of themselves (RFC 2577 section 3).
type Ends struct {
	Client    netip.Addr // the client's, on its control connection
	Gateway   netip.Addr // what the client dialled
	Outside   netip.Addr // the gateway's, as the server sees it
	Server    netip.Addr
	Announced netip.Addr // what a 227 names: Gateway, or where that is itself behind NAT, another
}

// lowestPort is the lowest port that a data connection may go to (RFC 2577 section 3).
const lowestPort = 1024

// maxLoginFailures is how often a client may fail to log in, per control connection (RFC 2577 section 4).
const maxLoginFailures = 5

// Action is what an effect asks for.
type Action uint8

// The actions.
const (
	None     Action = iota
	Open            // open Effect.Pinhole, closing the one before; then call Opened
	Arm             // the server has accepted the client's address: connections may come
	Close           // close the pinhole, if no connection has come through it
	Complete        // ToClient says that a transfer is complete: send it once the data is through
)

// Step is what one line leads to: lines for either side, then an effect.
type Step struct {
	ToClient, ToServer []byte
	Action             Action
	Pinhole            dnat.Pinhole // of Open
	Synch              bool         // ToServer is urgent: Telnet IP and Synch go before it (RFC 959 section 4.1.3)
	Failures           int          // failed logins so far, if this was one: the reply is to be delayed
	Refused            string       // why something was refused or put right; for the log and a counter
	End                bool         // the session is over once the lines are sent
}

// Dialogue is the state of one session. It does no I/O and keeps no line.
type Dialogue struct {
	ends     Ends
	loggedIn bool
	epsvAll  bool // the client has sent EPSV ALL (RFC 2428 section 4)
	failures int

	pending []request // sent to the server and not answered in full, in order
	scan    ftp.ReplyScanner
	first   netip.AddrPort // what the first line of a 227 or 229 says
	open    bool           // a pinhole is there, and no transfer has used it
}

// request is a command under way.
type request struct {
	verb   string // as the client sent it
	asked  string // as the server was asked; another one where that has been translated
	tried  bool   // the other way to ask has been tried
	began  bool   // a 1yz has come
	client netip.AddrPort
}

// NewDialogue begins a session: the server's greeting comes next.
func NewDialogue(ends Ends) *Dialogue {
	if !ends.Announced.IsValid() {
		ends.Announced = ends.Gateway
	}
	return &Dialogue{ends: ends, pending: []request{{verb: greeting}}}
}

// greeting stands for the command that the server's first reply answers.
const greeting = "(connect)"

// transfers are the commands that use a data connection.
var transfers = []string{"RETR", "STOR", "STOU", "APPE", "LIST", "NLST", "MLSD"}

// urgent are the commands that a client may send while a transfer runs (RFC 959 section 4.1.3).
var urgent = []string{"ABOR", "STAT", "QUIT"}

// Accepts tells whether a client's line can be dealt with now. Commands are answered in order, one
// at a time: what is pipelined waits, and a flood of it waits in the client's own socket.
func (d *Dialogue) Accepts(line []byte) bool {
	if len(d.pending) == 0 {
		return true
	}
	_, text := ftp.CutTelnet(line)
	c, err := ftp.ParseCommand(text)
	return err == nil && slices.Contains(urgent, c.Verb) && slices.Contains(transfers, d.pending[0].verb) &&
		!slices.ContainsFunc(d.pending, func(r request) bool { return r.verb == c.Verb })
}

// Busy tells whether a transfer is under way: then nobody is idle.
func (d *Dialogue) Busy() bool {
	return len(d.pending) > 0 && slices.Contains(transfers, d.pending[0].verb)
}

// Step takes a line from one side, without its ending.
func (d *Dialogue) Step(from Side, line []byte) Step {
	if from == Client {
		return d.command(line)
	}
	return d.reply(line)
}

// answer makes a step that answers the client and asks nobody.
func answer(code int, format string, args ...any) Step {
	text := fmt.Sprintf(format, args...)
	return Step{ToClient: fmt.Appendf(nil, "%d %s\r\n", code, text)}
}

// refuse answers the client with a reason, which the log is told too.
func refuse(code int, format string, args ...any) Step {
	s := answer(code, format, args...)
	s.Refused = fmt.Sprintf("%d ", code) + fmt.Sprintf(format, args...)
	return s
}

// command takes a client's line.
func (d *Dialogue) command(line []byte) Step {
	telnet, text := ftp.CutTelnet(line)
	s := d.verb(text)
	s.ToClient = append(refuseOptions(telnet), s.ToClient...)
	return s
}

// refuseOptions answers Telnet's WILL with DONT and DO with WONT (RFC 1123 section 4.1.2.12, RFC 854).
func refuseOptions(telnet []byte) []byte {
	const will, do, wont, dont, iac = 251, 253, 252, 254, 255
	var out []byte
	for i := 0; i+2 < len(telnet); i++ {
		switch telnet[i+1] {
		case will:
			out = append(out, iac, dont, telnet[i+2])
		case do:
			out = append(out, iac, wont, telnet[i+2])
		default:
			continue
		}
		i += 2
	}
	return out
}

func (d *Dialogue) verb(text []byte) Step {
	if _, err := ftp.ParseReplyLine(text); err == nil {
		s := refuse(421, "a client sends commands, not replies")
		s.End = true
		return s
	}
	c, err := ftp.ParseCommand(text)
	if err != nil {
		return refuse(500, "not an FTP command")
	}
	switch c.Verb {
	case "PASV", "EPSV":
		return d.passive(c)
	case "PORT", "EPRT":
		return d.active(c)
	case "LPSV", "LPRT": // historic: RFC 5797 section 3
		return refuse(502, "use EPSV or EPRT")
	case "AUTH":
		return refuse(534, "this gateway cannot carry an encrypted session to this server")
	case "ADAT", "CCC", "CONF", "ENC", "MIC", "PBSZ", "PROT": // RFC 2228 section 3: after AUTH
		return refuse(503, "%s needs AUTH, which this gateway does not offer", c.Verb)
	case "CPSV", "SSCN":
		return refuse(502, "%s is for encrypted transfers between servers", c.Verb)
	}
	if slices.Contains(transfers, c.Verb) {
		switch {
		case !d.loggedIn:
			return refuse(530, "log in first")
		case !d.open:
			return refuse(425, "no data connection: send PASV, EPSV, PORT or EPRT first")
		}
		d.open = false
	}
	s := d.ask(request{verb: c.Verb, asked: c.Verb}, c)
	s.Synch = c.Verb == "ABOR"
	return s
}

// ask sends a command to the server.
func (d *Dialogue) ask(r request, c ftp.Command) Step {
	d.pending = append(d.pending, r)
	return Step{ToServer: c.AppendTo(nil)}
}

// passive takes PASV and EPSV.
func (d *Dialogue) passive(c ftp.Command) Step {
	if !d.loggedIn {
		return refuse(530, "log in first")
	}
	if c.Verb == "PASV" {
		switch {
		case d.epsvAll:
			return refuse(501, "PASV is not allowed after EPSV ALL") // RFC 2428 section 4
		case d.ends.Announced.Is6():
			return refuse(522, "use EPSV: PASV has no room for an IPv6 address")
		}
		return d.askPassive(request{verb: c.Verb})
	}
	how, err := ftp.ParseEPSV(c.Arg)
	switch family := (*ftp.FamilyError)(nil); {
	case errors.As(err, &family):
		return refuse(522, "network protocol not supported, use (%d)", familyNumber(d.ends.Client))
	case err != nil:
		return refuse(501, "EPSV takes nothing, 1, 2 or ALL")
	case how == ftp.EPSVAll:
		d.epsvAll = true
		return answer(200, "EPSV ALL: data connections by EPSV only from now on")
	case how == ftp.EPSVIPv4 && d.ends.Client.Is6():
		return refuse(522, "network protocol not supported, use (2)")
	case how == ftp.EPSVIPv6 && d.ends.Client.Is4():
		return refuse(522, "network protocol not supported, use (1)")
	}
	return d.askPassive(request{verb: c.Verb})
}

// askPassive asks the server in the way that fits its address; the answer may call for the other.
func (d *Dialogue) askPassive(r request) Step {
	r.asked = r.verb
	if d.ends.Server.Is6() {
		r.asked = "EPSV"
	}
	s := d.ask(r, ftp.Command{Verb: r.asked})
	s.Action = Close // a new negotiation ends the one before
	d.open = false
	return s
}

// active takes PORT and EPRT: what the client names must be itself, and no service's port.
func (d *Dialogue) active(c ftp.Command) Step {
	if !d.loggedIn {
		return refuse(530, "log in first")
	}
	if d.epsvAll {
		return refuse(501, "%s is not allowed after EPSV ALL", c.Verb)
	}
	parse := ftp.ParseHostPort
	if c.Verb == "EPRT" {
		parse = ftp.ParseEPRT
	}
	to, err := parse(c.Arg)
	switch family := (*ftp.FamilyError)(nil); {
	case errors.As(err, &family), err == nil && to.Addr().Is4() != d.ends.Client.Is4():
		return refuse(522, "network protocol not supported, use (%d)", familyNumber(d.ends.Client))
	case err != nil:
		return refuse(501, "%s names no address and port", c.Verb)
	case to.Addr() != d.ends.Client:
		return refuse(504, "data connections go to your own address, %s, only", d.ends.Client)
	case to.Port() < lowestPort:
		return refuse(504, "data connections go to ports from %d on only", lowestPort)
	}
	d.open = false
	d.pending = append(d.pending, request{verb: c.Verb, client: to})
	return Step{Action: Open, Pinhole: dnat.Pinhole{
		From: d.ends.Server,
		At:   netip.AddrPortFrom(d.ends.Outside, 0),
		To:   to,
		As:   d.ends.Gateway,
	}}
}

// familyNumber is the number of an address family in EPRT and EPSV (RFC 2428 section 2).
func familyNumber(a netip.Addr) int {
	if a.Is4() {
		return 1
	}
	return 2
}
