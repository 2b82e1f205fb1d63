// Package tracker follows FTP sessions as a proxy: the control connection of a client ends here, and
// one to the server begins. Lines are passed on by the RFCs, not by packet; what names an
// address or a port is answered with the gateway's own.
//
// The dialogue itself is pure: lines in, lines and effects out. A data path, which the caller
// brings, opens the pinholes; the package carries no data.
package dialogue

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
)

// Side is one of the two ends of a control connection.
type Side uint8

// The sides.
const (
	Client Side = iota
	Server
)

// String returns "client" or "server".
func (s Side) String() string {
	if s == Client {
		return "client"
	}
	return "server"
}

// Ends are the four addresses of a session. They are what data connections are held to, whatever the
// peers say of themselves (RFC 2577 section 3).
type Ends struct {
	Client    netip.Addr // the client's, on its control connection
	Gateway   netip.Addr // what the client dialled
	Outside   netip.Addr // the gateway's, as the server sees it
	Server    netip.Addr
	Announced netip.Addr // what a 227 names; not valid: Gateway
}

// oneFamily tells whether both ends speak the same version of IP.
func (e Ends) oneFamily() bool { return e.Client.Is4() == e.Server.Is4() }

// Terms are what a forward asks of its dialogues.
type Terms struct {
	ServerMode    forward.ServerMode
	LoginFailures int               // how many end the session (RFC 2577 section 4)
	TLS           forward.TLS       // of which only the choices count; files are others' to read
	Passive       forward.PortRange // the server's passive ports, for a session that is encrypted from end to end; empty: there can be none
}

// Dialogue is the state of one session. It does no I/O and keeps no line.
type Dialogue struct {
	Ends     Ends
	terms    Terms
	LoggedIn bool
	epsvAll  bool // the client has sent EPSV ALL (RFC 2428 section 4)
	as64     bool // the client wants its EPSV and EPRT as they are (RFC 6384 section 11: DISABLE64)
	failures int
	unasked  int // replies that nobody asked for, since the last one that somebody did

	Pending []request // sent to the server and not answered in full, in order; two at most
	Scan    ftp.ReplyScanner
	Code    int    // of the reply under way
	turn    int    // which of pending that reply answers; -1: none
	Parting bool   // the last reply was 221 or 421: the server has said why it goes
	kept    []byte // the lines so far of the reply under way that ends a transfer

	protection protection
	negotiation
	open    bool           // a data connection is agreed upon, and no transfer has used it
	bridge  pinhole.Bridge // what is agreed upon, if the gateway connects to both ends
	bridged bool

	LastStep Step // the one under way
}

// request is a command under way.
type request struct {
	verb     string // as the client sent it
	transfer bool   // it uses the data connection
	begun    bool   // the server has answered with 1yz
}

// greeting stands for the command that the server's first reply answers.
const greeting = "(connect)"

// NewDialogue begins a session: the server's greeting comes next.
func NewDialogue(ends Ends, terms Terms) *Dialogue {
	if !ends.Announced.IsValid() {
		ends.Announced = ends.Gateway
	}
	d := &Dialogue{
		Ends: ends, terms: terms,
		Pending: append(make([]request, 0, 2), request{verb: greeting}),
		Scan:    ftp.ReplyScanner{MaxLines: maxReplyLines, MaxBytes: maxReplyBytes},
	}
	if terms.TLS.Implicit {
		d.protection = implicit
	}
	return d
}

// What a reply may have at most: STAT answers with whole listings, and nothing of them is kept here. A
// reply without end is none, though.
const (
	maxReplyLines = 1 << 20
	maxReplyBytes = 64 << 20
)

// transfers are the commands that use a data connection.
var transfers = []string{"RETR", "STOR", "STOU", "APPE", "LIST", "NLST", "MLSD"}

// urgent are the commands that a client may send while a transfer runs (RFC 959 section 4.1.3).
var urgent = []string{"ABOR", "STAT", "QUIT"}

// Accepts tells whether a client's line can be dealt with now. Commands are answered in order, one
// at a time: what is pipelined waits, and a flood of it waits in the client's own socket.
func (d *Dialogue) Accepts(line []byte) bool {
	switch len(d.Pending) {
	case 0:
		return true
	case 1:
		// ABOR alone has no reply left, where a server answers it and the transfer with one.
		return d.Pending[0].verb == "ABOR" || d.Pending[0].transfer && slices.Contains(urgent, VerbOf(line))
	}
	return false
}

// VerbOf returns the verb of a client's line, "" where it has none.
func VerbOf(line []byte) string {
	_, text := ftp.CutTelnet(line)
	c, err := ftp.ParseCommand(text)
	if err != nil {
		return ""
	}
	return c.Verb
}

// Busy tells whether a transfer is under way: then nobody is idle.
func (d *Dialogue) Busy() bool { return len(d.Pending) > 0 && d.Pending[0].transfer }

