package ftpclient

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"ftpgate/internal/core/ftp"
)

func TestMode(t *testing.T) {
	at4, at6 := netip.MustParseAddrPort("192.0.2.1:258"), netip.MustParseAddrPort("[2001:db8::1]:258")
	for _, tt := range []struct {
		mode Mode
		at   netip.AddrPort
		want string
	}{
		{PORT, at4, "192,0,2,1,1,2"}, {EPRT, at4, "|1|192.0.2.1|258|"}, {EPRT, at6, "|2|2001:db8::1|258|"},
	} {
		if got := tt.mode.Argument(tt.at); got != tt.want || !tt.mode.Active() {
			t.Errorf("%s: got %q, active %v; want %q", tt.mode, got, tt.mode.Active(), tt.want)
		}
	}
	for _, tt := range []struct {
		mode       Mode
		line, want string
	}{
		{PASV, "Entering Passive Mode (10,0,0,1,1,2)", "10.0.0.1:258"},
		{EPSV, "go (|||258|)", "[2001:db8::1]:258"},
	} {
		if got, err := tt.mode.Place(tt.line, at6.Addr()); err != nil || got.String() != tt.want ||
			tt.mode.Active() {
			t.Errorf("%s: got %s, %v, active %v; want %s", tt.mode, got, err, tt.mode.Active(), tt.want)
		}
	}
}

// The hook sees what the server sends, also what is in no line yet.
func TestControlHeard(t *testing.T) {
	addr := peer(t, "< 220 hello\n> NOOP\n< 200-so\n< 200 ok", nil)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var heard []byte
	c := NewControl(conn, Options{MaxReplyLines: 1, Heard: func(p []byte) { heard = append(heard, p...) }})
	defer c.Close()
	if r, err := c.Receive(); err != nil || r.Code != 220 {
		t.Fatalf("got %+v, %v; want 220", r, err)
	}
	if err := c.Send(Command("NOOP", "")); err != nil {
		t.Fatal(err)
	}
	_, err = c.Receive()
	if _, long := errors.AsType[*ftp.ReplyTooLongError](err); !long {
		t.Errorf("got %v; want a reply that is too long", err)
	}
	if got := string(heard[:len("220 hello\r\n200-so\r\n")]); got != "220 hello\r\n200-so\r\n" {
		t.Errorf("heard %q", got)
	}
	if c.Peer().String() != addr || !c.Local().IsValid() {
		t.Errorf("got %s to %s; want %s", c.Local(), c.Peer(), addr)
	}
}

// A control connection waits no longer than its deadline.
func TestControlDeadline(t *testing.T) {
	client, server := net.Pipe()
	defer server.Close()
	c := NewControl(client, Options{})
	defer c.Close()
	if err := errors.Join(c.SetReadDeadline(time.Unix(1, 0)),
		c.SetWriteDeadline(time.Unix(1, 0))); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Receive(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("receive: got %v", err)
	}
	if err := c.Send(Command("NOOP", "")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("send: got %v", err)
	}
}

// dialFrom connects to a listener from an address of loopback, and ends with the test.
func dialFrom(t *testing.T, from string, l net.Listener) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_, _ = io.WriteString(conn, from)
}

func TestDataAccept(t *testing.T) {
	l := listen(t)
	d := NewActive(l, netip.MustParseAddr("127.0.0.1"))
	defer d.Close()
	dialFrom(t, "127.0.0.2", l)
	dialFrom(t, "127.0.0.1", l)
	var unexpected []netip.AddrPort
	from, err := d.Accept(func(from netip.AddrPort) error {
		unexpected = append(unexpected, from)
		if d.Connected() {
			t.Error("connected to an unexpected peer")
		}
		return nil
	})
	if err != nil || from.Addr().String() != "127.0.0.1" || !d.Connected() {
		t.Fatalf("got %s, %v; want the server", from, err)
	}
	if len(unexpected) != 1 || unexpected[0].Addr().String() != "127.0.0.2" {
		t.Errorf("got unexpected %v; want 127.0.0.2", unexpected)
	}
	buf := make([]byte, len("127.0.0.1"))
	if _, err := io.ReadFull(d, buf); err != nil || string(buf) != "127.0.0.1" {
		t.Errorf("got %q, %v", buf, err)
	}
}

// The server's connection has the deadline that was set while no client was there; a later one changes
// nothing.
func TestDataDeadline(t *testing.T) {
	l := listen(t)
	d := NewActive(l, netip.MustParseAddr("127.0.0.1"))
	defer d.Close()
	dialFrom(t, "127.0.0.1", l)
	soon := time.Now().Add(200 * time.Millisecond)
	d.SetDeadline(soon)
	d.SetDeadline(soon.Add(time.Hour))
	if _, err := d.Accept(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(d); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v; want the end of the time", err)
	}
	if _, err := d.Accept(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the listener: got %v; want the end of the time", err)
	}
}

// A connection that comes after Close is not kept.
func TestDataClosed(t *testing.T) {
	client, server := net.Pipe()
	d := NewActive(listen(t), netip.Addr{})
	d.Close()
	if err := d.connected(client); !errors.Is(err, net.ErrClosed) || d.Connected() {
		t.Errorf("got %v, connected %v; want %v", err, d.Connected(), net.ErrClosed)
	}
	if _, err := server.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("got %v; want the connection closed", err)
	}
	if _, err := d.Accept(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v; want %v", err, net.ErrClosed)
	}
}

func TestSession(t *testing.T) {
	s := &Session{}
	if _, there := s.Get(""); there {
		t.Error("got a session of an empty cache")
	}
	first, second := &tls.ClientSessionState{}, &tls.ClientSessionState{}
	s.Put("a", first)
	s.Put("a", nil) // a handshake has failed
	clone := s.Clone()
	clone.Put("b", second)
	if got, _ := s.Get("c"); got != first {
		t.Error("got another session than the first")
	}
	if got, _ := clone.Get("c"); got != second {
		t.Error("got another session than the newest")
	}
}

// ctx bounds the handshake of a server that is silent.
func TestStartTLSInterrupted(t *testing.T) {
	client, server := net.Pipe()
	var reader sync.WaitGroup
	reader.Go(func() { _, _ = io.Copy(io.Discard, server) })
	defer reader.Wait()
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	c := NewControl(client, Options{})
	defer c.Close()
	if _, err := c.StartTLS(ctx, &tls.Config{ServerName: "x"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v; want %v", err, context.DeadlineExceeded)
	}
}
