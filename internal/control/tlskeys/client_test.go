package tlskeys

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
)

const (
	textNotResumed = "the data connection does not resume the TLS session of the control connection"
	textOtherUser  = "the data connection resumes the TLS session of a control connection " +
		"that is not logged in as the same user"
)

// theClient is the address of a test's client.
var theClient = netip.MustParseAddr("192.0.2.7")

// strictForward is a forward with tls.session_reuse, and the authority of its certificate.
func strictForward(t testing.TB) (forward.Forward, signed) {
	t.Helper()
	ca := authority(t)
	cert := sign(t, ca, nil)
	return terminated(put(t, "both.pem", cert.certPEM(), cert.keyPEM()), ""), ca
}

// begin completes a client's control connection, and logs a user in; "": none.
func begin(t testing.TB, k *Keys, f forward.Forward, from netip.Addr, client *tls.Config,
	user string) *ClientTLS {
	t.Helper()
	s, err := k.ForClient(f, from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if s, c := shake(t, s.Control(), client); s.err != nil || c.err != nil || c.DidResume {
		t.Fatalf("control: server %v, client %v, resumed %t", s.err, c.err, c.DidResume)
	}
	if user != "" {
		s.Login(user, true)
	}
	return s
}

// shakeData is shake for a data connection of a session, which may have to wait until it is admitted.
func shakeData(t testing.TB, s *ClientTLS, client *tls.Config) (
	atServer, atClient end, admit func(tls.ConnectionState) (<-chan struct{}, error), wait <-chan struct{},
) {
	t.Helper()
	config, admit := s.Data()
	if atServer, atClient = shake(t, config, client); atServer.err == nil {
		wait, atServer.err = admit(atServer.ConnectionState)
	}
	return atServer, atClient, admit, wait
}

// wantRefused expects that a data connection is refused, after a handshake without an alert.
func wantRefused(t testing.TB, s *ClientTLS, client *tls.Config, reason string) {
	t.Helper()
	atServer, atClient, _, wait := shakeData(t, s, client)
	if policy, ok := errors.AsType[*PolicyError](atServer.err); !ok || policy.Reason() != reason ||
		wait != nil {
		t.Errorf("got %v, wait %t; want a refusal at once: %s", atServer.err, wait != nil, reason)
	}
	if atClient.err != nil {
		t.Errorf("at the client: got %v; want no alert", atClient.err)
	}
}

// wantAdmitted expects that a data connection is let in at once.
func wantAdmitted(t testing.TB, s *ClientTLS, client *tls.Config, resumed bool) {
	t.Helper()
	atServer, atClient, _, _ := shakeData(t, s, client)
	if atServer.err != nil || atClient.err != nil || atServer.DidResume != resumed {
		t.Errorf("server %v, client %v, resumed %t; want none, none, %t", atServer.err, atClient.err,
			atServer.DidResume, resumed)
	}
}

// A data connection resumes the session of its own control connection, or of another one that lives, of the
// same client address and user. All others are refused.
func TestClientData(t *testing.T) {
	f, ca := strictForward(t)
	elsewhere := f
	elsewhere.Name = "elsewhere"
	k, _, _ := keys(t, f, elsewhere)
	for _, version := range bothVersions {
		for name, tt := range map[string]struct {
			other   func(t *testing.T, client *tls.Config) // has the client get another session's ticket
			refused bool
		}{
			"own": {func(*testing.T, *tls.Config) {}, false},
			"no ticket": {func(_ *testing.T, client *tls.Config) {
				client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			}, true},
			"no tickets at all": {func(_ *testing.T, client *tls.Config) {
				client.SessionTicketsDisabled, client.ClientSessionCache = true, nil
			}, true},
			"another connection's": {func(t *testing.T, client *tls.Config) {
				begin(t, k, f, theClient, client, "alice")
			}, false},
			"another user's": {func(t *testing.T, client *tls.Config) {
				begin(t, k, f, theClient, client, "mallory")
			}, true},
			"another user's, before alice": {func(t *testing.T, client *tls.Config) {
				begin(t, k, f, theClient, client, "alice").Login("mallory", true)
			}, true},
			"another address's": {func(t *testing.T, client *tls.Config) {
				begin(t, k, f, netip.MustParseAddr("192.0.2.8"), client, "alice")
			}, true},
			"another forward's": {func(t *testing.T, client *tls.Config) {
				begin(t, k, elsewhere, theClient, client, "alice")
			}, true},
			"a closed connection's": {func(t *testing.T, client *tls.Config) {
				begin(t, k, f, theClient, client, "alice").Close()
			}, true},
			"another gateway's": {func(t *testing.T, client *tls.Config) {
				otherKeys, _, _ := keys(t, f)
				begin(t, otherKeys, f, theClient, client, "alice")
			}, true},
		} {
			t.Run(tls.VersionName(version)+" "+name, func(t *testing.T) {
				client := trusting(ca, version)
				s := begin(t, k, f, theClient, client, "alice")
				tt.other(t, client)
				for range 3 {
					if tt.refused {
						wantRefused(t, s, client, textNotResumed)
					} else {
						wantAdmitted(t, s, client, true)
					}
				}
			})
		}
	}
}

// While no user is logged in on the other control connection, it is open whether its session may be resumed.
func TestClientDataWaits(t *testing.T) {
	f, ca := strictForward(t)
	k, _, _ := keys(t, f)
	for _, version := range bothVersions {
		for name, tt := range map[string]struct {
			then     func(other *ClientTLS)
			admitted bool
		}{
			"the same user": {func(other *ClientTLS) { other.Login("alice", true) }, true},
			"another user":  {func(other *ClientTLS) { other.Login("mallory", true) }, false},
			"the end":       {func(other *ClientTLS) { other.Close() }, false},
		} {
			t.Run(tls.VersionName(version)+" "+name, func(t *testing.T) {
				client := trusting(ca, version)
				s := begin(t, k, f, theClient, client, "alice")
				other := begin(t, k, f, theClient, client, "")
				atServer, _, admit, wait := shakeData(t, s, client)
				if wait == nil || atServer.err == nil {
					t.Fatalf("got %v, and no wait; want to wait", atServer.err)
				}
				select {
				case <-wait:
					t.Fatal("the wait is over before anything has changed")
				default:
				}
				tt.then(other)
				<-wait
				wait, err := admit(atServer.ConnectionState)
				if wait != nil || (err == nil) != tt.admitted {
					t.Errorf("got %v, wait %t; want admitted %t", err, wait != nil, tt.admitted)
				}
				if tt.admitted {
					return
				}
				wantWords(t, err, textOtherUser, "session_reuse = false")
				// Whatever tickets the client was given meanwhile are worth no more than the one that it had.
				wantRefused(t, s, client, textNotResumed)
			})
		}
	}
}

// A ticket without its session's secret is worth nothing.
func TestStolenTicket(t *testing.T) {
	f, ca := strictForward(t)
	k, _, _ := keys(t, f)
	for _, version := range bothVersions {
		client, thief := trusting(ca, version), trusting(ca, version)
		s := begin(t, k, f, theClient, client, "alice")
		begin(t, k, f, theClient, thief, "mallory")
		stolen, _ := client.ClientSessionCache.Get("gateway.test")
		own, _ := thief.ClientSessionCache.Get("gateway.test")
		ticket, _, err := stolen.ResumptionState()
		if err != nil {
			t.Fatal(err)
		}
		_, state, err := own.ResumptionState()
		if err != nil {
			t.Fatal(err)
		}
		forged, err := tls.NewResumptionState(ticket, state)
		if err != nil {
			t.Fatal(err)
		}
		thief.ClientSessionCache.Put("gateway.test", forged)
		if atServer, atClient, _, _ := shakeData(t, s, thief); atServer.err == nil || atClient.err == nil {
			t.Errorf("%s: got server %v, client %v; want both refused", tls.VersionName(version),
				atServer.err,
				atClient.err)
		}
	}
}

// Who presents a ticket and then does a full handshake all the same has resumed nothing.
func TestTicketNotResumed(t *testing.T) {
	f, ca := strictForward(t)
	k, _, _ := keys(t, f)
	client := trusting(ca, tls.VersionTLS13)
	s := begin(t, k, f, theClient, client, "alice")
	kept, _ := client.ClientSessionCache.Get("gateway.test")
	ticket, _, err := kept.ResumptionState()
	if err != nil {
		t.Fatal(err)
	}
	config, admit := s.Data()
	if session, err := config.UnwrapSession(ticket, tls.ConnectionState{}); session == nil || err != nil {
		t.Fatalf("got %v, %v; want the ticket's session", session, err)
	}
	if wait, err := admit(tls.ConnectionState{Version: tls.VersionTLS13}); err == nil || wait != nil {
		t.Errorf("got %v; want a refusal", err)
	}
}

// cache is a client's cache of one session.
type cache struct {
	kept  *tls.ClientSessionState
	once  bool // each session is used once, as OpenSSL does it
	given int  // number of sessions
}

func (c *cache) Get(string) (*tls.ClientSessionState, bool) {
	kept := c.kept
	if c.once {
		c.kept = nil
	}
	return kept, kept != nil
}

func (c *cache) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		c.kept = s
		c.given++
	}
}

