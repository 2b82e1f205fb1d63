package servercheck

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"ftpgate/internal/core/forward"
)

// passiveTries is how many passive ports are looked at, those of the transfers among them.
const passiveTries = 8

// emailOfGuests is the password of anonymous: RFC 1635 asks for an address of mail.
const emailOfGuests = "doctor@ftpgate.invalid"

var (
	errUntrusted = errors.New("login: the certificate is not trusted")
	errUnlawful  = errors.New("login: the end of a line in the user's name or the password")
)

// guest visits one address of the server.
type guest struct {
	forward forward.Forward
	o       Options
	at      netip.AddrPort
	over    bool // ctx was done: what was seen since then means nothing

	// Of the visit under way.
	seen    *visit
	control *control // nil: none
}

// look visits one address: in the forward's way, and where that is in clear, in TLS, too.
func look(ctx context.Context, f forward.Forward, o Options, at netip.AddrPort) sight {
	g := &guest{forward: f, o: o, at: at}
	s := sight{at: at}
	switch security := f.TLS.Server; security {
	case forward.ServerTLSOff:
		s.clear = g.visit(ctx, security, true)
		_, demanded := s.clear.demand()
		switch {
		case s.clear.hidden:
			s.tls = g.visit(ctx, forward.ServerTLSImplicit, true)
		case demanded, s.clear.greeting != nil && s.clear.greeting.positive():
			s.tls = g.visit(ctx, forward.ServerTLSRequired, demanded)
		}
	default:
		s.tls = g.visit(ctx, security, true)
	}
	s.over = g.over
	return s
}

// ended tells whether the time is over: a failure is then nobody's.
func (g *guest) ended(ctx context.Context) bool {
	g.over = g.over || ctx.Err() != nil
	return g.over
}

// visit speaks with the server in one way, up to the login and what comes behind it, or up to the handshake.
func (g *guest) visit(ctx context.Context, security forward.ServerTLS, login bool) *visit {
	v := &visit{security: security}
	if g.over {
		return v
	}
	g.seen = v
	if g.enter(ctx, &v.entry, 0, login) && login {
		g.modes(ctx)
	}
	g.leave()
	if v.shake != nil && v.shake.err == nil && !g.over {
		other := uint16(tls.VersionTLS13)
		if v.shake.version == other {
			other = tls.VersionTLS12
		}
		var e entry
		g.enter(ctx, &e, other, false)
		g.leave()
		v.other = e.shake
	}
	return v
}

// leave ends the session, if there is one.
func (g *guest) leave() {
	if g.control != nil {
		g.control.close()
		g.control = nil
	}
}

// enter goes up to the end of a login, or where none is asked for up to that of the handshake, and notes what
// it sees. It tells whether it came there. A version of 0 leaves those of TLS as they are.
func (g *guest) enter(ctx context.Context, e *entry, version uint16, login bool) bool {
	g.leave()
	began := time.Now()
	c, err := dial(ctx, g.at, g.o.Timeouts)
	if g.ended(ctx) {
		if c != nil {
			c.close()
		}
		return false
	}
	e.dial, e.took = err, time.Since(began)
	if err != nil {
		return false
	}
	g.control = c
	switch g.seen.security {
	case forward.ServerTLSImplicit:
		if !g.handshake(ctx, e, version) || !login {
			return false
		}
		return g.greet(ctx, e) && g.login(ctx, e) && g.protect(ctx, e)
	case forward.ServerTLSRequired:
		if !g.greet(ctx, e) || !g.auth(ctx, e) || !g.handshake(ctx, e, version) || !login {
			return false
		}
		return g.login(ctx, e) && g.protect(ctx, e)
	}
	return g.greet(ctx, e) && g.login(ctx, e)
}

// ask sends a command; nil: the time is over.
func (g *guest) ask(ctx context.Context, verb, arg string) *answer {
	a := g.control.ask(verb, arg)
	if g.ended(ctx) {
		return nil
	}
	return &a
}

// greet waits for the greeting and asks for the features.
func (g *guest) greet(ctx context.Context, e *entry) bool {
	began := time.Now()
	a := g.control.reply(g.control.limit)
	waited := time.Since(began)
	if g.ended(ctx) {
		return false
	}
	if isTimeout(a.err) && a.heard == "" && g.seen.security == forward.ServerTLSOff {
		e.hidden = g.speaksTLS(ctx)
	}
	e.greeting, e.waited = &a, waited
	if !a.positive() {
		return false
	}
	e.feat = g.ask(ctx, "FEAT", "")
	return e.feat != nil && !g.control.lost
}

// speaksTLS tries a connection of its own with a ClientHello: an implicit server waits for one.
func (g *guest) speaksTLS(ctx context.Context) bool {
	c, err := dial(ctx, g.at, g.o.Timeouts)
	if err != nil {
		return false
	}
	defer c.close()
	err = c.encrypt(ctx, g.config(0))
	c.lost = true // it owes a greeting, and no reply to QUIT
	return err == nil || isAlert(err)
}

// config returns what the control connection speaks.
func (g *guest) config(version uint16) *tls.Config {
	config := g.o.TLS.Clone()
	config.ServerName = nameOf(g.forward, g.o)
	if version != 0 {
		config.MinVersion, config.MaxVersion = version, version
	}
	return config
}

