package servercheck

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/ftpclient"
)

// maxPorts is how many passive ports are collected, those of the transfers included.
const maxPorts = 8

// anonymousPassword is the password of anonymous: RFC 1635 asks for a mail address.
const anonymousPassword = "doctor@ftpgate.invalid"

var (
	errUntrusted  = errors.New("login: the certificate is not trusted")
	errUnsendable = errors.New("login: the end of a line in the user's name or the password")
)

// prober tries one address of the server.
type prober struct {
	forward    forward.Forward
	o          Options
	at         netip.AddrPort
	unfinished bool // ctx was done: later results mean nothing

	// Of the attempt under way.
	attempt *attempt
	control *control // nil: none
}

// probe tries one address: as the forward does, and if that is in clear, also in TLS, as far as clients use
// it.
func probe(ctx context.Context, f forward.Forward, o Options, at netip.AddrPort) report {
	p := &prober{forward: f, o: o, at: at}
	r := report{at: at}
	if f.TLS.Server != forward.ServerTLSOff {
		r.tls = p.try(ctx, f.TLS.Server, p.tryModes)
	} else {
		r.clear = p.try(ctx, forward.ServerTLSOff, p.tryModes)
		_, demanded := r.clear.demandsTLS()
		switch {
		case r.clear.implicit:
			r.tls = p.try(ctx, forward.ServerTLSImplicit, p.tryModes)
		case demanded:
			r.tls = p.try(ctx, forward.ServerTLSRequired, p.tryModes)
		case r.clear.greeting == nil || !r.clear.greeting.positive():
		case passesTLS(f):
			r.tls = p.try(ctx, forward.ServerTLSRequired, p.tryReuse)
		default:
			r.tls = p.try(ctx, forward.ServerTLSRequired, nil)
		}
	}
	r.unfinished = p.unfinished
	return r
}

// timeOver reports whether the time is over, so that a failure is not the server's.
func (p *prober) timeOver(ctx context.Context) bool {
	p.unfinished = p.unfinished || ctx.Err() != nil
	return p.unfinished
}

// passesTLS reports whether sessions in TLS pass through the gateway unread.
func passesTLS(f forward.Forward) bool {
	return f.Tracking == forward.TrackingNone || f.PassesThrough()
}

// try speaks with the server in one way: through the login and transfers, or, if transfers is nil, without a
// login up to the handshake.
func (p *prober) try(ctx context.Context, security forward.ServerTLS,
	transfers func(context.Context)) *attempt {
	try := &attempt{security: security}
	if p.unfinished {
		return try
	}
	p.attempt = try
	if p.start(ctx, &try.setup, 0, transfers != nil) && transfers != nil {
		transfers(ctx)
	}
	p.quit()
	if try.handshake != nil && try.handshake.err == nil && !p.unfinished {
		version := uint16(tls.VersionTLS13)
		if try.handshake.version == version {
			version = tls.VersionTLS12
		}
		var s setup
		p.start(ctx, &s, version, false)
		p.quit()
		try.otherVersion = s.handshake
	}
	return try
}

// quit ends the session, if there is one.
func (p *prober) quit() {
	if p.control != nil {
		p.control.quit()
		p.control = nil
	}
}

// start begins a session and records it up to the end of the login, or without one up to the end of the
// handshake. It reports success. version is the only TLS version to offer; 0: any.
func (p *prober) start(ctx context.Context, s *setup, version uint16, login bool) bool {
	p.quit()
	began := time.Now()
	c, err := dial(ctx, p.at, p.o.Timeouts, p.forward.SendProxyProtocol)
	if p.timeOver(ctx) {
		if c != nil {
			c.quit()
		}
		return false
	}
	s.dialErr, s.dialTook = err, time.Since(began)
	if err != nil {
		return false
	}
	p.control = c
	switch p.attempt.security {
	case forward.ServerTLSImplicit:
		return p.handshake(ctx, s, version) && login && p.greet(ctx, s) && p.login(ctx, s) &&
			p.protect(ctx, s)
	case forward.ServerTLSRequired:
		return p.greet(ctx, s) && p.auth(ctx, s) && p.handshake(ctx, s, version) && login &&
			p.login(ctx, s) && p.protect(ctx, s)
	}
	return p.greet(ctx, s) && p.login(ctx, s)
}

