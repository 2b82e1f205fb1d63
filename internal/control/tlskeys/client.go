package tlskeys

import (
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
)

// ClientTLS is the TLS of one control connection of a client, and of the data connections that belong to it.
// The gateway is the TLS server. Several goroutines may call its methods at once.
//
// A client that opens several control connections may share one cache of TLS sessions between them (Go,
// curl), so that a data connection may resume the session of another control connection than its own. This is
// allowed if that one has not ended, and has the same forward, client address and user.
type ClientTLS struct {
	tickets       *clientTickets
	control       *tls.Config
	cert          *sessionCert
	id            string // in the tickets of this session
	forward       string
	client        netip.Addr
	reuseOptional bool // tls.session_reuse = false
	allowsName    func(name string) bool
	minVersion    forward.TLSVersion
	certs         clientCerts

	// These are guarded by tickets.mu.
	user     string
	loggedIn bool
	ended    bool
	changed  chan struct{} // closed, and made anew, when one of the three before changes
	used     string        // the ticket by which a data connection resumed this session last
	reuses   bool          // the client uses a ticket more than once
}

// clientTickets are the tickets that clients get. A ticket has the session's keys, encrypted, and the id of
// the control connection that it was given out for. It is void as soon as that has ended.
type clientTickets struct {
	keys tls.Config // crypto/tls makes a new key every day, and forgets it after a week

	mu     sync.Mutex
	living map[string]*ClientTLS // the control connections that have not ended, by id
}

// ticketMark stands before the id in tls.SessionState.Extra, as crypto/tls wants it.
const ticketMark = "ftpgate control connection "

// ForClient returns the TLS of one session with a client. The data connections present the same certificate
// as the control connection, even if the files change.
//
// Call it once a session, before its TLS begins, and close what it returns when the control connection ends.
// It stays valid after the forward is loaded again or removed. ForClient fails if no Load has read a
// certificate for the forward.
func (k *Keys) ForClient(f forward.Forward, client netip.Addr) (*ClientTLS, error) {
	n := k.state.Load().forwards[f.Name]
	if n == nil || n.cert == nil {
		return nil, fmt.Errorf("tlskeys: TLS with a client of forward %q: no certificate is loaded", f.Name)
	}
	s := &ClientTLS{
		tickets: &k.tickets, cert: &sessionCert{pair: n.cert, now: k.now}, id: rand.Text(), forward: f.Name,
		client: client, reuseOptional: f.TLS.SessionReuseOptional, allowsName: f.TLS.AllowsName,
		minVersion: f.TLS.ClientMinVersion, certs: k.newClientCerts(n), changed: make(chan struct{}),
	}
	s.control = &tls.Config{
		NextProtos: protocols, GetConfigForClient: s.checkName,
		GetCertificate: s.cert.control, WrapSession: s.giveTicket,
		UnwrapSession: func([]byte, tls.ConnectionState) (*tls.SessionState, error) { return nil, nil },
	}
	setMinVersion(s.control, s.minVersion)
	s.certs.ask(s.control, f.TLS.ClientAuthOptional)
	k.tickets.mu.Lock()
	defer k.tickets.mu.Unlock()
	k.tickets.living[s.id] = s
	return s, nil
}

// protocols are what clients may ask for by ALPN (RFC 7301): a browser's session must not end at an FTP
// server (ALPACA). Clients that ask for nothing, as most do, are accepted. FileZilla asks for "ftp" and for
// "x-filezilla-ftp" on control connections, and for "ftp-data" only if it got the second, whose rules are
// FileZilla's own.
var protocols = []string{"ftp", "ftp-data"}

// checkName implements tls.Config.GetConfigForClient: a client that asks for a name of another server gets a
// configuration without a certificate, and so the alert unrecognized_name (RFC 6066 section 3).
func (s *ClientTLS) checkName(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if s.allowsName(hello.ServerName) {
		return nil, nil
	}
	return &tls.Config{MinVersion: s.control.MinVersion}, nil
}

// Control returns the configuration of the control connection. Its handshake is always a full one.
func (s *ClientTLS) Control() *tls.Config { return s.control }

