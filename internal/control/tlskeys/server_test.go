package tlskeys

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
)

// TestServerResumes: data connections resume, as servers demand it: again and again, and two at once.
func TestServerResumes(t *testing.T) {
	ca := authority(t)
	server := &tls.Config{Certificates: []tls.Certificate{sign(t, ca, nil).pair()}}
	demanding := server.Clone()
	demanding.VerifyConnection = func(c tls.ConnectionState) error {
		if !c.DidResume {
			return errors.New("a full handshake")
		}
		return nil
	}
	key := [][32]byte{{1}}
	server.SetSessionTicketKeys(key)
	demanding.SetSessionTicketKeys(key)
	f := originated(put(t, "ca.pem", ca.certPEM()))
	byAddress := f
	byAddress.Server.Host = "127.0.0.1"
	k, _, _ := keys(t, f)
	for _, version := range bothVersions {
		for _, f := range []forward.Forward{f, byAddress} {
			control, data, err := k.ForServer(f)
			if err != nil {
				t.Fatal(err)
			}
			server.MaxVersion, demanding.MaxVersion = version, version
			if s, c := shake(t, server, control); s.err != nil || c.err != nil || c.Version != version {
				t.Fatalf("%s: control: server %v, client %v", tls.VersionName(version), s.err, c.err)
			}
			for i := range 3 {
				if s, c := shake(t, demanding, data); s.err != nil || c.err != nil || !c.DidResume {
					t.Fatalf("%s: data %d: server %v, client %v, resumed %v", tls.VersionName(version), i,
						s.err, c.err, c.DidResume)
				}
			}
			at := make(chan bool)
			for range 2 {
				go func() {
					s, c := shake(t, demanding, data)
					at <- s.err == nil && c.err == nil && c.DidResume
				}()
			}
			if a, b := <-at, <-at; !a || !b {
				t.Errorf("%s: two at once: %v, %v; want both resumed", tls.VersionName(version), a, b)
			}
		}
	}
}

// TestServerRefused: what the gateway has against a server's certificate, and what it says.
func TestServerRefused(t *testing.T) {
	ca := authority(t)
	file := put(t, "ca.pem", ca.certPEM())
	named := func(names ...string) signed {
		return sign(t, ca, func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = names, nil })
	}
	usage := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }
	for _, test := range []struct {
		name   string
		cert   signed
		reason string
		remedy string
	}{
		{"expired", sign(t, ca, expired), "the server's certificate has expired", "renewed on the server"},
		{"not yet", sign(t, ca, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }),
			"the server's certificate is not valid yet", "clocks"},
		{"another name", named("other.test"), "the server's certificate is for another name",
			`names "other.test", not "gateway.test": if that is the server, tls.server_name`},
		{"many names", named("a.test", "b.test", "c.test", "d.test", "e\".test"),
			"the server's certificate is for another name", `"d.test", ..., not`},
		{"no names", named(), "the server's certificate is for another name", "no subjectAltName"},
		{"unknown authority", sign(t, authority(t), nil),
			"the server's certificate is not trusted: signed by an unknown authority", "tls.ca names"},
		{"self-signed", sign(t, signed{}, nil),
			"the server's certificate is not trusted: signed by an unknown authority", "tls.ca names"},
		{"for clients", sign(t, ca, usage), "the server's certificate may not be used for a server",
			"serverAuth"},
	} {
		for _, version := range bothVersions {
			t.Run(test.name+" "+tls.VersionName(version), func(t *testing.T) {
				f := originated(file)
				k, _, _ := keys(t, f)
				control, _, err := k.ForServer(f)
				if err != nil {
					t.Fatal(err)
				}
				server := &tls.Config{Certificates: []tls.Certificate{test.cert.pair()}, MaxVersion: version}
				_, c := shake(t, server, control)
				wantWords(t, c.err, test.reason, test.remedy)

				f.TLS.Insecure = true
				if control, _, err = k.ForServer(f); err != nil {
					t.Fatal(err)
				}
				if _, c = shake(t, server, control); c.err != nil {
					t.Errorf("not verified: %v; want none", c.err)
				}
			})
		}
	}
}

// A server whose own certificate stands in tls.ca is trusted, whatever that says about names and uses;
// another one that names the same is not, and neither is one whose time is over.
func TestServerPinned(t *testing.T) {
	bare := func(c *x509.Certificate) { c.DNSNames, c.IPAddresses, c.ExtKeyUsage = nil, nil, nil }
	own, other := sign(t, signed{}, bare), sign(t, signed{}, bare)
	ofAuthority := sign(t, authority(t), bare)
	late := sign(t, signed{}, func(c *x509.Certificate) { bare(c); expired(c) })
	for _, test := range []struct {
		name   string
		ca     signed
		cert   signed
		reason string
	}{
		{"pinned", own, own, ""},
		{"pinned, of an unknown authority", ofAuthority, ofAuthority, ""},
		{"another", own, other, "the server's certificate is for another name"},
		{"pinned, expired", late, late, "the server's certificate has expired"},
	} {
		for _, version := range bothVersions {
			t.Run(test.name+" "+tls.VersionName(version), func(t *testing.T) {
				f := originated(put(t, "ca.pem", test.ca.certPEM()))
				k, _, _ := keys(t, f)
				control, data, err := k.ForServer(f)
				if err != nil {
					t.Fatal(err)
				}
				server := &tls.Config{Certificates: []tls.Certificate{test.cert.pair()}, MaxVersion: version}
				_, c := shake(t, server, control)
				wantWords(t, c.err, test.reason, "")
				if test.reason != "" {
					return
				}
				if _, c = shake(t, server, data); c.err != nil || !c.DidResume {
					t.Errorf("data: got %v, resumed %t; want none, true", c.err, c.DidResume)
				}
			})
		}
	}
}

