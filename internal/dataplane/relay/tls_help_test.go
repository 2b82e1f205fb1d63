package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/dataplane/relaytest"
	"ftpgate/internal/try/testca"
)

// selfSigned returns the certificate of the gateway and of the server.
var selfSigned = sync.OnceValue(func() testca.Pair {
	p, err := testca.SelfSigned("ftp.test")
	if err != nil {
		panic(err)
	}
	return p
})

// serving and dialling are what the one and the other end of TLS need.
func serving() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{selfSigned().TLS()},
		DynamicRecordSizingDisabled: true}
}

func dialling() *tls.Config {
	return &tls.Config{RootCAs: selfSigned().Pool(), ServerName: "ftp.test",
		DynamicRecordSizingDisabled: true,
		ClientSessionCache:          tls.NewLRUClientSessionCache(1)} // else servers send no tickets
}

// version has a config speak one version only.
func version(c *tls.Config, v uint16) *tls.Config {
	if c != nil {
		c.MinVersion, c.MaxVersion = v, v
	}
	return c
}

// legs says on which legs the gateway speaks TLS.
type legs struct{ client, server bool }

func (l legs) String() string {
	return map[legs]string{{}: "clear", {true, false}: "client", {false, true}: "server",
		{true, true}: "both"}[l]
}

// dataTLS are the gateway's.
func (l legs) dataTLS() (s dataplane.DataTLS) {
	if l.client {
		s.Client = serving()
	}
	if l.server {
		s.Server = dialling()
	}
	return s
}

var tlsLegs = []legs{{true, false}, {false, true}, {true, true}}

// party is a peer of the gateway: in clear, or with TLS.
type party struct {
	tcp *net.TCPConn
	tls *tls.Conn // nil: in clear
}

func (e party) Read(p []byte) (int, error) {
	if e.tls != nil {
		return e.tls.Read(p)
	}
	return e.tcp.Read(p)
}

func (e party) Write(p []byte) (int, error) {
	if e.tls != nil {
		return e.tls.Write(p)
	}
	return e.tcp.Write(p)
}

// CloseWrite partys the party's data as it should be.
func (e party) CloseWrite() error {
	if e.tls != nil {
		if err := e.tls.Handshake(); err != nil {
			return err
		}
		if err := e.tls.CloseWrite(); err != nil {
			return err
		}
	}
	return e.tcp.CloseWrite()
}

// handshake has both ends do theirs, at the same time.
func handshake(t testing.TB, ends ...party) {
	t.Helper()
	var all sync.WaitGroup
	errs := make([]error, len(ends))
	for i, e := range ends {
		if e.tls != nil {
			all.Go(func() { errs[i] = e.tls.Handshake() })
		}
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// mode is how the partys of a connection connect.
type mode string

const (
	passive mode = "passive"
	active  mode = "active"
	bridged mode = "bridge"
)

// connect connects both ends over a connection of p, without any TLS so far.
func connect(t testing.TB, p *Opener, m mode, dataTLS dataplane.DataTLS) (dc *Connection, client,
	srv *net.TCPConn) {
	t.Helper()
	if m == bridged {
		a, b := relaytest.Listen(t, relaytest.Peer), relaytest.Listen(t, relaytest.Server)
		dc, err := p.Bridge(context.Background(), pinhole.Bridge{
			Client: pinhole.Leg{SourceIP: relaytest.Gateway, Target: relaytest.LocalAddrPort(a.Addr())},
			Server: pinhole.Leg{SourceIP: relaytest.Inside, Target: relaytest.LocalAddrPort(b.Addr())},
		}, dataTLS)
		if err != nil {
			t.Fatal(err)
		}
		owned(t, dc)
		return dc, relaytest.Accept(t, a), relaytest.Accept(t, b)
	}
	l := relaytest.Listen(t, relaytest.Server)
	h := pinholeTo(l)
	h.Active = m == active
	dc, err := p.Open(context.Background(), h, dataTLS)
	if err == nil {
		owned(t, dc)
		err = dc.Arm()
	}
	if err != nil {
		t.Fatal(err)
	}
	comes := relaytest.Dial(t, relaytest.Peer, dc.Listen())
	listens := relaytest.Accept(t, l)
	if m == active {
		return dc, listens, comes
	}
	return dc, comes, listens
}

// connectTLS connects both ends over a connection of p, and has them speak TLS where the gateway does, with
// version v or any (0). Their handshakes are not done yet.
func connectTLS(t testing.TB, p *Opener, m mode, v uint16, dataTLS dataplane.DataTLS) (dc *Connection, client,
	srv party) {
	t.Helper()
	dc, c, s := connect(t, p, m, dataTLS)
	client, srv = party{tcp: c}, party{tcp: s}
	if dataTLS.Client != nil {
		client.tls = tls.Client(c, version(dialling(), v))
	}
	if dataTLS.Server != nil {
		srv.tls = tls.Server(s, version(serving(), v))
	}
	return dc, client, srv
}

// connectedTLS returns a passive connection with both its ends, all handshakes done.
func connectedTLS(t testing.TB, dataTLS dataplane.DataTLS) (dc *Connection, client, srv party) {
	t.Helper()
	return connectedTLSBy(t, opener(), dataTLS)
}

// connectedTLSBy returns a passive connection of p with both its ends, all handshakes done.
func connectedTLSBy(t testing.TB, p *Opener, dataTLS dataplane.DataTLS) (dc *Connection, client, srv party) {
	t.Helper()
	dc, client, srv = connectTLS(t, p, passive, 0, dataTLS)
	handshake(t, client, srv)
	return dc, client, srv
}

// wantEnd reads e to its orderly end.
func wantEnd(t testing.TB, who string, e party, want []byte) {
	t.Helper()
	got, err := io.ReadAll(e)
	if string(got) != string(want) || err != nil {
		t.Errorf("%s: got %d bytes, equal %t, %v; want %d", who, len(got), string(got) == string(want), err,
			len(want))
	}
	if e.tls != nil && err == nil {
		// crypto/tls takes a FIN between two records for the party, but a close_notify stays its last word.
		if n, err := e.tcp.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%s: got %d bytes and %v behind close_notify; want a FIN", who, n, err)
		}
	}
}

// wantEndReset reads e to the reset, and counts the bytes before.
func wantEndReset(t testing.TB, who string, e party) {
	t.Helper()
	if n, err := io.Copy(io.Discard, e); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%s: got %d bytes, then %v; want a reset", who, n, err)
	} else if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		t.Errorf("%s: got %v; want a reset", who, err)
	}
}

// tell sends a word from one party to the other, so that both are known to be connected.
func tell(t testing.TB, from, to party, word string) {
	t.Helper()
	if _, err := io.WriteString(from, word); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(word))
	if _, err := io.ReadFull(to, got); err != nil || string(got) != word {
		t.Fatalf("got %q, %v; want %q", got, err, word)
	}
}

// at returns who is at fault and who is not, by whose leg is meant.
func at(who Side, client, srv party) (breaker, other party) {
	if who == Client {
		return client, srv
	}
	return srv, client
}
