package tlskeys

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
)

// A client that asks for another protocol than FTP is refused, on control and on data; one that asks for none
// is not.
func TestClientProtocols(t *testing.T) {
	f, ca := strictForward(t)
	f.TLS.SessionReuseOptional = true
	k, _, _ := keys(t, f)
	for name, tt := range map[string]struct {
		asks []string
		gets string
		ok   bool
	}{
		"nothing":       {nil, "", true},
		"ftp":           {[]string{"ftp"}, "ftp", true},
		"FileZilla":     {[]string{"x-filezilla-ftp", "ftp"}, "ftp", true},
		"data":          {[]string{"ftp-data"}, "ftp-data", true},
		"a browser":     {[]string{"h2", "http/1.1"}, "", false},
		"an old curl":   {[]string{"http/1.1"}, "", false},
		"a mail client": {[]string{"imap"}, "", false},
		"too much":      {[]string{strings.Repeat("x", 255), strings.Repeat("y", 255)}, "", false},
	} {
		for _, version := range bothVersions {
			wantAccepted(t, tls.VersionName(version)+" "+name, k, f, func() *tls.Config {
				client := trusting(ca, version)
				client.NextProtos = tt.asks
				return client
			}, tt.gets, tt.ok, "another protocol than FTP (ALPN): probably a browser", "ALPACA")
		}
	}
}

// A client that asks for another name than those of tls.names is refused; one that asks for none is not.
func TestClientNames(t *testing.T) {
	f, ca := strictForward(t)
	f.TLS.SessionReuseOptional = true
	for _, tt := range []struct {
		names []string
		asks  string
		ok    bool
	}{
		{nil, "other.test", true},
		{[]string{"gateway.test"}, "gateway.test", true},
		{[]string{"gateway.test"}, "GateWay.test", true},
		{[]string{"gateway.test"}, "", true},
		{[]string{"gateway.test"}, "other.test", false},
		{[]string{"gateway.test"}, "x.gateway.test", false},
		{[]string{"a.test", "*.gateway.test"}, "x.gateway.test", true},
		{[]string{"a.test", "*.gateway.test"}, "gateway.test", false},
		{[]string{"a.test", "*.gateway.test"}, "y.x.gateway.test", false},
	} {
		f.TLS.Names = tt.names
		k, _, _ := keys(t, f)
		for _, version := range bothVersions {
			name := fmt.Sprintf("%s %q of %q", tls.VersionName(version), tt.asks, tt.names)
			wantAccepted(t, name, k, f, func() *tls.Config {
				client := trusting(ca, version)
				client.InsecureSkipVerify, client.ServerName = true, tt.asks
				return client
			}, "", tt.ok, "for another server's name (SNI)", "tls.names")
		}
	}
}

// wantAccepted expects that a client is let in on control and on data, and gets a protocol; or neither, with
// an explanation.
func wantAccepted(t *testing.T, name string, k *Keys, f forward.Forward, client func() *tls.Config,
	protocol string, ok bool, reason, remedy string) {
	t.Helper()
	own, err := k.ForClient(f, theClient)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	data, _ := own.Data()
	for leg, config := range map[string]*tls.Config{"control": own.Control(), "data": data} {
		s, c := shake(t, config, client())
		if (s.err == nil) != ok || (c.err == nil) != ok || s.NegotiatedProtocol != protocol {
			t.Errorf("%s, %s: server %v, client %v, protocol %q; want accepted %t, %q", name, leg, s.err,
				c.err,
				s.NegotiatedProtocol, ok, protocol)
		}
		if !ok {
			gotReason, gotRemedy := Explain(s.err)
			if !strings.Contains(gotReason, reason) || !strings.Contains(gotRemedy, remedy) {
				t.Errorf("%s, %s: got %q, %q; want %q, %q", name, leg, gotReason, gotRemedy, reason, remedy)
			}
		}
	}
}
