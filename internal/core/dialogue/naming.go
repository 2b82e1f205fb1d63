package dialogue

import (
	"bytes"
	"crypto/subtle"
	"slices"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/verdict"
)

// naming is the beginning of a session whose client chooses the server: the gateway greets the client and
// answers it alone. Once the client has named a server, it is dialled, and gets what the client said before.
// From then on the session is an ordinary one; until the login, the client may name another server.
//
//	no server ── USER user@host, SITE or OPEN: Dial ──▶ dialled ── greeting ──▶ replay ──▶ ordinary
//	    ▲                                 │                                            │
//	    └──────── NotDialled ─────────────┘◀── another server, before the login: Dial ─┘
type naming struct {
	account  Account
	admitted bool           // the client has logged in to the gateway, or need not
	pending  login          // the login that waits for a PASS or an ACCT
	server   forward.Server // without a host: there is none
	inUser   bool           // USER named it, so that later ones may name another one
	earlier  []ftp.Command  // what the client said before, for each server
	replay   []ftp.Command  // what this server must still be sent, one after the other
	banner   [][]byte       // its greeting, while the client has not read it
	answer   int            // the code of the greeting for the client; 0: that of the login's answer
	dials    int
}

// Account is what clients log in to the gateway itself with, before they may name a server. Without a user,
// any login will do: the programs need not have one.
type Account struct{ User, Password string }

// login is a login to the gateway that is not complete.
type login struct {
	form     loginForm
	named    namedUser
	password []byte // for the server: of userWithAccount
}

// loginForm is how a program combines the gateway's account with the server's.
type loginForm uint8

const (
	noLogin         loginForm = iota
	ownLogin                  // USER fw, PASS fwpass; then USER user@host, or SITE or OPEN host
	ownLoginAtHost            // USER fw@host, PASS fwpass; then USER user
	joinedLogin               // USER user@fw@host, PASS pass@fwpass
	userWithAccount           // USER user@host fw, PASS pass, ACCT fwpass
)

const (
	// maxDials is how many servers a client may name in one session: a person mistypes a name, a program that
	// tries one after the other is no FTP client.
	maxDials = 16
	// maxEarlier is how many commands are kept for the server, and maxEarlierLine how long each may be.
	maxEarlier     = 4
	maxEarlierLine = 256
)

// Greet is the first event of a session whose client names the server.
func (d *Dialogue) Greet() (s Step) {
	s.say(220, "This gateway connects to FTP servers: USER user@host")
	return d.returned(&s, 0)
}

// Dialled reports that the server that the last step names is connected, and the addresses of both ends. It
// greets now.
func (d *Dialogue) Dialled(addrs Addresses) (s Step) {
	d.addrs = addrs.complete()
	d.queue.requests = append(d.queue.requests, request{verb: greeting})
	return d.returned(&s, 0)
}

// NotDialled reports why that server is not connected. The client may name another one.
func (d *Dialogue) NotDialled(why verdict.Refusal) (s Step) {
	d.naming.server, d.naming.replay = forward.Server{}, nil
	s.say(530, "%s", why.Reason)
	s.Refusal = why
	return d.returned(&s, 0)
}

// HasServer reports whether the session has a server; false: its client has not named one.
func (d *Dialogue) HasServer() bool { return d.naming == nil || d.naming.server.Host != "" }

// name handles a client's line that names a server, and all lines before; false: it is an ordinary one.
func (d *Dialogue) name(s *Step, line ftp.ClientLine) bool {
	n, c := d.naming, line.Command
	switch {
	case n == nil:
		return false
	case !d.HasServer():
		if !d.refuseClear(s, c.Verb) {
			d.answerAlone(s, line)
		}
		return true
	case c.Verb == "USER" && n.inUser:
		return d.refuseClear(s, c.Verb) || d.renamedUser(s, c)
	case c.Verb == "OPEN", c.Verb == "SITE" && !d.loggedIn:
		to, err := parseTarget(c.Arg)
		if d.loggedIn || err != nil {
			return false
		}
		d.dial(s, to, nil)
		return true
	}
	return false
}

// renamedUser handles USER in a session whose server USER has named; false: it names none.
func (d *Dialogue) renamedUser(s *Step, c ftp.Command) bool {
	named, err := parseUser(c.Arg)
	switch {
	case err != nil:
		s.refuse(verdict.RefusedServer, 501, "%s", err)
	case named.server.Host == "":
		return false
	case named.server == d.naming.server:
		user := ftp.Command{Verb: "USER", Arg: []byte(named.user)}
		s.send(user)
		d.queue.add("USER").user = named.user
	case d.loggedIn:
		s.refuse(verdict.RefusedCommand, 503, "you are logged in to %s: connect again for another server",
			d.naming.server.Host)
	default:
		d.userNames(s, named)
	}
	return true
}

