package relay

import (
	"crypto/tls"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"ftpgate/internal/dataplane"
	"ftpgate/internal/dataplane/relaytest"
)

// admitting returns TLS with the client and this Admit.
func admitting(admit admitFunc) dataplane.DataTLS {
	dataTLS := legs{client: true}.dataTLS()
	dataTLS.Admit = admit
	return dataTLS
}

// wantNotAdmitted expects that a client's handshake is done, and that close_notify follows.
func wantNotAdmitted(t *testing.T, client party) {
	t.Helper()
	handshake(t, client)
	if n, err := client.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		t.Errorf("the client got %d bytes, %v; want close_notify", n, err)
	}
	client.tcp.Close()
}

// A client that may not carry data gets close_notify after its handshake, and the server a reset.
func TestNotAdmitted(t *testing.T) {
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		dc, client, srv := connectTLS(t, opener(), passive, v, admitting(
			func(c tls.ConnectionState) (<-chan struct{}, error) {
				if c.Version != v {
					t.Errorf("got %s; want %s", tls.VersionName(c.Version), tls.VersionName(v))
				}
				return nil, refusal{}
			}))
		wantNotAdmitted(t, client)
		wantEndReset(t, "server", srv)
		wantHandshakeError(t, wait(t, dc).Err, Client, "resume the session")
	}
}

// While it is not decided whether a client may carry data, nothing flows.
func TestAdmittedLater(t *testing.T) {
	for name, final := range map[string]error{"admitted": nil, "refused": refusal{}} {
		t.Run(name, func(t *testing.T) {
			changes, asked := make(chan chan struct{}, 2), make(chan struct{}, 3)
			first, second := make(chan struct{}), make(chan struct{})
			changes <- first
			changes <- second
			close(changes)
			dc, client, srv := connectTLS(t, opener(), passive, 0, admitting(
				func(tls.ConnectionState) (<-chan struct{}, error) {
					asked <- struct{}{}
					if change := <-changes; change != nil {
						return change, errors.New("not decided")
					}
					return nil, final
				}))
			handshake(t, client)
			if _, err := io.WriteString(client, "a file"); err != nil {
				t.Fatal(err)
			}
			for _, change := range []chan struct{}{first, second} {
				<-asked
				_ = srv.tcp.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
				if n, err := srv.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("the server got %d bytes, %v; want nothing yet", n, err)
				}
				close(change)
			}
			<-asked
			_ = srv.tcp.SetReadDeadline(time.Now().Add(relaytest.Patience))
			if final != nil {
				wantEndReset(t, "server", srv)
				wantNotAdmitted(t, client)
				wantHandshakeError(t, wait(t, dc).Err, Client, "resume the session")
				return
			}
			if _, err := io.ReadFull(srv, make([]byte, len("a file"))); err != nil {
				t.Errorf("the server: got %v; want the file", err)
			}
			dc.Close()
		})
	}
}

// A client for which nothing is ever decided is refused after the time of a handshake.
func TestNeverAdmitted(t *testing.T) {
	p := opener()
	p.HandshakeTime = time.Second // a busy machine needs some for the handshake itself
	dc, client, _ := connectTLS(t, p, passive, 0, admitting(
		func(tls.ConnectionState) (<-chan struct{}, error) { return make(chan struct{}), refusal{} }))
	wantNotAdmitted(t, client)
	wantHandshakeError(t, wait(t, dc).Err, Client, "resume the session")
}

// TLS with the client begins with the transfer. A client that waits for it first gets it after a while.
func TestClientHandshakeBegins(t *testing.T) {
	begin := make(chan struct{})
	dataTLS := legs{client: true}.dataTLS()
	dataTLS.TransferStarted = begin
	p := opener()
	p.graceTime = time.Hour
	dc, client, _ := connectTLS(t, p, passive, 0, dataTLS)
	shaken := make(chan error, 1)
	go func() { shaken <- client.tls.Handshake() }()
	select {
	case err := <-shaken:
		t.Errorf("got a handshake, %v, before the transfer", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(begin)
	if err := <-shaken; err != nil {
		t.Error(err)
	}
	dc.Close()

	dataTLS.TransferStarted = make(chan struct{})
	p.graceTime = time.Millisecond
	dc, client, _ = connectTLS(t, p, passive, 0, dataTLS)
	handshake(t, client)
	dc.Close()
}
