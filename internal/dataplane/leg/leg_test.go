package leg

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/relaytest"
	"ftpgate/internal/dataplane/socket"
	"ftpgate/internal/try/testca"
)

// connected returns the two ends of a connection: the gateway's, and the peer's.
func connected(t *testing.T) (own *socket.Conn, peer *net.TCPConn) {
	t.Helper()
	l := relaytest.Listen(t, relaytest.Peer)
	to := pinhole.Leg{SourceIP: relaytest.Gateway, Target: relaytest.LocalAddrPort(l.Addr())}
	own, err := socket.Dialer{Timeout: relaytest.Patience}.Dial(t.Context(), to, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Close() })
	return own, relaytest.Accept(t, l)
}

// serving returns the TLS of a server.
func serving(t *testing.T) *tls.Config {
	t.Helper()
	own, err := testca.SelfSigned("ftp.test")
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{own.TLS()}}
}

// dialling returns the TLS of a client that trusts any server.
func dialling() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1),
		ServerName: "ftp.test"}
}

// secured returns a leg with TLS, as the server, and its peer.
func secured(t *testing.T) (*Leg, *tls.Conn, *net.TCPConn) {
	t.Helper()
	own, tcp := connected(t)
	peer := tls.Client(tcp, dialling())
	shaken := make(chan error, 1)
	go func() { shaken <- peer.Handshake() }()
	l := New(own)
	if err := errors.Join(l.Handshake(serving(t), true, relaytest.Patience), <-shaken); err != nil {
		t.Fatal(err)
	}
	_ = own.SetDeadline(time.Now().Add(relaytest.Patience))
	return l, peer, tcp
}

// readAll waits and reads until the end, and returns the data and the end.
func readAll(l *Leg) (got []byte, err error) {
	for {
		if err = l.Wait(); err != nil {
			return got, err
		}
		buf := Borrow()
		n, err := l.Read(buf[:BufferSize])
		got = append(got, buf[:n]...)
		Return(buf)
		if err != nil {
			return got, err
		}
	}
}

