package session

import (
	"crypto/tls"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
)

// watched gives what is written to a connection to a side of a handshake, before the other side gets it.
type watched struct {
	net.Conn
	take func(b []byte)
}

func (w watched) Write(b []byte) (int, error) {
	w.take(b)
	return w.Conn.Write(b)
}

// connected returns both ends of a connection.
func connected(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// Clients and servers of crypto/tls end their handshake before the first reply, and not at all where the
// server refuses the client.
func TestRealHandshake(t *testing.T) {
	site := httptest.NewTLSServer(nil)
	defer site.Close()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, refuses := range []bool{false, true} {
			var h handshake
			ended := false
			a, b := connected(t)
			config := &tls.Config{Certificates: site.TLS.Certificates, MaxVersion: version}
			if refuses {
				config.ClientAuth = tls.RequireAnyClientCert
			}
			server := tls.Server(watched{a, func(b []byte) {
				ended = h.server(b) || ended
			}}, config)
			client := tls.Client(watched{b, h.client}, &tls.Config{InsecureSkipVerify: true})
			var served sync.WaitGroup
			served.Go(func() {
				defer server.Close()
				command := make([]byte, 100)
				if _, err := server.Read(command); err == nil {
					_, _ = server.Write([]byte("200 PBSZ=0\r\n"))
				}
			})
			_, _ = client.Write([]byte("PBSZ 0\r\n"))
			_, _ = client.Read(make([]byte, 100))
			client.Close()
			served.Wait()
			if ended == refuses {
				t.Errorf("%s, refuses %t: got ended %t", tls.VersionName(version), refuses, ended)
			}
		}
	}
}