// Data connections give out tickets to clients that use each one once, and to no others.
func TestDataTickets(t *testing.T) {
	f, ca := strictForward(t)
	k, _, _ := keys(t, f)
	optional := f
	optional.TLS.SessionReuseOptional = true
	for name, tt := range map[string]struct {
		forward forward.Forward
		once    bool
		given   int // with the control connection's
	}{
		"used once":                  {f, true, 6},
		"kept":                       {f, false, 2}, // with the first, that is not known
		"session_reuse = false":      {optional, false, 1},
		"session_reuse = false, new": {optional, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			client, kept := trusting(ca, tls.VersionTLS13), &cache{once: tt.once}
			client.ClientSessionCache = kept
			s := begin(t, k, tt.forward, theClient, client, "alice")
			first := kept.kept
			for i := range 5 {
				if !tt.once {
					kept.kept = first // a client that writes reads no ticket
				}
				wantAdmitted(t, s, client, !tt.forward.TLS.SessionReuseOptional || !tt.once || i == 0)
			}
			if kept.given != tt.given {
				t.Errorf("got %d tickets; want %d", kept.given, tt.given)
			}
		})
	}
}

// With session_reuse = false any connection is accepted.
func TestClientDataOptional(t *testing.T) {
	f, ca := strictForward(t)
	f.TLS.SessionReuseOptional = true
	k, _, _ := keys(t, f)
	for _, version := range bothVersions {
		client := trusting(ca, version)
		s := begin(t, k, f, theClient, client, "alice")
		wantAdmitted(t, s, client, true)
		wantAdmitted(t, s, trusting(ca, version), false)
		begin(t, k, f, theClient, client, "mallory")
		wantAdmitted(t, s, client, false)
	}
}

