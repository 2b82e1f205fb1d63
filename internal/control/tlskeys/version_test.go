package tlskeys

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
)

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
