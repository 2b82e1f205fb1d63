package tlskeys

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/try/testca"
)

// mutual is a forward that wants certificates of clients, with their authority.
type mutual struct {
	forward.Forward
	servers, clients signed // authorities
}

func newMutual(t *testing.T) mutual {
	t.Helper()
	f, servers := strictForward(t)
	m := mutual{f, servers, authority(t)}
	m.TLS.Client = forward.ClientTLSRequired
	m.TLS.ClientCA = put(t, "clients.pem", m.clients.certPEM())
	return m
}

// client is the TLS of a client with a certificate, or without one.
func (m mutual) client(version uint16, own ...signed) *tls.Config {
	c := trusting(m.servers, version)
	for _, s := range own {
		c.Certificates = append(c.Certificates, s.pair())
	}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if len(own) == 0 {
			return &tls.Certificate{}, nil
		}
		return &c.Certificates[0], nil // also where the gateway names another authority
	}
	return c
}

// device makes the certificate of a client.
func device(t *testing.T, by signed, change testca.Change) signed {
	t.Helper()
	return sign(t, by, func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		c.Subject = pkix.Name{CommonName: "scanner 7", Organization: []string{"Example"}}
		if change != nil {
			change(c)
		}
	})
}

// control does the handshake of a control connection, and asks whether the client may come in.
func control(t *testing.T, k *Keys, f forward.Forward, client *tls.Config) (s *ClientTLS, subject string,
	atClient, err error) {
	t.Helper()
	s, err = k.ForClient(f, theClient)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	server, there := shake(t, s.Control(), client)
	if server.err != nil {
		return s, "", there.err, server.err
	}
	subject, err = s.Admit(server.ConnectionState)
	return s, subject, there.err, err
}

// wantClientRefused asserts why a client is refused, as the client reads it.
func wantClientRefused(t *testing.T, s *ClientTLS, err error, want string) {
	t.Helper()
	code, reason, remedy := s.Explain(err)
	if code != verdict.CodeClientCertificate || reason != want || remedy == "" {
		t.Errorf("error %v: got %s, %q, remedy %q; want %q", err, code, reason, remedy, want)
	}
}

// TestClientCertificate: which certificates are admitted, TLS's alert for the client, and our message.
func TestClientCertificate(t *testing.T) {
	m := newMutual(t)
	good := device(t, m.clients, nil)
	stranger := authority(t)
	between := intermediate(t, m.clients)
	self := device(t, signed{}, nil)
	for name, test := range map[string]struct {
		own      []signed
		optional bool
		alert    string // at the client
		reason   string // empty: the client gets in
		subject  string
	}{
		"good":           {own: []signed{good}, subject: "CN=scanner 7,O=Example"},
		"good, optional": {own: []signed{good}, optional: true, subject: "CN=scanner 7,O=Example"},
		"none, optional": {optional: true},
		"none": {alert: "certificate required", reason: "the client presents no certificate, " +
			"and this forward requires one"},
		"unknown": {own: []signed{device(t, stranger, nil)}, alert: "unknown certificate authority",
			reason: "the client's certificate is not trusted: signed by an unknown authority"},
		"unknown optional": {own: []signed{self}, optional: true, alert: "unknown certificate authority",
			reason: "the client's certificate is not trusted: signed by an unknown authority"},
		"expired": {own: []signed{device(t, m.clients, expired)}, alert: "expired certificate",
			reason: "the client's certificate has expired"},
		"not yet": {own: []signed{device(t, m.clients, testca.NotYetValid)},
			alert: "expired certificate", reason: "the client's certificate is not valid yet"},
		"for servers": {own: []signed{sign(t, m.clients, nil)}, alert: "bad certificate",
			reason: "the client's certificate may not be used for a client"},
		"no intermediate": {own: []signed{device(t, between, nil)}, alert: "unknown certificate authority",
			reason: "the client's certificate is not trusted: signed by an unknown authority"},
	} {
		for _, version := range bothVersions {
			t.Run(name+"/"+tls.VersionName(version), func(t *testing.T) {
				f := m.Forward
				f.TLS.ClientAuthOptional = test.optional
				k, _, _ := keys(t, f)
				s, subject, atClient, err := control(t, k, f, m.client(version, test.own...))
				if test.reason == "" {
					if err != nil || subject != test.subject {
						t.Errorf("got %q, error %v; want %q", subject, err, test.subject)
					}
					return
				}
				wantClientRefused(t, s, err, test.reason)
				alert := test.alert
				if version == tls.VersionTLS12 && alert == "certificate required" {
					alert = "handshake failure" // TLS 1.2 has no alert of its own
				}
				if atClient == nil || !strings.Contains(atClient.Error(), alert) {
					t.Errorf("the client got %v; want the alert %q", atClient, alert)
				}
			})
		}
	}
}

