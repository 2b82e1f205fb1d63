// Package dialogue decides what a proxy does with each line of an FTP session: the client talks to the
// gateway, the gateway to the server. It handles whole lines, not packets; a line that names an address or a
// port is answered with the gateway's own.
//
// The package is pure. A caller passes a Dialogue one event at a time (a line from either side, or the
// outcome of the last step's action) and gets a Step: an action to carry out, and lines to send. It does no
// I/O, starts no goroutine, reads no clock and writes no log.
package dialogue

import (
	"net/netip"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/pinhole"
)

// Addresses are the addresses of a session. Data connections use no others, whatever addresses the peers name
// (RFC 2577 section 3).
type Addresses struct {
	Client    netip.Addr // the client's, on its control connection
	Gateway   netip.Addr // the one that the client connected to: the gateway's, or the server's
	Outside   netip.Addr // the one that the server sees: the gateway's, or the client's
	Server    netip.Addr
	Announced netip.Addr // the one that a 227 names; not valid: Gateway

	// The gateway's own addresses on both sides, where Gateway and Outside are the other end's; not valid:
	// they are own ones.
	OwnGateway, OwnOutside netip.Addr
}

// complete returns the addresses with the one that a 227 names.
func (a Addresses) complete() Addresses {
	if !a.Announced.IsValid() {
		a.Announced = a.Gateway
	}
	return a
}

// oneFamily reports whether client and server speak the same version of IP.
func (a Addresses) oneFamily() bool { return a.Client.Is4() == a.Server.Is4() }

// Config holds a forward's settings for its dialogues.
type Config struct {
	ServerMode    forward.ServerMode
	LoginFailures int         // how many end the session (RFC 2577 section 4)
	TLS           forward.TLS // only the settings: the dialogue reads none of its files

	// Passive are the server's passive ports, for end-to-end encrypted sessions; empty: these are refused.
	Passive forward.PortRange

	Named   bool    // the client names the server; Addresses has only the client's side then
	Account Account // of the gateway itself, for such clients
}

// Dialogue is the state of one session. It keeps no line that it was passed. It is not safe for use by
// several goroutines at once.
type Dialogue struct {
	addrs       Addresses
	config      Config
	loggedIn    bool
	user        string // accepted by the server
	pendingUser string // of the USER that waits for its PASS
	epsvAll     bool   // EPSV ALL was accepted (RFC 2428 section 4)
	raw64       bool   // the client wants its EPSV and EPRT unchanged (RFC 6384 section 11: DISABLE64)
	failures    int    // of logins
	unexpected  int    // unsolicited replies since the last solicited one
	codeless    int    // lines without a code, since the last one with a code

	queue         queue
	serverClosing bool      // the last reply was 221 or 421: the server said why it closes
	quit          bool      // the server took QUIT
	clientEnded   bool      // the client sends no further command
	held          heldReply // the reply under way, if it ends a transfer
	naming        *naming   // nil: the forward has one server

	protection protection
	negotiation
	dataReady bool            // a data connection is negotiated, and no transfer has used it
	bridge    *pinhole.Bridge // that data connection, if the gateway connects to both ends; else nil

	last lastStep
}

// lastStep is what the dialogue remembers of its last step until it gets the outcome of that step's action.
type lastStep struct {
	action     Action
	transition Transition
	code       int    // of the server's reply that caused the step; 0: a command did
	toClient   []byte // the step's; never changed
	partlySent bool   // toClient is the end of a reply whose beginning was sent
}

// New begins a session. The first event is the server's greeting, or the client's TLS handshake; with
// Config.Named the call of Greet.
func New(addrs Addresses, config Config) *Dialogue {
	d := &Dialogue{addrs: addrs.complete(), config: config}
	d.queue.requests = append(make([]request, 0, 1), request{verb: greeting})
	d.queue.current = noRequest
	if config.Named {
		d.queue.requests = d.queue.requests[:0]
		d.naming = &naming{account: config.Account, admitted: config.Account.User == ""}
	}
	if config.TLS.Implicit {
		d.protection = implicit
	}
	return d
}

// Accepts reports whether a client's line can be handled now. Commands are answered in order, one at a time,
// and some at once during a transfer. Others wait, in the client's own socket if they are many.
func (d *Dialogue) Accepts(line ftp.ClientLine) bool { return d.queue.accepts(line) }

// Greeted reports whether the server has sent its greeting.
func (d *Dialogue) Greeted() bool { return d.queue.pending(greeting) == nil }

// LoggedIn reports whether the server has accepted the client's login.
func (d *Dialogue) LoggedIn() bool { return d.loggedIn }

// User returns the user of the last accepted login, as the client spelled the name.
func (d *Dialogue) User() string { return d.user }

// InTransfer reports whether a transfer is under way.
func (d *Dialogue) InTransfer() bool { return d.queue.transfer() != nil }

// TransferStarted reports whether the server has sent a 1yz for the transfer under way.
func (d *Dialogue) TransferStarted() bool {
	t := d.queue.transfer()
	return t != nil && t.started
}

// AwaitsReply reports whether a reply or the greeting of the server is outstanding.
func (d *Dialogue) AwaitsReply() bool { return d.queue.awaits() }

// Answering returns the number of the client's command that the server's last line belongs to: its first line
// has number 1. 0 is the server's greeting, and -1 an unsolicited reply.
func (d *Dialogue) Answering() int { return d.queue.current }

// MayRetry reports whether the gateway may still send the server another command for the client's last one.
func (d *Dialogue) MayRetry() bool { return d.sentVerb != "" }

// AwaitsTransition reports whether the answer to the client's last command decides if its connection
// continues in plain text or in TLS.
func (d *Dialogue) AwaitsTransition() bool {
	return d.queue.pending("AUTH") != nil || d.protection.encrypted && d.queue.pending("REIN") != nil
}

// ServerClosing reports whether the server's last reply said that it closes the connection (221 or 421).
func (d *Dialogue) ServerClosing() bool { return d.serverClosing }

// Command handles a line from the client.
func (d *Dialogue) Command(line ftp.ClientLine) (s Step) {
	d.queue.sent++
	d.command(&s, line)
	return d.returned(&s, 0)
}

// ClientEnded reports that the client sends no further command. Replies that follow are the server's goodbye.
func (d *Dialogue) ClientEnded() { d.clientEnded = true }

// Reply handles a line from the server.
func (d *Dialogue) Reply(line ftp.ServerLine) (s Step) {
	before, user := d.loggedIn, d.user
	d.reply(&s, line)
	switch {
	case d.loggedIn && (!before || user != d.user):
		s.Login = LoggedIn
	case before && !d.loggedIn:
		s.Login = LoggedOut
	}
	return d.returned(&s, line.Code)
}

// ClientHello handles the beginning of a TLS handshake in place of the client's first command: implicit FTPS.
func (d *Dialogue) ClientHello() (s Step) {
	d.clientHello(&s)
	return d.returned(&s, 0)
}

// returned remembers what an event about the step's action needs.
func (d *Dialogue) returned(s *Step, code int) Step {
	d.last = lastStep{s.Action, s.Transition, code, s.ToClient, d.held.partlySent}
	return *s
}