// answerAlone answers a client that has no server yet.
func (d *Dialogue) answerAlone(s *Step, line ftp.ClientLine) {
	n, c := d.naming, line.Command
	switch c.Verb {
	case "USER":
		if named, err := parseUser(c.Arg); err != nil {
			s.refuse(verdict.RefusedServer, 501, "%s", err)
		} else {
			d.userNames(s, named)
		}
	case "PASS", "ACCT":
		d.credential(s, c)
	case "SITE", "OPEN":
		d.targetNames(s, c)
	case "AUTH":
		if d.passesThrough() && !d.terminates() {
			s.refuse(verdict.RefusedEncryption, 503, "name the server first, with SITE or OPEN")
			return
		}
		d.auth(s, line)
	case "CCC", "PBSZ", "PROT":
		if !d.protect(s, c) {
			s.refuse(verdict.RefusedEncryption, 503, "%s needs AUTH, which is not possible here", c.Verb)
		}
	case "FEAT":
		d.ownFeatures(s)
	case "OPTS", "CLNT":
		d.keepForServer(s, c)
	case "HOST": // RFC 7151 section 3.2
		s.refuse(verdict.RefusedServer, 504, "this gateway has no hosts of its own: USER user@host")
	case "SYST":
		s.say(215, "UNIX Type: L8") // the gateway's own; the server answers the next one
	case "HELP":
		s.ToClient = append(s.ToClient, help...)
	case "NOOP", "ALLO":
		s.say(200, "OK")
	case "REIN":
		n.pending, n.earlier, n.admitted = login{}, nil, n.account.User == ""
		s.say(220, "This gateway connects to FTP servers: USER user@host")
		d.reinit(s)
	case "QUIT":
		s.say(221, "Goodbye")
		s.End = true
	default:
		s.refuse(verdict.RefusedNotLoggedIn, 530, "name the server first: USER user@host, SITE host or "+
			"OPEN host")
	}
}

const help = "214-Name the server before you log in to it, in one of these ways:\r\n" +
	" USER user@host   USER user@host:port   USER user@[address]:port\r\n" +
	" SITE host        OPEN host             and then USER user\r\n" +
	"214 End\r\n"

// ownFeatures answers FEAT: the gateway's own extensions. The server has others.
func (d *Dialogue) ownFeatures(s *Step) {
	s.ToClient = append(s.ToClient, "211-Features before you name a server:\r\n UTF8\r\n"...)
	if d.terminates() {
		d.offers(s)
	}
	s.say(211, "End")
}

// keepForServer keeps OPTS UTF8 and CLNT for the server, which gets them before its USER.
func (d *Dialogue) keepForServer(s *Step, c ftp.Command) {
	n := d.naming
	utf8 := bytes.EqualFold(bytes.Trim(c.Arg, " "), []byte("UTF8 ON")) ||
		bytes.EqualFold(bytes.Trim(c.Arg, " "), []byte("UTF8"))
	switch {
	case c.Verb == "OPTS" && !utf8:
		s.refuse(verdict.RefusedCommand, 501, "before you name a server, OPTS takes UTF8 ON")
		return
	case len(n.earlier) == maxEarlier, len(c.Arg) > maxEarlierLine:
		s.refuse(verdict.RefusedCommand, 503, "name the server first")
		return
	}
	n.earlier = append(n.earlier, ftp.Command{Verb: c.Verb, Arg: bytes.Clone(c.Arg)})
	s.say(200, "OK")
}

// targetNames handles SITE and OPEN: the server is dialled, and its greeting is the answer.
func (d *Dialogue) targetNames(s *Step, c ftp.Command) {
	to, err := parseTarget(c.Arg)
	switch {
	case !d.naming.admitted:
		d.wantLogin(s)
	case err != nil:
		s.refuse(verdict.RefusedServer, 501, "%s", err)
	default:
		d.naming.answer = 220
		d.dial(s, to, nil)
	}
}

func (d *Dialogue) wantLogin(s *Step) {
	s.refuse(verdict.RefusedNotLoggedIn, 530, "log in to this gateway first")
}

// userNames handles USER: it names a server, or logs in to the gateway.
func (d *Dialogue) userNames(s *Step, named namedUser) {
	n := d.naming
	n.pending = login{named: named}
	own := n.account.User
	before, joined := cutSuffix(named.user, "@"+own)
	switch {
	case named.server.Host == "":
		n.pending.form = ownLogin
		s.say(331, "password for this gateway")
	case own != "" && named.user == own:
		n.pending.form = ownLoginAtHost
		s.say(331, "password for this gateway")
	case own != "" && joined:
		n.pending.form, n.pending.named.user = joinedLogin, before
		s.say(331, "both passwords, with an @ between them")
	case own != "" && !n.admitted && named.proxyUser == own:
		n.pending.form = userWithAccount
		s.say(331, "password for the server")
	case !n.admitted:
		d.wantLogin(s)
	default:
		d.dialFor(s, named, nil)
	}
}