// ask sends a command and returns the answer; nil: the time is over.
func (p *prober) ask(ctx context.Context, verb, arg string) *answer {
	a := p.control.ask(verb, arg)
	if p.timeOver(ctx) {
		return nil
	}
	return &a
}

// greet waits for the greeting and asks for the features.
func (p *prober) greet(ctx context.Context, s *setup) bool {
	began := time.Now()
	a := p.control.reply(p.control.limit)
	took := time.Since(began)
	if p.timeOver(ctx) {
		return false
	}
	if isTimeout(a.err) && a.heard == "" && p.attempt.security == forward.ServerTLSOff {
		s.implicit = p.answersClientHello(ctx)
	}
	s.greeting, s.greetingTook = &a, took
	if !a.positive() {
		return false
	}
	s.feat = p.ask(ctx, "FEAT", "")
	return s.feat != nil && !p.control.lost
}

// answersClientHello begins another connection with TLS, which an implicit server waits for.
func (p *prober) answersClientHello(ctx context.Context) bool {
	c, err := dial(ctx, p.at, p.o.Timeouts, p.forward.SendProxyProtocol)
	if err != nil {
		return false
	}
	defer c.quit()
	err = c.encrypt(ctx, p.tlsConfig(0))
	c.lost = true // it owes a greeting, and no reply to QUIT
	return err == nil || isAlert(err)
}

// tlsConfig returns the TLS of control connections.
func (p *prober) tlsConfig(version uint16) *tls.Config {
	config := p.o.TLS.Clone()
	config.ServerName = certificateName(p.forward, p.o)
	if version != 0 {
		config.MinVersion, config.MaxVersion = version, version
	}
	return config
}

func (p *prober) auth(ctx context.Context, s *setup) bool {
	s.auth = p.ask(ctx, "AUTH", "TLS")
	return s.auth != nil && s.auth.err == nil && s.auth.Code == 234
}

func (p *prober) handshake(ctx context.Context, s *setup, version uint16) bool {
	config := p.tlsConfig(version)
	err := p.control.encrypt(ctx, config)
	if p.timeOver(ctx) {
		return false
	}
	s.handshake = &handshake{err: err}
	if err != nil {
		return false
	}
	state := p.control.tlsState
	s.handshake.version, s.handshake.cipher, s.handshake.chain = state.Version, state.CipherSuite,
		state.PeerCertificates
	s.handshake.certErr = p.o.Trust.Verify(state.PeerCertificates, config.ServerName, time.Now())
	return true
}

func (p *prober) login(ctx context.Context, s *setup) bool {
	user, password := cmp.Or(p.o.User, "anonymous"), cmp.Or(p.o.Password, anonymousPassword)
	switch {
	case !sendable(user) || !sendable(password):
		s.loginSkipped = errUnsendable
	case s.handshake != nil && s.handshake.certErr != nil && !p.forward.TLS.Insecure && p.o.Password != "":
		s.loginSkipped = errUntrusted
	}
	if s.loginSkipped != nil {
		return false
	}
	s.loginVerb, s.login = "USER", p.ask(ctx, "USER", user)
	if s.login != nil && s.login.err == nil && s.login.Code == 331 {
		s.loginVerb, s.login = "PASS", p.ask(ctx, "PASS", password)
	}
	if s.login == nil || !s.login.positive() {
		return false
	}
	if s.feat.err == nil && s.feat.Code == 530 { // it requires a login first
		s.feat = p.ask(ctx, "FEAT", "")
	}
	return s.feat != nil && !p.control.lost
}

