package conn

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"ftpgate/internal/try/testca"
)

// ends returns the gateway's end of a connection, and the peer's.
func ends(t *testing.T) (*Control, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	own, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{own, peer} {
		if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil { // a hang fails the test
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	return &Control{TCPConn: own.(*net.TCPConn)}, peer.(*net.TCPConn)
}

// config returns a TLS server's configuration; its certificate is not checked.
func config(t *testing.T) *tls.Config {
	t.Helper()
	own, err := testca.SelfSigned("ftp.test")
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{own.TLS()}}
}

func want(t *testing.T, r io.Reader, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != text {
		t.Fatalf("got %q, error %v; want %q", got, err, text)
	}
}

func say(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}

// TLS begins and ends on a connection, and what the client sends right behind its close_notify is read in
// clear.
func TestTLSBeginsAndEnds(t *testing.T) {
	for name, polite := range map[string]bool{"close_notify": true, "no close_notify": false} {
		t.Run(name, func(t *testing.T) {
			c, peer := ends(t)
			accepted := make(chan error, 1)
			go func() { accepted <- c.AcceptTLS(config(t), nil) }()
			tlsConn := tls.Client(peer, &tls.Config{InsecureSkipVerify: true})
			if err := tlsConn.Handshake(); err != nil {
				t.Fatal(err)
			}
			if err := <-accepted; err != nil {
				t.Fatal(err)
			}
			say(t, tlsConn, "CCC\r\n")
			want(t, c, "CCC\r\n")
			say(t, c, "200 in clear\r\n")
			want(t, tlsConn, "200 in clear\r\n")
			if polite {
				if err := tlsConn.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				_ = peer.SetDeadline(time.Now().Add(30 * time.Second)) // crypto/tls leaves it in the past
			}
			say(t, peer, "NOOP\r\n")
			if err := c.EndTLS(); err != nil {
				t.Fatal(err)
			}
			want(t, c, "NOOP\r\n")
			if c.TLS != nil {
				t.Error("after EndTLS there is TLS still")
			}
		})
	}
}

// A client's handshake may have been read in part before TLS begins.
func TestAcceptTLSWithFirstBytes(t *testing.T) {
	c, peer := ends(t)
	tlsConn := tls.Client(peer, &tls.Config{InsecureSkipVerify: true})
	done := make(chan error, 1)
	go func() { done <- tlsConn.Handshake() }()
	first := make([]byte, 3)
	if _, err := io.ReadFull(c, first); err != nil {
		t.Fatal(err)
	}
	if err := c.AcceptTLS(config(t), first); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// The ticket of TLS 1.3 comes with the first line, and not before.
func TestTicketWaits(t *testing.T) {
	for version, waits := range map[uint16]bool{tls.VersionTLS12: false, tls.VersionTLS13: true} {
		c, peer := ends(t)
		server := config(t)
		server.WrapSession = server.EncryptTicket
		accepted := make(chan error, 1)
		go func() { accepted <- c.AcceptTLS(server, nil) }()
		given := new(tickets)
		tlsConn := tls.Client(peer, &tls.Config{InsecureSkipVerify: true, MaxVersion: version,
			ClientSessionCache: given})
		if err := errors.Join(tlsConn.Handshake(), <-accepted); err != nil {
			t.Fatal(err)
		}
		if waits {
			_ = peer.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if n, err := peer.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: got %d bytes, %v; want none before the first line", tls.VersionName(version), n,
					err)
			}
			_ = peer.SetReadDeadline(time.Now().Add(30 * time.Second))
		}
		for _, line := range []string{"331 password\r\n", "230 welcome\r\n"} {
			say(t, c, line)
			want(t, tlsConn, line)
			if *given != 1 {
				t.Errorf("%s: got %d tickets with %q; want 1", tls.VersionName(version), *given, line)
			}
		}
	}
}

// tickets counts the sessions that a client is given.
type tickets int

func (*tickets) Get(string) (*tls.ClientSessionState, bool) { return nil, false }

func (n *tickets) Put(_ string, session *tls.ClientSessionState) {
	if session != nil {
		*n++
	}
}

// A peer that has sent more than was read still gets the last line, and then the end of the connection.
func TestHangUp(t *testing.T) {
	c, peer := ends(t)
	say(t, peer, "unread\r\n")
	say(t, c, "421 bye\r\n")
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.HangUp()
	}()
	if got, err := io.ReadAll(peer); err != nil || string(got) != "421 bye\r\n" {
		t.Errorf("got %q, error %v; want the last line", got, err)
	}
	peer.Close()
	<-done
}

// A peer that never closes holds HangUp for LingerTime and no longer.
func TestHangUpIsBounded(t *testing.T) {
	c, _ := ends(t)
	began := time.Now()
	if c.HangUp(); time.Since(began) > 10*LingerTime {
		t.Errorf("took %s; want some %s", time.Since(began), LingerTime)
	}
}

func TestInterrupt(t *testing.T) {
	c, _ := ends(t)
	done := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		done <- err
	}()
	c.InterruptRead()
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: got %v; want a deadline", err)
	}
	say(t, c, "x")
	c.InterruptWrite()
	if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: got %v; want a deadline", err)
	}
}

// The last byte is TCP's urgent one: where the reader asked for it, it stands in the stream.
func TestWriteUrgent(t *testing.T) {
	c, peer := ends(t)
	if err := InlineUrgent(peer); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteUrgent([]byte("\xff\xf4\xff\xf2")); err != nil {
		t.Fatal(err)
	}
	want(t, peer, "\xff\xf4\xff\xf2")

	c, peer = ends(t)
	if err := c.WriteUrgent([]byte("\xff\xf4\xff\xf2")); err != nil {
		t.Fatal(err)
	}
	say(t, c, "ABOR")
	want(t, peer, "\xff\xf4\xffABOR") // the urgent byte is out of the stream
}
