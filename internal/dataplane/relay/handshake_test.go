package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/dataplane"
	"ftpgate/internal/dataplane/relaytest"
)

// wantHandshakeError checks the end whose handshake failed, and the text for the FTP client.
func wantHandshakeError(t *testing.T, err error, who Side, plain string) {
	t.Helper()
	failed, ok := errors.AsType[*HandshakeError](err)
	if !ok || failed.Side != who {
		t.Fatalf("got %v; want the handshake with the %s failed", err, who)
	}
	if code, got := failed.Reply(); code != 522 || !strings.Contains(got, plain) {
		t.Errorf("got %d %q; want 522 and %q in it", code, got, plain)
	}
}

// refusal is an error of a VerifyConnection that has words of its own.
type refusal struct{}

func (refusal) Error() string  { return "no session resumed" }
func (refusal) Reason() string { return "resume the session" }

// handshakeFault is how a handshake is made to fail, and how that is said.
type handshakeFault struct {
	name    string
	opener  Opener
	dataTLS func(*tls.Config) // of the leg at fault
	fault   func(t *testing.T, who Side, e party)
	plain   string
	want    error
}

// refuse has a config refuse every connection.
func refuse(c *tls.Config) {
	c.VerifyConnection = func(tls.ConnectionState) error { return refusal{} }
}

var handshakeFaults = []handshakeFault{
	{name: "no TLS", plain: "does not speak TLS", fault: func(t *testing.T, _ Side, e party) {
		e.tcp.Write([]byte("a file in clear"))
		wantEndReset(t, "end in clear", party{tcp: e.tcp})
	}},
	{name: "TLS 1.1", plain: "handshake on the data connection failed",
		fault: func(t *testing.T, who Side, e party) {
			wantAlert(t, renew(who, e, tls.VersionTLS11), "protocol version")
		}},
	{name: "refused", plain: "resume the session", want: refusal{}, dataTLS: refuse,
		fault: func(t *testing.T, _ Side, e party) {
			wantAlert(t, e, "bad certificate")
		}},
	{name: "silence", plain: "took too long", want: os.ErrDeadlineExceeded,
		opener: Opener{HelloTime: time.Second}, // a busy machine's peer is to be connected before
		fault: func(t *testing.T, _ Side, e party) {
			wantEndReset(t, "silent end", party{tcp: e.tcp})
		}},
	{name: "dribble", plain: "took too long", want: os.ErrDeadlineExceeded,
		opener: Opener{HandshakeTime: 20 * time.Millisecond},
		fault: func(t *testing.T, _ Side, e party) {
			e.tcp.Write([]byte{22})
			wantEndReset(t, "dribbling end", party{tcp: e.tcp})
		}},
	{name: "gone", plain: "closed the data connection", want: io.EOF,
		fault: func(t *testing.T, _ Side, e party) {
			e.tcp.CloseWrite()
		}},
	{name: "reset", plain: "handshake on the data connection failed",
		fault: func(t *testing.T, who Side, e party) {
			if who == Server {
				wantUnread(t, e) // our ClientHello: before, it would break the dialling
			}
			relaytest.Reset(e.tcp)
		}},
}

// TestHandshakeFails has one end's handshake fail: both see that the connection is none.
func TestHandshakeFails(t *testing.T) {
	for _, tt := range handshakeFaults {
		for _, l := range tlsLegs {
			for who, at := range map[Side]bool{Client: l.client, Server: l.server} {
				if !at {
					continue
				}
				t.Run(tt.name+"/"+l.String()+"/"+who.String(), func(t *testing.T) {
					p, dataTLS := tt.opener, l.dataTLS()
					p.Relay, p.Ports = newRelay(), opener().Ports
					if tt.dataTLS != nil {
						tt.dataTLS(map[Side]*tls.Config{Client: dataTLS.Client,
							Server: dataTLS.Server}[who])
					}
					failHandshake(t, &p, dataTLS, who, tt.fault, tt.plain, tt.want)
				})
			}
		}
	}
}

func failHandshake(t *testing.T, p *Opener, dataTLS dataplane.DataTLS, who Side,
	fault func(*testing.T, Side, party), plain string, want error) {
	dc, client, srv := connectTLS(t, p, passive, 0, dataTLS)
	faulty, other := client, srv
	if who == Server {
		faulty, other = srv, client
	}
	otherReset := make(chan struct{})
	go func() {
		defer close(otherReset)
		wantEndReset(t, "other end", other)
	}()
	fault(t, who, faulty)
	<-otherReset
	err := wait(t, dc).Err
	// on a busy machine the other end may be late, too
	if p.HelloTime+p.HandshakeTime != 0 && dataTLS.Client != nil && dataTLS.Server != nil {
		if failed, ok := errors.AsType[*HandshakeError](err); ok {
			who = failed.Side
		}
	}
	wantHandshakeError(t, err, who, plain)
	if want != nil && !errors.Is(err, want) {
		t.Errorf("got %v; want %v", err, want)
	}
	if dc.Finish(nil); !errors.As(dc.Err(), new(*HandshakeError)) {
		t.Errorf("Finish: got %v; want the handshake failed", dc.Err())
	}
}

// renew has a peer speak another version.
func renew(who Side, e party, v uint16) party {
	if who == Client {
		return party{e.tcp, tls.Client(e.tcp, version(dialling(), v))}
	}
	return party{e.tcp, tls.Server(e.tcp, version(serving(), v))}
}