// Login sets whether a user is logged in, and who.
func (s *ClientTLS) Login(user string, in bool) {
	s.tickets.mu.Lock()
	defer s.tickets.mu.Unlock()
	s.user, s.loggedIn = user, in
	s.notify()
}

// Close notes the end of the control connection: no data connection of another one may resume its session any
// more. It is idempotent.
func (s *ClientTLS) Close() {
	s.tickets.mu.Lock()
	defer s.tickets.mu.Unlock()
	s.ended = true
	delete(s.tickets.living, s.id)
	s.notify()
}

// notify wakes all goroutines that wait for a change. It is called with the lock held.
func (s *ClientTLS) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// giveTicket implements tls.Config.WrapSession for the control connection.
func (s *ClientTLS) giveTicket(c tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
	session.Extra = append(session.Extra, []byte(ticketMark+s.id))
	return s.tickets.keys.EncryptTicket(c, session)
}

// read returns the TLS session of a ticket, and the id of its control connection; nil: the ticket is not
// ours.
func (t *clientTickets) read(ticket []byte, c tls.ConnectionState) (session *tls.SessionState, id string) {
	session, err := t.keys.DecryptTicket(ticket, c)
	if err != nil || session == nil {
		return nil, ""
	}
	for _, extra := range session.Extra {
		if id, ok := strings.CutPrefix(string(extra), ticketMark); ok {
			return session, id
		}
	}
	return nil, ""
}

// find returns the session with an id, for a data connection of own; nil: its control connection has ended.
func (t *clientTickets) find(own *ClientTLS, id string) *ClientTLS {
	t.mu.Lock()
	defer t.mu.Unlock()
	if id == own.id { // also while its control connection ends
		return own
	}
	return t.living[id]
}

// markUsed notes that a data connection has resumed the session by a ticket.
func (s *ClientTLS) markUsed(ticket string) {
	s.tickets.mu.Lock()
	defer s.tickets.mu.Unlock()
	s.reuses = s.reuses || s.used == ticket
	s.used = ticket
}

// needsTicket reports whether a client that resumes the session by a ticket needs another one for the next
// time.
func (s *ClientTLS) needsTicket(ticket string) bool {
	s.tickets.mu.Lock()
	defer s.tickets.mu.Unlock()
	return !s.reuses && s.used != ticket
}

// mayResume reports whether a data connection of own may resume the session of s. If wait is not nil, that is
// undecided because no user is logged in there: ask again when wait is closed.
func (t *clientTickets) mayResume(own, s *ClientTLS) (ok bool, wait <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case s == own:
		return true, nil
	case s == nil, s.ended, s.forward != own.forward, s.client != own.client:
		return false, nil
	case !s.loggedIn:
		return false, s.changed
	}
	return own.loggedIn && s.user == own.user, nil
}

// Data returns the configuration of one data connection, and admit, which the caller calls after the
// handshake: it returns an error, a *PolicyError, if the connection may not carry data. If wait is not nil,
// that error is not final: ask again when wait is closed.
func (s *ClientTLS) Data() (
	config *tls.Config, admit func(tls.ConnectionState) (wait <-chan struct{}, err error),
) {
	d := &clientData{session: s}
	d.config = &tls.Config{
		NextProtos: protocols, GetConfigForClient: s.checkName,
		GetCertificate: d.certificate,
		WrapSession:    d.giveTicket, UnwrapSession: d.takeTicket,
		DynamicRecordSizingDisabled: true, // for bulk data, not for short answers
	}
	setMinVersion(d.config, s.minVersion)
	s.certs.askAgain(d.config)
	return d.config, d.admit
}

// clientData is the TLS of one data connection. Its methods are called by the goroutine of its handshake.
//
// A data connection gives out a ticket only if it has to. Many clients (Go, perl) do not read it while they
// write a file; their kernel then resets the connection when they close it, and drops what it has not sent
// yet. But OpenSSL uses each ticket of TLS 1.3 once, and needs a new one for the next data connection. A
// client that presents a ticket for the second time does not need it.
//
// crypto/tls gives out tickets wherever it resumes sessions, and so d turns them off in the middle of the
// handshake. The configuration belongs to this one connection, which reads it in the same goroutine.
type clientData struct {
	session *ClientTLS // of its control connection
	config  *tls.Config

	ticket  string     // the last one that the client presented
	resumes *ClientTLS // its session; nil: the client must not resume that
	allowed bool       // it may resume it; false: no, or not decided yet
	marked  bool       // the ticket was marked as used
}

