package tlskeys

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"os"
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

// intermediate makes an authority that another one has signed.
func intermediate(t *testing.T, by signed) signed {
	t.Helper()
	return sign(t, by, func(c *x509.Certificate) { testca.ForSigning(c); c.ExtKeyUsage = nil })
}

// list makes an authority's revocation list.
func list(t *testing.T, by signed, next time.Time, revoked ...signed) []byte {
	t.Helper()
	var certs []*x509.Certificate
	for _, s := range revoked {
		certs = append(certs, s.cert)
	}
	text, err := by.asPair().Revoke(next, certs...)
	if err != nil {
		t.Fatal(err)
	}
	return text
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

// TestClientCertificate: who gets in with which certificate, what TLS tells the client, and what we say.
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
		plain    string // empty: the client gets in
		subject  string
	}{
		"good":           {own: []signed{good}, subject: "CN=scanner 7,O=Example"},
		"good, optional": {own: []signed{good}, optional: true, subject: "CN=scanner 7,O=Example"},
		"none, optional": {optional: true},
		"none": {alert: "certificate required", plain: "the client presents no certificate, " +
			"and this forward requires one"},
		"unknown": {own: []signed{device(t, stranger, nil)}, alert: "unknown certificate authority",
			plain: "the client's certificate is not trusted: signed by an unknown authority"},
		"unknown optional": {own: []signed{self}, optional: true, alert: "unknown certificate authority",
			plain: "the client's certificate is not trusted: signed by an unknown authority"},
		"expired": {own: []signed{device(t, m.clients, expired)}, alert: "expired certificate",
			plain: "the client's certificate has expired"},
		"not yet": {own: []signed{device(t, m.clients, testca.NotYetValid)},
			alert: "expired certificate", plain: "the client's certificate is not valid yet"},
		"for servers": {own: []signed{sign(t, m.clients, nil)}, alert: "bad certificate",
			plain: "the client's certificate may not be used for a client"},
		"no intermediate": {own: []signed{device(t, between, nil)}, alert: "unknown certificate authority",
			plain: "the client's certificate is not trusted: signed by an unknown authority"},
	} {
		for _, version := range bothVersions {
			t.Run(name+"/"+tls.VersionName(version), func(t *testing.T) {
				f := m.Forward
				f.TLS.ClientAuthOptional = test.optional
				k, _, _ := keys(t, f)
				client := m.client(version)
				client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					if len(test.own) == 0 {
						return &tls.Certificate{}, nil
					}
					pair := test.own[0].pair() // also where the gateway names another authority
					return &pair, nil
				}
				s, subject, atClient, err := control(t, k, f, client)
				if test.plain == "" {
					if err != nil || subject != test.subject {
						t.Errorf("got %q, error %v; want %q", subject, err, test.subject)
					}
					return
				}
				code, plain, remedy := s.Explain(err)
				if code != verdict.CodeClientCertificate || plain != test.plain || remedy == "" {
					t.Errorf("error %v: got %s, %q, remedy %q; want %q", err, code, plain, remedy, test.plain)
				}
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

// TestRevocation: which certificates the lists let in. Without a list that says so, none.
func TestRevocation(t *testing.T) {
	m := newMutual(t)
	good, bad := device(t, m.clients, nil), device(t, m.clients, nil)
	between := intermediate(t, m.clients)
	below := device(t, between, nil)
	stranger := authority(t)
	week, past := time.Now().Add(7*24*time.Hour), time.Now().Add(-time.Hour)
	for name, test := range map[string]struct {
		own     signed
		through *signed // the intermediate certificate that the client sends
		lists   [][]byte
		plain   string
	}{
		"good":       {own: good, lists: [][]byte{list(t, m.clients, week, bad)}},
		"empty list": {own: good, lists: [][]byte{list(t, m.clients, week)}},
		"revoked": {own: bad, lists: [][]byte{list(t, m.clients, week, good, bad)},
			plain: "the client's certificate is revoked"},
		"the newest counts": {own: bad, lists: [][]byte{list(t, m.clients, past), list(t, m.clients, week,
			bad), list(t, m.clients, past)}, plain: "the client's certificate is revoked"},
		"expired": {own: good, lists: [][]byte{list(t, m.clients, past)},
			plain: "it is not known whether the client's certificate is revoked: the revocation list of " +
				"its authority has expired"},
		"expired, revoked": {own: bad, lists: [][]byte{list(t, m.clients, past, bad)},
			plain: "the client's certificate is revoked"},
		"another authority": {own: good, lists: [][]byte{list(t, stranger, week)},
			plain: "it is not known whether the client's certificate is revoked: there is no revocation " +
				"list of its authority"},
		"both authorities": {own: below, through: &between, lists: [][]byte{list(t, m.clients, week, bad),
			list(t, between, week)}},
		"one authority": {own: below, through: &between, lists: [][]byte{list(t, m.clients, week)},
			plain: "it is not known whether the client's certificate is revoked: there is no revocation " +
				"list of its authority"},
		"the intermediate": {own: below, through: &between, lists: [][]byte{list(t, m.clients, week,
			between), list(t, between, week)}, plain: "the client's certificate is revoked"},
	} {
		t.Run(name, func(t *testing.T) {
			f := m.Forward
			f.TLS.ClientCRL = put(t, "crl.pem", test.lists...)
			k, _, _ := keys(t, f)
			client := m.client(0, test.own)
			if test.through != nil {
				chain := &client.Certificates[0].Certificate
				*chain = append(*chain, test.through.cert.Raw)
			}
			s, subject, atClient, err := control(t, k, f, client)
			if atClient != nil || subject != "CN=scanner 7,O=Example" {
				t.Errorf("got %q, the client %v; want TLS, in which the refusal is said", subject, atClient)
			}
			if test.plain == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			code, plain, remedy := s.Explain(err)
			if code != verdict.CodeClientCertificate || plain != test.plain || remedy == "" {
				t.Errorf("error %v: got %s, %q, remedy %q; want %q", err, code, plain, remedy, test.plain)
			}
		})
	}
}

// TestRevocationChanges: a list that changes counts for the next session, and one that cannot be read lets
// nobody in, until it is back.
func TestRevocationChanges(t *testing.T) {
	m := newMutual(t)
	one := device(t, m.clients, nil)
	week := time.Now().Add(7 * 24 * time.Hour)
	sound := list(t, m.clients, week)
	file := put(t, "crl.pem", sound)
	m.TLS.ClientCRL = file
	k, at, log := keys(t, m.Forward)
	try := func(want string) {
		t.Helper()
		s, _, _, err := control(t, k, m.Forward, m.client(0, one))
		_, plain, _ := s.Explain(err)
		if plain = strings.TrimPrefix(plain,
			"it is not known whether the client's certificate is revoked: "); err == nil {
			plain = ""
		}
		if plain != want {
			t.Errorf("got %q, error %v; want %q", plain, err, want)
		}
	}
	try("")
	renew(t, file, list(t, m.clients, week, one))
	k.Refresh(at.pass(time.Second))
	log.wantLog(t, "level=INFO", file)
	try("the client's certificate is revoked")
	renew(t, file, sound)
	k.Refresh(at.pass(time.Second))
	log.wantLog(t, "level=INFO", file)

	kept := file + ".kept"
	if err := os.Rename(file, kept); err != nil {
		t.Fatal(err)
	}
	k.Refresh(at.pass(time.Second))
	log.wantLog(t)
	try("") // it may be on its way
	k.Refresh(at.pass(settleTime))
	log.wantLog(t, "level=ERROR", "does not exist", "clients with a certificate are refused", "remedy=")
	try("the revocation list cannot be read")
	if err := os.Rename(kept, file); err != nil { // the same file, with the same stamp
		t.Fatal(err)
	}
	k.Refresh(at.pass(time.Second))
	log.wantLog(t, "level=INFO", file)
	try("")

	k.Refresh(at.pass(6*24*time.Hour + time.Hour))
	log.wantLog(t, "level=WARN", "expires in 23h", "forwards=archive", "remedy=")
	try("")
	k.Refresh(at.pass(24 * time.Hour))
	log.wantLog(t, "level=WARN", "has expired on", "its clients are refused")
	try("the revocation list of its authority has expired")
}

// TestRevocationFaults: what is wrong with a file of lists is said when it is loaded.
func TestRevocationFaults(t *testing.T) {
	m := newMutual(t)
	week := time.Now().Add(7 * 24 * time.Hour)
	sound := list(t, m.clients, week)
	var der []byte
	for block := range blocks(sound) {
		der = block.Bytes
	}
	for name, test := range map[string]struct {
		text, want string
		warning    bool
	}{
		"empty":       {"", "is empty", false},
		"DER":         {string(der), "is in DER, not in PEM: remedy openssl crl -inform der", false},
		"certificate": {string(m.clients.certPEM()), `holds "CERTIFICATE" and no revocation list`, false},
		"damaged": {string(encode("X509 CRL", der[:40])), "revocation list 1 of the file is damaged",
			false},
		"expired": {string(list(t, m.clients, time.Now().Add(-time.Hour))), "has expired on", true},
		"another authority": {string(list(t, authority(t), week)),
			`holds no revocation list that "CN=test authority" has signed`, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := m.Forward
			f.TLS.ClientCRL = put(t, "crl.pem", []byte(test.text))
			k := New(t.TempDir(), nil)
			findings := k.Load([]forward.Forward{f}, nil)
			if len(findings) != 1 || findings[0].Key != "tls.client_crl" ||
				findings[0].IsFault() == test.warning {
				t.Fatalf("got %v; want one about the list", texts(findings))
			}
			if got := findings[0].Text + ": remedy " + findings[0].Remedy; !strings.Contains(got, test.want) {
				t.Errorf("got %q; want %q in it", got, test.want)
			}
		})
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
				if plain, remedy := Explain(err); plain != test.want || (plain == "") != (remedy == "") {
					t.Errorf("%s: got %q, remedy %q; want %q", name, plain, remedy, test.want)
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

// TestVersions: which versions and ciphers a forward allows, on both legs. The default is TLS 1.2.
func TestVersions(t *testing.T) {
	ca := authority(t)
	cert := rsaServer(t, ca)
	old := []uint16{tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA}
	for _, test := range []struct {
		oldest  forward.TLSVersion
		peer    uint16
		ciphers []uint16
		allowed bool
	}{
		{forward.TLS12, tls.VersionTLS11, nil, false},
		{forward.TLS12, tls.VersionTLS12, nil, true},
		{forward.TLS12, tls.VersionTLS12, old, false},
		{forward.TLS13, tls.VersionTLS12, nil, false},
		{forward.TLS13, tls.VersionTLS13, nil, true},
		{forward.TLS11, tls.VersionTLS10, nil, false},
		{forward.TLS11, tls.VersionTLS11, nil, true},
		{forward.TLS10, tls.VersionTLS10, nil, true},
		{forward.TLS10, tls.VersionTLS10, old, true},
		{forward.TLS10, tls.VersionTLS10, []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}, true},
		{forward.TLS10, tls.VersionTLS10, []uint16{tls.TLS_RSA_WITH_RC4_128_SHA}, false},
		{forward.TLS10, tls.VersionTLS13, nil, true},
	} {
		t.Run(fmt.Sprint(test.oldest, " ", tls.VersionName(test.peer), test.ciphers), func(t *testing.T) {
			f := terminated(put(t, "both.pem", cert.certPEM(), cert.keyPEM()), "")
			f.TLS.ClientMinVersion = test.oldest
			f.TLS.Server, f.TLS.ServerMinVersion = forward.ServerTLSRequired, test.oldest
			f.TLS.CA, f.Server.Host = put(t, "ca.pem", ca.certPEM()), "gateway.test"
			k, _, _ := keys(t, f)
			own, err := k.ForClient(f, theClient)
			if err != nil {
				t.Fatal(err)
			}
			defer own.Close()
			client := trusting(ca, test.peer)
			client.CipherSuites = test.ciphers
			data, _ := own.Data()
			for what, config := range map[string]*tls.Config{"control": own.Control(), "data": data} {
				if s, c := shake(t, config, client); (errors.Join(s.err, c.err) == nil) != test.allowed {
					t.Errorf("client's %s: got %v, %v; want it allowed: %t", what, s.err, c.err, test.allowed)
				}
			}
			toServer, _, err := k.ForServer(f)
			if err != nil {
				t.Fatal(err)
			}
			s, c := shake(t, &tls.Config{Certificates: []tls.Certificate{cert.pair()}, MinVersion: test.peer,
				MaxVersion: test.peer, CipherSuites: test.ciphers}, toServer)
			if (errors.Join(s.err, c.err) == nil) != test.allowed {
				t.Errorf("server: got %v, %v; want it allowed: %t", s.err, c.err, test.allowed)
			}
		})
	}
}

// TestOldVersionsWarn: an old version is warned of at each load, on either leg.
func TestOldVersionsWarn(t *testing.T) {
	m := newMaterial(t)
	f := terminated(m.path("cert"), m.path("key"))
	f.TLS.ClientMinVersion = forward.TLS10
	f.TLS.Server, f.TLS.CA, f.TLS.ServerMinVersion = forward.ServerTLSRequired, m.path("ca"), forward.TLS11
	k := New(t.TempDir(), nil)
	for range 2 {
		got := strings.Join(texts(k.Load([]forward.Forward{f}, nil)), "\n")
		for _, want := range []string{"clients may use TLS 1.0", "the server may use TLS 1.1",
			"the certificate's key is not RSA"} {
			if strings.Count(got, want) != 1 {
				t.Errorf("got %q; want %q in it", got, want)
			}
		}
	}
}
