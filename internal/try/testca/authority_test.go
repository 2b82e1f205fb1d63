package testca

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// TestHandshake: a certificate is good for its own address and for clients of its own authority.
func TestHandshake(t *testing.T) {
	ours, theirs := two(t)
	certificate, key, err := ours.Issue("server", netip.MustParseAddr("203.0.113.21"))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what   string
		client *tls.Config
		good   bool
	}{
		{"its own", ours.Client("203.0.113.21"), true},
		{"another address", ours.Client("192.168.5.2"), false},
		{"another authority", theirs.Client("203.0.113.21"), false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			served := make(chan struct{})
			go func() {
				defer close(served)
				if there, err := l.Accept(); err == nil {
					config := &tls.Config{Certificates: []tls.Certificate{pair}}
					_ = tls.Server(there, config).HandshakeContext(t.Context())
					_ = there.Close()
				}
			}()
			here, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			err = tls.Client(here, tt.client).HandshakeContext(t.Context())
			_ = here.Close()
			<-served
			if (err == nil) != tt.good {
				t.Errorf("got %v; want it good: %v", err, tt.good)
			}
		})
	}
}

func two(t *testing.T) (one, other *Authority) {
	t.Helper()
	for _, a := range []**Authority{&one, &other} {
		var err error
		if *a, err = New(); err != nil {
			t.Fatal(err)
		}
	}
	return one, other
}

// TestChanges: a certificate is valid as its changes say.
func TestChanges(t *testing.T) {
	a, _ := two(t)
	intermediate, err := a.Sign("intermediate", ForSigning)
	if err != nil {
		t.Fatal(err)
	}
	self, err := SelfSigned("ftp.test")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		signer  Pair
		changes []Change
		verify  x509.VerifyOptions
		want    string // in the error; empty: valid
	}{
		{name: "plain", signer: a.Pair},
		{name: "expired", signer: a.Pair, changes: []Change{Expired}, want: "certificate has expired"},
		{name: "not yet", signer: a.Pair, changes: []Change{NotYetValid}, want: "is before"},
		{name: "other names", signer: a.Pair, changes: []Change{ForNames("other.test")},
			want: "valid for other.test, not ftp.test"},
		{name: "address", signer: a.Pair, changes: []Change{ForAddrs(netip.MustParseAddr("192.0.2.1"))},
			verify: x509.VerifyOptions{DNSName: "192.0.2.1"}},
		{name: "client", signer: a.Pair, changes: []Change{ForClients},
			verify: x509.VerifyOptions{KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}},
		{name: "server as client", signer: a.Pair, want: "incompatible key usage",
			verify: x509.VerifyOptions{KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}},
		{name: "intermediate", signer: intermediate,
			verify: x509.VerifyOptions{Intermediates: intermediate.Pool()}},
		{name: "without its intermediate", signer: intermediate, want: "unknown authority"},
		{name: "by a server", signer: self, verify: x509.VerifyOptions{Roots: self.Pool()},
			want: "cannot sign this kind of certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := tt.signer.Sign("ftp.test", tt.changes...)
			if err != nil {
				t.Fatal(err)
			}
			o := tt.verify
			if o.Roots == nil {
				o.Roots = a.Pool()
			}
			if o.DNSName == "" {
				o.DNSName = "ftp.test"
			}
			_, err = p.Cert.Verify(o)
			if tt.want == "" && err != nil ||
				tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v; want %q", err, tt.want)
			}
		})
	}
	if _, err := self.Cert.Verify(x509.VerifyOptions{DNSName: "ftp.test", Roots: self.Pool()}); err != nil {
		t.Errorf("self-signed: got %v; want it valid for those who trust it", err)
	}
}