// TestDataCertificate: a data connection has the certificate of its control connection, presented anew or
// resumed.
func TestDataCertificate(t *testing.T) {
	m := newMutual(t)
	m.TLS.SessionReuseOptional = true
	one, other := device(t, m.clients, nil), device(t, m.clients, nil)
	k, at, _ := keys(t, m.Forward)
	for _, version := range bothVersions {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			own := m.client(version, one)
			s, _, _, err := control(t, k, m.Forward, own)
			if err != nil {
				t.Fatal(err)
			}
			for name, test := range map[string]struct {
				client  *tls.Config
				resumed bool
				want    string
			}{
				"resumed":         {client: own, resumed: true},
				"presented again": {client: m.client(version, one)},
				"another": {client: m.client(version, other),
					want: "the data connection presents another certificate than the control connection"},
				"none": {client: m.client(version),
					want: "the data connection presents no certificate, unlike the control connection"},
			} {
				config, admit := s.Data()
				server, client := shake(t, config, test.client)
				if err := errors.Join(server.err, client.err); err != nil ||
					server.DidResume != test.resumed {
					t.Errorf("%s: resumed %t, error %v; want %t", name, server.DidResume, err, test.resumed)
					continue
				}
				_, err := admit(server.ConnectionState)
				if reason, remedy := Explain(err); reason != test.want || (reason == "") != (remedy == "") {
					t.Errorf("%s: got %q, remedy %q; want %q", name, reason, remedy, test.want)
				}
				policy := &PolicyError{}
				if test.want != "" && (!errors.As(err, &policy) ||
					policy.Code() != verdict.CodeClientCertificate) {
					t.Errorf("%s: got %v; want a verdict about the certificate", name, err)
				}
			}
		})
	}
	s, _, _, err := control(t, k, m.Forward, m.client(0, one))
	if err != nil {
		t.Fatal(err)
	}
	at.pass(one.cert.NotAfter.Sub(at.now()) + time.Second)
	_, admit := s.Data()
	_, err = admit(tls.ConnectionState{PeerCertificates: []*x509.Certificate{one.cert}})
	wantWords(t, err, "the client's certificate has expired during the session", "renewed")
}

// TestDataCertificateOfAnother: the session of another control connection has another certificate.
func TestDataCertificateOfAnother(t *testing.T) {
	m := newMutual(t)
	k, _, _ := keys(t, m.Forward)
	shared := m.client(tls.VersionTLS13, device(t, m.clients, nil))
	first, _, _, err := control(t, k, m.Forward, shared)
	if err != nil {
		t.Fatal(err)
	}
	first.Login("anna", true)
	second, _, _, err := control(t, k, m.Forward, m.client(tls.VersionTLS13, device(t, m.clients, nil)))
	if err != nil {
		t.Fatal(err)
	}
	second.Login("anna", true)
	config, admit := second.Data()
	server, client := shake(t, config, shared)
	if err := errors.Join(server.err, client.err); err != nil || !server.DidResume {
		t.Fatalf("resumed %t, error %v; want the first one's session", server.DidResume, err)
	}
	_, err = admit(server.ConnectionState)
	wantWords(t, err, "the data connection presents another certificate than the control connection", "one")
}