// wantAlert does a handshake, and reads the alert with which it ends.
func wantAlert(t *testing.T, e party, alert string) {
	t.Helper()
	err := e.tls.Handshake()
	if err == nil { // the end that is done first learns of it from the first record
		_, err = e.tls.Read(make([]byte, 1))
	}
	if err == nil || !strings.Contains(err.Error(), alert) &&
		!strings.Contains(err.Error(), "unsupported version") {
		t.Errorf("got %v; want the alert %q", err, alert)
	}
	e.tcp.Close()
}

// TestHandshakeClearEndBreaks has the end in clear break while the other end's handshake is awaited.
func TestHandshakeClearEndBreaks(t *testing.T) {
	dc, client, srv := connectTLS(t, opener(), passive, 0, legs{client: true}.dataTLS())
	relaytest.Await(t, func() bool { // before, it would break the dialling
		dc.mu.Lock()
		defer dc.mu.Unlock()
		return dc.ends[Server] != nil
	}, func() string { return "the server is not connected to" })
	relaytest.Reset(srv.tcp)
	wantEndReset(t, "client", party{tcp: client.tcp})
	wantBroken(t, wait(t, dc).Err, Server)
}

// TestHandshakeClosed calls a connection off while handshakes are awaited, and while an end that was refused
// has not closed yet.
func TestHandshakeClosed(t *testing.T) {
	t.Run("Sever", func(t *testing.T) {
		dc, client, srv := connectTLS(t, opener(), passive, 0, legs{true, true}.dataTLS())
		dc.Sever()
		wantEndReset(t, "client", party{tcp: client.tcp})
		wantEndReset(t, "server", party{tcp: srv.tcp}) // behind our ClientHello
		if r := resultOf(dc); r.Err != ErrClosed {
			t.Errorf("got %v; want %v", r.Err, ErrClosed)
		}
	})
	t.Run("context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l := relaytest.Listen(t, relaytest.Server)
		dc, err := opener().Open(ctx, pinholeTo(l), legs{true, true}.dataTLS())
		if err == nil {
			err = dc.Arm()
		}
		if err != nil {
			t.Fatal(err)
		}
		owned(t, dc)
		client := relaytest.Dial(t, relaytest.Peer, dc.Listen())
		relaytest.Accept(t, l)
		cancel()
		wantEndReset(t, "client", party{tcp: client})
		if r := wait(t, dc); !errors.Is(r.Err, ErrClosed) {
			t.Errorf("got %v; want %v", r.Err, ErrClosed)
		}
	})
	t.Run("refused and not closed", func(t *testing.T) {
		dataTLS := legs{client: true}.dataTLS()
		dataTLS.Client.VerifyConnection = func(tls.ConnectionState) error { return refusal{} }
		dc, client, srv := connectTLS(t, opener(), passive, 0, dataTLS)
		_ = client.tls.Handshake()
		wantEndReset(t, "server", srv) // then the alert is on its way
		dc.Sever()
		wantHandshakeError(t, resultOf(dc).Err, Client, "resume")
	})
}

// TestFinishHurries has the server call a transfer complete while an end has not begun with TLS: the five
// minutes that one may stay silent before are not waited for.
func TestFinishHurries(t *testing.T) {
	p := opener()
	p.HandshakeTime = 20 * time.Millisecond
	dc, client, srv := connectTLS(t, p, passive, 0, legs{client: true}.dataTLS())
	relaytest.Await(t, func() bool { // both legs stand, and the handshake is awaited
		dc.mu.Lock()
		defer dc.mu.Unlock()
		return dc.ends[Server] != nil
	}, func() string { return "the server is not connected to" })
	dc.Finish(nil)
	wantHandshakeError(t, dc.Err(), Client, "took too long")
	wantEndReset(t, "client", party{tcp: client.tcp})
	wantEndReset(t, "server", srv)
}

// TestHandshakeBegins has TLS with the server wait for the transfer, though the client has begun with its
// own.
func TestHandshakeBegins(t *testing.T) {
	begin := make(chan struct{})
	dataTLS := legs{client: true, server: true}.dataTLS()
	dataTLS.TransferStarted = begin
	dc, client, srv := connectTLS(t, hasty(), passive, 0, dataTLS)
	handshake(t, client)
	_ = srv.tcp.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := srv.tcp.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %d bytes, %v; want nothing before the transfer", n, err)
	}
	_ = srv.tcp.SetReadDeadline(time.Time{})
	close(begin)
	handshake(t, srv)
	dc.Sever()

	dataTLS.TransferStarted = make(chan struct{})
	dc, client, srv = connectTLS(t, hasty(), passive, 0, dataTLS)
	client.tcp.Write([]byte("no TLS"))
	// and no goroutine waits for the beginning
	wantHandshakeError(t, wait(t, dc).Err, Client, "does not speak TLS")
	_ = srv
}

// TestHandshakeUnused has TLS with the server wait for a transfer no longer when the pinhole is closed and no
// transfer has used it.
func TestHandshakeUnused(t *testing.T) {
	for _, used := range []bool{false, true} {
		dataTLS := legs{server: true}.dataTLS()
		begin := make(chan struct{})
		dataTLS.TransferStarted = begin
		dc, client, srv := connectTLS(t, opener(), passive, 0, dataTLS)
		if used {
			dc.Use()
		}
		dc.Close()
		if used { // its transfer may still begin
			close(begin)
			handshake(t, srv)
			dc.Sever()
			continue
		}
		if err := wait(t, dc).Err; !errors.Is(err, ErrClosed) {
			t.Errorf("got %v; want %v", err, ErrClosed)
		}
		wantEndReset(t, "client", party{tcp: client.tcp})
		wantEndReset(t, "server", party{tcp: srv.tcp})
	}
}