// Data of all sizes goes through both ways, and the peer's close_notify is seen.
func TestLegTLS(t *testing.T) {
	l, peer, tcp := secured(t)
	if !l.UsesTLS() || !l.PeerBegan() || l.ConnectionState().DidResume {
		t.Errorf("got TLS %t, begun %t, resumed %t; want true, true, false", l.UsesTLS(), l.PeerBegan(),
			l.ConnectionState().DidResume)
	}
	want := relaytest.Noise(3*BufferSize + 7)
	sent := make(chan error, 1)
	go func() {
		_, err := peer.Write(want)
		sent <- errors.Join(err, peer.CloseWrite())
	}()
	got, err := readAll(l)
	if !bytes.Equal(got, want) || err != io.EOF || !l.SawCloseNotify() {
		t.Errorf("got %d bytes, equal %t, %v, close_notify %t; want all, EOF and close_notify",
			len(got), bytes.Equal(got, want), err, l.SawCloseNotify())
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	go func() { sent <- errors.Join(l.Write(want), l.CloseWrite()) }()
	got, err = io.ReadAll(peer)
	if !bytes.Equal(got, want) || err != nil {
		t.Errorf("peer: got %d bytes, equal %t, %v; want all", len(got), bytes.Equal(got, want), err)
	}
	if n, err := tcp.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("behind close_notify: got %d bytes, %v; want a FIN", n, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// An end without close_notify, one with it, and one inside a record are distinct.
func TestLegEnds(t *testing.T) {
	l, peer, tcp := secured(t)
	if _, err := io.WriteString(peer, "a file"); err != nil {
		t.Fatal(err)
	}
	tcp.CloseWrite()
	if got, err := readAll(l); string(got) != "a file" || err != io.EOF || l.SawCloseNotify() {
		t.Errorf("got %q, %v, close_notify %t; want the file, EOF and none", got, err, l.SawCloseNotify())
	}
	l, _, tcp = secured(t)
	if _, err := tcp.Write([]byte{23, 3, 3, 1, 0, 'x'}); err != nil { // of a record of 256 bytes
		t.Fatal(err)
	}
	tcp.CloseWrite()
	if _, err := readAll(l); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("inside a record: got %v; want %v", err, io.ErrUnexpectedEOF)
	}
}

// A failed handshake shows whether the peer has begun, and whether it got an alert.
func TestHandshakeFails(t *testing.T) {
	for _, tt := range []struct {
		name           string
		peer           func(*net.TCPConn)
		began, alerted bool
	}{
		{"silence", func(*net.TCPConn) {}, false, false},
		{"no TLS", func(c *net.TCPConn) { io.WriteString(c, "a file in clear") }, true, false},
		{"gone", func(c *net.TCPConn) { c.CloseWrite() }, false, false},
		{"an old version", func(c *net.TCPConn) {
			old := dialling()
			old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
			_ = tls.Client(c, old).Handshake()
		}, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			own, peer := connected(t)
			_ = own.SetDeadline(time.Now().Add(relaytest.Patience))
			if !tt.began {
				_ = own.SetDeadline(time.Now().Add(20 * time.Millisecond))
			}
			go tt.peer(peer)
			l := New(own)
			err := l.Handshake(serving(t), true, relaytest.Patience)
			if err == nil || l.PeerBegan() != tt.began || l.SentAlert(err) != tt.alerted {
				t.Errorf("got %v, begun %t, alerted %t; want an error, %t, %t",
					err, l.PeerBegan(), l.SentAlert(err), tt.began, tt.alerted)
			}
		})
	}
}

// From its first byte on the peer has the limit for its handshake.
func TestHandshakeLimit(t *testing.T) {
	own, peer := connected(t)
	if _, err := peer.Write([]byte{22}); err != nil {
		t.Fatal(err)
	}
	l := New(own)
	err := l.Handshake(serving(t), true, 20*time.Millisecond)
	if !errors.Is(err, os.ErrDeadlineExceeded) || !l.PeerBegan() {
		t.Errorf("got %v, begun %t; want %v after its beginning", err, l.PeerBegan(), os.ErrDeadlineExceeded)
	}
}

// TestCloseNotifyHasTime: crypto/tls gives close_notify five seconds, and nothing after it. What stands
// before it in the send buffer of a slow end may need longer.
func TestCloseNotifyHasTime(t *testing.T) {
	l, _, _ := secured(t)
	if err := l.tls.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.tcp.Write([]byte("x")); err != nil {
		t.Errorf("after close_notify: %v; want no deadline", err)
	}
}

// A leg in clear is read as it comes, and its end is no close_notify.
func TestLegClear(t *testing.T) {
	own, peer := connected(t)
	l := New(own)
	sent := relaytest.Send(peer, []byte("a file"))
	got, err := readAll(l)
	if string(got) != "a file" || err != io.EOF || l.SawCloseNotify() || l.UsesTLS() ||
		l.ConnectionState().DidResume {
		t.Errorf("got %q, %v; want the file and EOF", got, err)
	}
	if err := errors.Join(<-sent, l.Write([]byte("an answer")), l.CloseWrite()); err != nil {
		t.Error(err)
	}
	relaytest.WantData(t, "peer", peer, []byte("an answer"))
	if l.TCP() != own {
		t.Error("got another connection; want the leg's")
	}
}

// Readable counts the received bytes without reading them, up to a chunk; Room is the free send buffer.
func TestReadable(t *testing.T) {
	own, peer := connected(t)
	r, err := NewReadable(own)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(peer, "a file"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if n, err := r.Available(); n != 6 || err != nil {
			t.Errorf("got %d bytes, %v; want 6 each time", n, err)
		}
	}
	if _, err := io.ReadFull(own, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	peer.CloseWrite()
	if n, err := r.Available(); n != 0 || err != nil {
		t.Errorf("got %d bytes, %v; want none at the end", n, err)
	}
	room, err := Room(own)
	if err != nil || room < 1 || room > Chunk {
		t.Errorf("got room for %d bytes, %v; want some, at most %d", room, err, Chunk)
	}
	if _, err := own.Write(make([]byte, room)); err != nil {
		t.Error(err)
	}
	own.Close()
	if _, err := Room(own); err == nil {
		t.Error("got room in a closed connection; want an error")
	}
	if _, err := r.Available(); err == nil {
		t.Error("got bytes of a closed connection; want an error")
	}
}