// takeTicket implements tls.Config.UnwrapSession: it returns the TLS session of a ticket; nil: the client
// must not resume it. A client may present several; crypto/tls goes on until one will do.
func (d *clientData) takeTicket(ticket []byte, c tls.ConnectionState) (*tls.SessionState, error) {
	d.ticket, d.resumes, d.allowed, d.config.SessionTicketsDisabled = string(ticket), nil, false, true
	tickets := d.session.tickets
	session, id := tickets.read(ticket, c)
	if session == nil {
		return nil, nil
	}
	s := tickets.find(d.session, id)
	ok, wait := tickets.mayResume(d.session, s)
	if !ok && wait == nil {
		return nil, nil
	}
	d.resumes, d.allowed = s, ok
	d.config.SessionTicketsDisabled = d.session.reuseOptional || !s.needsTicket(d.ticket)
	return session, nil
}

// giveTicket implements tls.Config.WrapSession. It is called only where the client resumes a session. While
// it is undecided whether it may, the new ticket permits no more than the client's old one.
func (d *clientData) giveTicket(c tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
	if d.allowed {
		return d.session.giveTicket(c, session)
	}
	return d.resumes.giveTicket(c, session)
}

// certificate implements tls.Config.GetCertificate. In TLS 1.3 crypto/tls calls it only if the client resumes
// no session, in TLS 1.2 in every handshake, before takeTicket.
func (d *clientData) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if slices.Contains(hello.SupportedVersions, tls.VersionTLS13) {
		d.config.SessionTicketsDisabled = true
	}
	return d.session.cert.data(hello)
}

// admit refuses a data connection that may be from another program than the client of the control connection
// (RFC 4217 section 10.2 leaves the choice to the server).
func (d *clientData) admit(c tls.ConnectionState) (wait <-chan struct{}, err error) {
	if c.DidResume && !d.marked {
		d.marked = true
		d.resumes.markUsed(d.ticket)
	}
	if err := d.session.certs.sameAs(c.PeerCertificates); err != nil {
		return nil, err
	}
	switch {
	case d.session.reuseOptional, c.DidResume && d.allowed:
		return nil, nil
	case !c.DidResume:
		return nil, notResumed(c.Version)
	}
	ok, wait := d.session.tickets.mayResume(d.session, d.resumes)
	if ok {
		return nil, nil
	}
	return wait, &PolicyError{explanation{
		reason: "the data connection resumes the TLS session of a control connection " +
			"that is not logged in as the same user",
		remedy: "use a client that resumes sessions of its own; session_reuse = false lets such clients in",
	}, verdict.CodeSessionReuseMissing}
}

// notResumed returns the refusal of a data connection that resumes no session, or one that it must not.
func notResumed(version uint16) *PolicyError {
	e := &PolicyError{explanation{
		reason: "the data connection does not resume the TLS session of the control connection",
		remedy: "use a client that resumes sessions; session_reuse = false lets such clients in",
	}, verdict.CodeSessionReuseMissing}
	switch { // crypto/tls supports nothing but tickets before TLS 1.3
	case version == tls.VersionTLS12:
		e.remedy = "with TLS 1.2 a client can resume only by tickets (RFC 5077), which curl does not ask " +
			"for: have it use TLS 1.3; " +
			"session_reuse = false lets such clients in"
	case version < tls.VersionTLS12:
		e.remedy = "with " + tls.VersionName(version) + " a client can resume only by tickets (RFC 5077), " +
			"which many old devices do not know: session_reuse = false lets such clients in"
	}
	return e
}

// sessionCert is the certificate that one session presents.
type sessionCert struct {
	pair *pair
	now  func() time.Time
	cert atomic.Pointer[tls.Certificate] // of the control connection
}

func (s *sessionCert) control(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	cert := s.pair.get(s.now())
	s.cert.Store(cert)
	return cert, nil
}

func (s *sessionCert) data(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if cert := s.cert.Load(); cert != nil {
		return cert, nil
	}
	return s.pair.get(s.now()), nil
}
