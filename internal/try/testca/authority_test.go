package testca

import (
	"crypto/tls"
	"net"
	"net/netip"
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
					_ = tls.Server(there,
						&tls.Config{Certificates: []tls.Certificate{pair}}).HandshakeContext(t.Context())
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