// TestServerNames: where the name comes from that the certificate must have.
func TestServerNames(t *testing.T) {
	ca := authority(t)
	f := originated(put(t, "ca.pem", ca.certPEM()))
	k, _, _ := keys(t, f)
	for host, name := range map[string]string{"gateway.test.": "", "127.0.0.1": "",
		"192.0.2.1": "gateway.test", "elsewhere.test": "127.0.0.1"} {
		f.Server.Host, f.TLS.ServerName = host, name
		control, _, err := k.ForServer(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, c := shake(t, &tls.Config{Certificates: []tls.Certificate{sign(t, ca, nil).pair()}},
			control); c.err != nil {
			t.Errorf("server %q, server_name %q: %v", host, name, c.err)
		}
	}
}

// TestServerTooOld: no TLS 1.1 with servers either.
func TestServerTooOld(t *testing.T) {
	f := originated("")
	f.TLS.Insecure = true
	k, _, _ := keys(t, f)
	control, _, err := k.ForServer(f)
	if err != nil {
		t.Fatal(err)
	}
	_, c := shake(t, &tls.Config{Certificates: []tls.Certificate{sign(t, signed{}, nil).pair()},
		MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, control)
	wantWords(t, c.err, alerts[70].reason, "TLS 1.2 is the oldest")
}

// TestServerOtherCertificate: the data connection must show the control connection's certificate, also
// where it would pass by itself, where nothing is verified, and where control has shown none.
func TestServerOtherCertificate(t *testing.T) {
	ca := authority(t)
	one, other := sign(t, ca, nil), sign(t, ca, nil)
	f := originated(put(t, "ca.pem", ca.certPEM()))
	for _, insecure := range []bool{false, true} {
		f.TLS.Insecure = insecure
		k, _, _ := keys(t, f)
		control, data, err := k.ForServer(f)
		if err != nil {
			t.Fatal(err)
		}
		var policy *PolicyError
		if _, c := shake(t, &tls.Config{Certificates: []tls.Certificate{one.pair()}}, data); !errors.As(c.err,
			&policy) {
			t.Errorf("insecure %v: data before control: %v; want a PolicyError", insecure, c.err)
		}
		if _, c := shake(t, &tls.Config{Certificates: []tls.Certificate{one.pair()}}, control); c.err != nil {
			t.Fatal(c.err)
		}
		if _, c := shake(t, &tls.Config{Certificates: []tls.Certificate{one.pair()}}, data); c.err != nil {
			t.Errorf("insecure %v: same certificate, not resumed: %v", insecure, c.err)
		}
		_, c := shake(t, &tls.Config{Certificates: []tls.Certificate{other.pair()}}, data)
		if !errors.As(c.err, &policy) ||
			policy.Reason() != "the server's data connection has another certificate than its control "+
				"connection" {
			t.Errorf("insecure %v: another certificate: %v; want a PolicyError", insecure, c.err)
		}
	}
}

// TestServerAsksForCertificate: it gets the one of client_cert, or none.
func TestServerAsksForCertificate(t *testing.T) {
	ca := authority(t)
	mine := sign(t, ca, nil)
	f := originated(put(t, "ca.pem", ca.certPEM()))
	with := f
	with.TLS.ClientCert, with.TLS.ClientKey = put(t, "cert.pem", mine.certPEM()),
		put(t, "key.pem", mine.keyPEM())
	server := &tls.Config{Certificates: []tls.Certificate{sign(t, ca, nil).pair()},
		ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true}
	for _, version := range bothVersions {
		server.MaxVersion = version
		k, _, _ := keys(t, with)
		control, data, err := k.ForServer(with)
		if err != nil {
			t.Fatal(err)
		}
		for _, config := range []*tls.Config{control, data} {
			if s, c := shake(t, server, config); s.err != nil || c.err != nil ||
				!s.PeerCertificates[0].Equal(mine.cert) {
				t.Errorf("server %v, client %v; want the certificate shown", s.err, c.err)
			}
		}
		k, _, _ = keys(t, f)
		if control, _, err = k.ForServer(f); err != nil {
			t.Fatal(err)
		}
		if s, c := shake(t, server, control); s.err == nil || c.err == nil {
			t.Errorf("without one: server %v, client %v; want both refused", s.err, c.err)
		}
	}
}

// TestNotLoaded: there is no TLS without Load, and none for a forward that it did not name.
func TestNotLoaded(t *testing.T) {
	cert := sign(t, signed{}, nil)
	f := terminated(put(t, "both.pem", cert.certPEM(), cert.keyPEM()), "")
	k, _, _ := keys(t)
	if _, err := k.ForClient(f, theClient); err == nil {
		t.Error("ForClient without Load: got no error")
	}
	if _, _, err := k.ForServer(f); err == nil {
		t.Error("ForServer without Load: got no error")
	}
}

func BenchmarkForServer(b *testing.B) {
	f := originated(put(b, "ca.pem", authority(b).certPEM()))
	k, _, _ := keys(b, f)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := k.ForServer(f); err != nil {
			b.Fatal(err)
		}
	}
}