func (g *guest) auth(ctx context.Context, e *entry) bool {
	e.auth = g.ask(ctx, "AUTH", "TLS")
	return e.auth != nil && e.auth.err == nil && e.auth.Code == 234
}

func (g *guest) handshake(ctx context.Context, e *entry, version uint16) bool {
	config := g.config(version)
	err := g.control.encrypt(ctx, config)
	if g.ended(ctx) {
		return false
	}
	e.shake = &handshake{err: err}
	if state := g.control.state; err == nil {
		e.shake.version, e.shake.cipher, e.shake.chain = state.Version, state.CipherSuite, state.PeerCertificates
		e.shake.distrust = verify(state.PeerCertificates, config, time.Now())
	}
	return err == nil
}

func (g *guest) login(ctx context.Context, e *entry) bool {
	user, password := g.o.User, g.o.Password
	if user == "" {
		user = "anonymous"
	}
	if password == "" {
		password = emailOfGuests
	}
	switch {
	case !sendable(user) || !sendable(password):
		e.unsent = errUnlawful
	case e.shake != nil && e.shake.distrust != nil && !g.forward.TLS.Insecure && g.o.Password != "":
		e.unsent = errUntrusted
	}
	if e.unsent != nil {
		return false
	}
	e.verb, e.login = "USER", g.ask(ctx, "USER", user)
	if e.login != nil && e.login.err == nil && e.login.Code == 331 {
		e.verb, e.login = "PASS", g.ask(ctx, "PASS", password)
	}
	if e.login == nil || !e.login.positive() {
		return false
	}
	if e.feat.err == nil && e.feat.Code == 530 { // it wanted a login first
		e.feat = g.ask(ctx, "FEAT", "")
	}
	return e.feat != nil && !g.control.lost
}

// protect has data connections be private, or in clear where the forward wants that.
func (g *guest) protect(ctx context.Context, e *entry) bool {
	if e.pbsz = g.ask(ctx, "PBSZ", "0"); e.pbsz == nil || !e.pbsz.positive() {
		return false
	}
	level := "P"
	if g.forward.TLS.ServerDataClear {
		level = "C"
	}
	e.prot = g.ask(ctx, "PROT", level)
	return e.prot != nil && e.prot.positive()
}

// modes tries each kind of data connection.
func (g *guest) modes(ctx context.Context) {
	v := g.seen
	v.local = g.control.local.Addr()
	list := func(t *transfer) { g.passive(ctx, t, true) }
	v4 := g.at.Addr().Is4() // PASV and PORT have no room for IPv6
	v.epsv = g.try(ctx, "EPSV", list)
	if v4 {
		v.pasv = g.try(ctx, "PASV", list)
	}
	if local, wanted := g.local(); wanted {
		back := func(t *transfer) { g.active(ctx, t, local) }
		if v4 {
			v.port = g.try(ctx, "PORT", back)
		}
		v.eprt = g.try(ctx, "EPRT", back)
	}
	g.morePorts(ctx)
	// It comes last: some servers end the session of a client that does not resume.
	if t := v.passive(func(t *transfer) bool { return t.handed && t.worked() }); t != nil {
		v.fresh = g.try(ctx, t.verb, func(t *transfer) { g.passive(ctx, t, false) })
	}
}

// local returns the address to which the server is to connect.
func (g *guest) local() (netip.Addr, bool) {
	v, local := g.seen, g.o.Active.Unmap()
	switch {
	case !local.IsValid():
		return local, false
	case g.forward.Tracking == forward.TrackingNone, g.forward.PassesThrough() && v.security != forward.ServerTLSOff:
		v.notActive = true
		return local, false
	case local.IsUnspecified():
		return v.local, true
	case local.Is4() != g.at.Addr().Is4():
		v.activeFamily = true
		return local, false
	}
	return local, true
}

// again brings a new session to where a listing can be asked for, if the one before is not sound any more:
// what went wrong in a step must not count against the next.
func (g *guest) again(ctx context.Context) bool {
	if g.control != nil && !g.control.lost {
		return true
	}
	var e entry
	return g.enter(ctx, &e, 0, true)
}

// try makes one transfer in a session that is sound; nil: the time is over.
func (g *guest) try(ctx context.Context, verb string, drive func(*transfer)) *transfer {
	if g.over {
		return nil
	}
	t := &transfer{verb: verb, shut: !g.again(ctx)}
	if !t.shut {
		drive(t)
	}
	if g.ended(ctx) {
		return nil
	}
	return t
}

// morePorts asks for more passive ports without using them.
func (g *guest) morePorts(ctx context.Context) {
	known := g.seen.passive((*transfer).agreed)
	if known == nil || g.over || !g.again(ctx) {
		return
	}
	for len(g.seen.ports) < passiveTries && !g.control.lost && !g.ended(ctx) {
		t := &transfer{verb: known.verb}
		if g.agree(t); !t.agreed() {
			return
		}
	}
}

// passive returns the first passive transfer that went far enough, or nil.
func (v *visit) passive(far func(*transfer) bool) *transfer {
	tried := []*transfer{v.epsv, v.pasv}
	if i := slices.IndexFunc(tried, func(t *transfer) bool { return t != nil && far(t) }); i >= 0 {
		return tried[i]
	}
	return nil
}

// isTimeout tells whether an error is the end of somebody's patience.
func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}