// protect makes data connections private, or clear if the forward says so.
func (p *prober) protect(ctx context.Context, s *setup) bool {
	if s.pbsz = p.ask(ctx, "PBSZ", "0"); s.pbsz == nil || s.pbsz.err != nil {
		return false
	}
	level := "P"
	if p.forward.TLS.ServerDataClear {
		level = "C"
	}
	s.prot = p.ask(ctx, "PROT", level)
	return s.prot != nil && s.prot.err == nil && p.forward.TLS.AgreesOnData(s.prot.Code)
}

// tryModes lists over each kind of data connection.
func (p *prober) tryModes(ctx context.Context) {
	try := p.attempt
	resume := func(t *transfer) { p.listPassive(ctx, t, true) }
	v4 := p.at.Addr().Is4() // PASV and PORT have no room for IPv6
	try.epsv = p.transfer(ctx, ftpclient.EPSV, resume)
	if v4 {
		try.pasv = p.transfer(ctx, ftpclient.PASV, resume)
	}
	if p.triesActive() {
		active := func(t *transfer) { p.listActive(ctx, t, p.control.Local().Addr()) }
		if v4 {
			try.port = p.transfer(ctx, ftpclient.PORT, active)
		}
		try.eprt = p.transfer(ctx, ftpclient.EPRT, active)
	}
	p.collectPorts(ctx)
	p.tryUnresumed(ctx)
}

// tryReuse lists over a passive data connection that resumes the session of the control connection, and over
// one that does not.
func (p *prober) tryReuse(ctx context.Context) {
	try := p.attempt
	resume := func(t *transfer) { p.listPassive(ctx, t, true) }
	if try.epsv = p.transfer(ctx, ftpclient.EPSV, resume); !try.epsv.worked() && p.at.Addr().Is4() {
		try.pasv = p.transfer(ctx, ftpclient.PASV, resume)
	}
	p.tryUnresumed(ctx)
}

// tryUnresumed lists over a data connection that does not resume the session of the control connection, if
// one that does has worked. It is the last step: some servers end the session of such a client.
func (p *prober) tryUnresumed(ctx context.Context) {
	try := p.attempt
	if t := try.firstPassive(func(t *transfer) bool { return t.encrypted && t.worked() }); t != nil {
		try.unresumed = p.transfer(ctx, t.mode, func(t *transfer) { p.listPassive(ctx, t, false) })
	}
}

// triesActive reports whether to try active mode: if the options ask for it, and the forward can use it.
func (p *prober) triesActive() bool {
	p.attempt.activeUnused = p.o.Active && (p.forward.Tracking == forward.TrackingNone ||
		p.forward.PassesThrough() && p.attempt.security != forward.ServerTLSOff)
	return p.o.Active && !p.attempt.activeUnused
}

// ensureSession starts a new session if the present one is lost, so that a failure of one step does not
// affect the next. It reports whether there is a session in which to list.
func (p *prober) ensureSession(ctx context.Context) bool {
	if p.control != nil && !p.control.lost {
		return true
	}
	var s setup
	return p.start(ctx, &s, 0, true)
}

// transfer makes one transfer by calling list in a sound session; nil: the time is over.
func (p *prober) transfer(ctx context.Context, mode ftpclient.Mode, list func(*transfer)) *transfer {
	if p.unfinished {
		return nil
	}
	t := &transfer{mode: mode, skipped: !p.ensureSession(ctx)}
	if !t.skipped {
		list(t)
	}
	if p.timeOver(ctx) {
		return nil
	}
	return t
}

// collectPorts asks for more passive ports without using them.
func (p *prober) collectPorts(ctx context.Context) {
	known := p.attempt.firstPassive((*transfer).negotiated)
	if known == nil || p.unfinished || !p.ensureSession(ctx) {
		return
	}
	for len(p.attempt.ports) < maxPorts && !p.control.lost && !p.timeOver(ctx) {
		t := &transfer{mode: known.mode}
		if p.negotiate(t); !t.negotiated() {
			return
		}
	}
}

// isTimeout reports whether an error is an expired deadline.
func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}