// TestOptionalWithout: with client_auth = "optional" a client without a certificate has its data.
func TestOptionalWithout(t *testing.T) {
	m := newMutual(t)
	m.TLS.ClientAuthOptional = true
	k, _, _ := keys(t, m.Forward)
	own := m.client(0)
	s, _, _, err := control(t, k, m.Forward, own)
	if err != nil {
		t.Fatal(err)
	}
	config, admit := s.Data()
	server, _ := shake(t, config, own)
	if _, err := admit(server.ConnectionState); err != nil || server.err != nil {
		t.Errorf("got %v, %v; want data", server.err, err)
	}
}

// TestSubject: what is said of a certificate's owner.
func TestSubject(t *testing.T) {
	for _, test := range []struct {
		cert *x509.Certificate
		want string
	}{
		{&x509.Certificate{Subject: pkix.Name{CommonName: "a\x1b[31m\nb"}}, "CN=a?[31m?b"},
		{&x509.Certificate{Subject: pkix.Name{CommonName: strings.Repeat("é", 300)}}, "CN=" +
			strings.Repeat("é", maxSubject-3) + "..."},
		{&x509.Certificate{EmailAddresses: []string{"anna@example.com"}, DNSNames: []string{"x"}},
			"email:anna@example.com"},
		{&x509.Certificate{DNSNames: []string{"scanner"}}, "DNS:scanner"},
	} {
		if got := subjectOf(test.cert); got != test.want {
			t.Errorf("got %q; want %q", got, test.want)
		}
	}
	if got := subjectOf(sign(t, signed{}, func(c *x509.Certificate) {
		c.Subject, c.DNSNames = pkix.Name{},
			nil
	}).cert); !strings.HasPrefix(got, "serial number ") {
		t.Errorf("got %q; want the serial number", got)
	}
}

// TestClientAuthorityExpires: an authority that ends is warned of, and afterwards the refusal names it and
// not the client's certificate.
func TestClientAuthorityExpires(t *testing.T) {
	m := newMutual(t)
	ending := sign(t, m.clients, func(c *x509.Certificate) {
		testca.ForSigning(c)
		c.ExtKeyUsage, c.Subject = nil, pkix.Name{CommonName: "Plant"}
		c.NotAfter = time.Now().Add(40 * 24 * time.Hour)
	})
	m.TLS.ClientCA = put(t, "clients.pem", ending.certPEM())
	good := device(t, ending, nil)
	k, at, log := keys(t, m.Forward)
	k.Refresh(at.pass(time.Minute))
	log.wantLog(t)
	k.Refresh(at.pass(11 * 24 * time.Hour))
	log.wantLog(t, "level=WARN", `\"CN=Plant\" expires on`, "forwards=archive", "remedy=")
	if _, _, _, err := control(t, k, m.Forward, m.client(0, good)); err != nil {
		t.Errorf("before the end: %v", err)
	}
	k.Refresh(at.pass(30 * 24 * time.Hour))
	log.wantLog(t, "level=WARN", `\"CN=Plant\" has expired on`, "are refused")
	s, _, _, err := control(t, k, m.Forward, m.client(0, good))
	wantClientRefused(t, s, err, "the certificate of an authority of the client has expired, or is not "+
		"yet valid")

	anew := New(t.TempDir(), nil)
	anew.now = k.now
	said := strings.Join(texts(anew.Load([]forward.Forward{m.Forward}, nil)), "\n")
	if want := `tls.client_ca: the certificate of "CN=Plant" has expired on`; !strings.Contains(said, want) {
		t.Errorf("a start says %q; want %q in it", said, want)
	}
}