// Begun tells whether the server has said that the transfer under way begins (1yz).
func (d *Dialogue) Begun() bool { return d.Busy() && d.Pending[0].begun }

// Waits tells whether a command of the client's, and no transfer, waits for its answer.
func (d *Dialogue) Waits() bool {
	return len(d.Pending) > 0 && d.Greeted() && !d.Busy() && d.Pending[0].verb != "ABOR"
}

// Greeted tells whether the server has said its first word.
func (d *Dialogue) Greeted() bool { return len(d.Pending) == 0 || d.Pending[0].verb != greeting }

// maxScratch is what a dialogue keeps of the memory for its lines.
const maxScratch = 512

// Step takes a line from one side, without its ending.
func (d *Dialogue) Step(from Side, line []byte) *Step {
	d.LastStep = Step{ToClient: Emptied(d.LastStep.ToClient), ToServer: Emptied(d.LastStep.ToServer)}
	if from == Client {
		d.command(line)
	} else {
		d.reply(line)
	}
	return &d.LastStep
}

func Emptied(b []byte) []byte {
	if cap(b) > maxScratch {
		return nil
	}
	return b[:0]
}

// Failed tells that what the last step asked for could not be done; the client is told, in the words of
// text if there are some.
func (d *Dialogue) Failed(text, remedy string) *Step {
	failed, then := d.LastStep.Action, d.LastStep.Then
	if failed == Join || failed == Open || failed == Pass && then != Tunnel {
		d.Pending = d.Pending[:len(d.Pending)-1] // the server is not told; the answer of an Open is ours
	}
	d.open, d.bridged = false, false
	d.LastStep = Step{Action: Close, ToClient: d.LastStep.ToClient[:0], Remedy: remedy}
	switch failed {
	case Pass, Prepare: // RFC 2228 section 5: a resource that security needs
		d.protection = protection{}
		d.refuse(RefusedSecurity, 431, "%s", cmp.Or(text, "encryption is not possible now, try again later"))
		d.LastStep.End = then == Tunnel // the client would take the answer for TLS
	default:
		d.refuse(RefusedNoPort, 425, "%s", cmp.Or(text, "no data connection is possible now, try again later"))
	}
	return &d.LastStep
}

// Broken tells that the data of the last step's transfer was not delivered: the client is told so in
// place of what the server has said.
func (d *Dialogue) Broken(code int, text, remedy string) *Step {
	d.LastStep = Step{ToClient: d.LastStep.ToClient[:0], Remedy: remedy}
	d.refuse(RefusedTransfer, code, "%s", text)
	return &d.LastStep
}

// NotResumed tells that the server's no to the last step's transfer, which stands, is most probably for a data
// connection that did not resume the server's TLS session.
func (d *Dialogue) NotResumed() *Step {
	d.LastStep.Refused, d.LastStep.Code = RefusedTransfer, verdict.CodeServerReuse
	d.LastStep.Reason = "the server did not take a data connection that did not resume the TLS session of its control connection"
	d.LastStep.Remedy = "have the server offer TLS 1.3, or tickets with TLS 1.2 (proftpd: TLSSessionTickets on), or not ask for it (proftpd: TLSOptions NoSessionReuseRequired)"
	return &d.LastStep
}

// say answers the client.
func (d *Dialogue) say(code int, format string, args ...any) {
	d.LastStep.ToClient = fmt.Appendf(d.LastStep.ToClient, "%d ", code)
	d.LastStep.ToClient = fmt.Appendf(d.LastStep.ToClient, format, args...)
	d.LastStep.ToClient = append(d.LastStep.ToClient, '\r', '\n')
}

// refuse answers the client with a reason, which the log is told too.
func (d *Dialogue) refuse(kind Refusal, code int, format string, args ...any) {
	d.say(code, format, args...)
	d.LastStep.Refused, d.LastStep.Reason = kind, fmt.Sprintf(format, args...)
}

// end is refuse, and the session's end.
func (d *Dialogue) end(kind Refusal, format string, args ...any) {
	d.refuse(kind, 421, format, args...)
	d.LastStep.End = true
}

// ask sends the server a command of our own.
func (d *Dialogue) ask(c ftp.Command) { d.LastStep.ToServer = c.AppendTo(d.LastStep.ToServer) }

// command takes a client's line.
func (d *Dialogue) command(line []byte) {
	telnet, text := ftp.CutTelnet(line)
	d.refuseOptions(telnet)
	if len(telnet) > 0 && len(text) == 0 {
		return // Telnet's own, like a NOP that keeps the connection alive
	}
	if IsReply(text) {
		d.end(RefusedLine, "a client sends commands, not replies")
		return
	}
	c, err := ftp.ParseCommand(text)
	if err != nil {
		d.refuse(RefusedLine, 500, "not an FTP command")
		return
	}
	if !d.own(c, text) {
		d.forward(c, text)
		// As the client does it; within TLS there is no urgent byte.
		d.LastStep.Synch = len(telnet) > 0 && slices.Contains(urgent, c.Verb) && d.terms.TLS.Server == forward.ServerTLSOff
	}
}