// cutSuffix is strings.CutSuffix, but nothing is cut from a text that is the suffix.
func cutSuffix(s, suffix string) (before string, found bool) {
	if len(s) <= len(suffix) || s[len(s)-len(suffix):] != suffix {
		return s, false
	}
	return s[:len(s)-len(suffix)], true
}

// credential handles PASS and ACCT for the gateway itself.
func (d *Dialogue) credential(s *Step, c ftp.Command) {
	n := d.naming
	p := n.pending
	switch {
	case c.Verb == "PASS" && p.form == userWithAccount && p.password == nil:
		n.pending.password = append([]byte{}, c.Arg...)
		s.say(332, "account: the password for this gateway")
		return
	case c.Verb == "PASS" && p.form == noLogin, (c.Verb == "ACCT") != (p.form == userWithAccount):
		s.refuse(verdict.RefusedCommand, 503, "USER comes first")
		return
	}
	n.pending = login{}
	password, own := p.password, c.Arg
	if p.form == joinedLogin {
		at := bytes.LastIndexByte(c.Arg, '@')
		password, own = c.Arg[:max(at, 0)], c.Arg[at+1:]
	}
	if n.account.User != "" && !n.account.matches(p, own) {
		d.gatewayLoginFailed(s, p)
		return
	}
	n.admitted = true
	switch p.form {
	case ownLogin:
		s.say(230, "now name the server: USER user@host, SITE host or OPEN host")
	case ownLoginAtHost:
		n.answer = 230
		d.dial(s, p.named.server, nil)
	default:
		d.dialFor(s, p.named, &ftp.Command{Verb: "PASS", Arg: bytes.Clone(password)})
	}
}

// matches reports whether a login to the gateway is right. It takes as long for each password.
func (a Account) matches(p login, password []byte) bool {
	same := subtle.ConstantTimeCompare(password, []byte(a.Password)) == 1
	return same && (p.form != ownLogin || p.named.user == a.User)
}

// gatewayLoginFailed counts a failed login to the gateway itself.
func (d *Dialogue) gatewayLoginFailed(s *Step, p login) {
	d.failures++
	s.refuse(verdict.RefusedLogin, 530, "login to this gateway failed")
	s.Refusal.Code = verdict.CodeGatewayLoginFailed
	s.FailedLogins, s.FailedUser = d.failures, p.named.user
	if p.form != ownLogin {
		s.FailedUser = d.naming.account.User
	}
	if d.failures >= d.config.LoginFailures {
		s.end(verdict.RefusedLogin, "too many failed logins")
	}
}

// dialFor dials the server for a user, whose USER and perhaps PASS it gets after its greeting.
func (d *Dialogue) dialFor(s *Step, named namedUser, pass *ftp.Command) {
	d.naming.answer = 0
	d.dial(s, named.server, &ftp.Command{Verb: "USER", Arg: []byte(named.user)})
	if pass != nil {
		d.naming.replay = append(d.naming.replay, *pass)
	}
}

// dial asks for a connection to a server, in place of the one before. user is what the client named it with;
// nil: it will send USER itself.
func (d *Dialogue) dial(s *Step, to forward.Server, user *ftp.Command) {
	n := d.naming
	if n.dials++; n.dials > maxDials {
		s.end(verdict.RefusedLimit, "too many servers in one session")
		s.Refusal.Code = verdict.CodeTooManyRefusals
		return
	}
	d.leaveServer()
	n.server, n.inUser = to, user != nil
	if n.replay = slices.Clone(n.earlier); user != nil {
		n.replay = append(n.replay, *user)
	} else if n.answer == 0 {
		n.answer = 220
	}
	s.Action, s.Server = Dial, &to
}

// leaveServer forgets all that belongs to the session's server.
func (d *Dialogue) leaveServer() {
	d.queue = queue{requests: d.queue.requests[:0], sent: d.queue.sent, current: noRequest}
	d.loggedIn, d.user, d.pendingUser, d.epsvAll, d.raw64 = false, "", "", false, false
	d.unexpected, d.codeless, d.serverClosing, d.quit, d.held = 0, 0, false, false, heldReply{}
	d.negotiation, d.dataReady, d.bridge = negotiation{}, false, nil
	d.naming.banner = nil
}