// Nothing is kept of a control connection that has ended.
func TestClientClosed(t *testing.T) {
	f, ca := strictForward(t)
	k, _, _ := keys(t, f)
	s := begin(t, k, f, theClient, trusting(ca, tls.VersionTLS13), "alice")
	s.Close()
	s.Close()
	if n := len(k.tickets.living); n != 0 {
		t.Errorf("%d control connections are kept; want none", n)
	}
}

// TLS 1.2 has a remedy of its own.
func TestNotResumedRemedy(t *testing.T) {
	wantWords(t, notResumed(tls.VersionTLS12), textNotResumed, "have it use TLS 1.3")
	wantWords(t, notResumed(tls.VersionTLS13), textNotResumed, "session_reuse = false lets such clients in")
}

// There is no TLS 1.1, on control and on data.
func TestClientTooOld(t *testing.T) {
	f, ca := strictForward(t)
	k, _, _ := keys(t, f)
	own, err := k.ForClient(f, theClient)
	if err != nil {
		t.Fatal(err)
	}
	data, _ := own.Data()
	for _, config := range []*tls.Config{own.Control(), data} {
		s, c := shake(t, config, trusting(ca, tls.VersionTLS11))
		if s.err == nil || c.err == nil {
			t.Fatalf("server %v, client %v; want both refused", s.err, c.err)
		}
		wantWords(t, s.err, alerts[70].reason, "TLS 1.2 is the oldest")
	}
}

// A renewal in the middle of a session does not show on its data connections.
func TestClientSameCertificate(t *testing.T) {
	ca := authority(t)
	before, after := sign(t, ca, nil), sign(t, ca, nil)
	f := terminated(put(t, "both.pem", before.certPEM(), before.keyPEM()), "")
	f.TLS.SessionReuseOptional = true
	k, at, _ := keys(t, f)
	s := begin(t, k, f, theClient, trusting(ca, tls.VersionTLS13), "alice")
	put(t, f.TLS.Cert, after.certPEM(), after.keyPEM(), []byte("\n"))
	k.Refresh(at.pass(time.Minute))
	wantShown(t, k, f, trusting(ca, tls.VersionTLS13), after)
	if _, c, _, _ := shakeData(t, s, trusting(ca, tls.VersionTLS13)); c.err != nil ||
		!c.PeerCertificates[0].Equal(before.cert) {
		t.Errorf("data of the old session: error %v, or another certificate; want the old one", c.err)
	}
}

func BenchmarkForClient(b *testing.B) {
	f, _ := strictForward(b)
	k, _, _ := keys(b, f)
	b.ReportAllocs()
	for b.Loop() {
		s, err := k.ForClient(f, theClient)
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}

// BenchmarkData is one data connection of a client, resumed, with its TCP connection.
func BenchmarkData(b *testing.B) {
	f, ca := strictForward(b)
	k, _, _ := keys(b, f)
	client := trusting(ca, tls.VersionTLS13)
	s := begin(b, k, f, theClient, client, "alice")
	for b.Loop() {
		wantAdmitted(b, s, client, true)
	}
}