// IsReply tells whether a line reads as a reply's first one.
func IsReply(text []byte) bool {
	if len(text) == 0 || text[0] < '0' || text[0] > '9' {
		return false
	}
	_, err := ftp.ParseReplyLine(text)
	return err == nil
}

// refuseOptions answers Telnet's WILL with DONT and DO with WONT (RFC 1123 section 4.1.2.12, RFC 854).
func (d *Dialogue) refuseOptions(telnet []byte) {
	const will, do, wont, dont, iac = 251, 253, 252, 254, 255
	for i := 0; i+2 < len(telnet); i++ {
		switch telnet[i+1] {
		case will:
			d.LastStep.ToClient = append(d.LastStep.ToClient, iac, dont, telnet[i+2])
		case do:
			d.LastStep.ToClient = append(d.LastStep.ToClient, iac, wont, telnet[i+2])
		default:
			continue
		}
		i += 2
	}
}

// own deals with the commands that are not the server's alone; false: c is not one of them.
func (d *Dialogue) own(c ftp.Command, text []byte) bool {
	if d.inClear(c.Verb) {
		return true
	}
	switch c.Verb {
	case "PASV", "EPSV":
		d.passive(c)
	case "PORT", "EPRT":
		d.active(c)
	case "LPSV", "LPRT": // historic: RFC 5797 section 3
		d.refuse(RefusedCommand, 502, "use EPSV or EPRT")
	case "AUTH":
		d.auth(c, text)
	case "CCC", "PBSZ", "PROT":
		d.protect(c)
	case "ADAT", "CONF", "ENC", "MIC": // RFC 2228 section 3: of mechanisms other than TLS
		d.refuse(RefusedSecurity, 503, "%s needs a mechanism that this gateway does not have", c.Verb)
	case "REIN":
		if d.terms.TLS.Server == forward.ServerTLSOff {
			return false
		}
		d.refuse(RefusedCommand, 502, "REIN is not possible over an encrypted connection to the server: connect again")
	case "CPSV", "SSCN":
		d.refuse(RefusedSecurity, 502, "%s is for encrypted transfers between servers", c.Verb)
	case "ALGS": // between ends of one family it is passed on
		return d.algs(c)
	default:
		return false
	}
	return true
}

// forward passes a command on to the server, byte for byte.
func (d *Dialogue) forward(c ftp.Command, text []byte) {
	transfer := slices.Contains(transfers, c.Verb)
	switch {
	case transfer && !d.LoggedIn:
		d.refuse(RefusedEarly, 530, "log in first")
		return
	case transfer && !d.open:
		d.refuse(RefusedCommand, 425, "no data connection: send PASV, EPSV, PORT or EPRT first")
		return
	case transfer:
		d.useData()
	case c.Verb == "ABOR": // nothing may come through any more, whatever the server says of it
		d.open, d.bridged = false, false
		d.LastStep.Action = Close
	}
	d.request(c, text)
	d.Pending[len(d.Pending)-1].transfer = transfer
}

// request sends the server a client's command as it is, and awaits the answer.
func (d *Dialogue) request(c ftp.Command, text []byte) {
	d.Pending = append(d.Pending, request{verb: c.Verb})
	d.LastStep.ToServer = append(append(d.LastStep.ToServer, text...), '\r', '\n')
}

// useData begins a transfer with what is agreed upon, once.
func (d *Dialogue) useData() {
	if d.bridged {
		d.LastStep.Action, d.LastStep.Bridge = Join, d.bridge
	}
	d.open, d.bridged = false, false
}

// commands are the verbs that stand in the RFCs (RFC 5797 section 3), in their order: only these are named in a log.
var commands = []string{
	"ABOR", "ACCT", "ADAT", "ALGS", "ALLO", "APPE", "AUTH", "CCC", "CDUP", "CONF", "CWD", "DELE", "ENC", "EPRT", "EPSV", "FEAT",
	"HELP", "HOST", "LANG", "LIST", "LPRT", "LPSV", "MDTM", "MIC", "MKD", "MLSD", "MLST", "MODE", "NLST", "NOOP", "OPTS", "PASS",
	"PASV", "PBSZ", "PORT", "PROT", "PWD", "QUIT", "REIN", "REST", "RETR", "RMD", "RNFR", "RNTO", "SITE", "SIZE", "SMNT", "STAT",
	"STOR", "STOU", "STRU", "SYST", "TYPE", "USER", "XCUP", "XCWD", "XMKD", "XPWD", "XRMD",
}

// Known tells whether a verb stands in the RFCs.
func Known(verb string) bool {
	_, found := slices.BinarySearch(commands, verb)
	return found
}
