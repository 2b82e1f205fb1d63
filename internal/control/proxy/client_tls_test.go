package proxy

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
)

// encrypting sets a forward up for TLS.
func encrypting(k *fakeKeys, set func(f *forward.Forward)) setup {
	return func(p *Proxy, f *forward.Resolved) {
		p.Keys = k
		set(&f.Forward)
	}
}

func required(f *forward.Forward) { f.TLS.Client = forward.ClientTLSRequired }
func optional(f *forward.Forward) { f.TLS.Client = forward.ClientTLSOptional }

// encrypt has a peer continue in TLS, as the client or as the server.
func (p *peer) encrypt(k *fakeKeys, server bool) *tls.Conn {
	p.t.Helper()
	secure := tls.Client(p.TCPConn, &tls.Config{RootCAs: k.roots, ServerName: "127.0.0.1"})
	if server {
		secure = tls.Server(p.TCPConn, &tls.Config{Certificates: []tls.Certificate{k.cert}})
	}
	if err := secure.Handshake(); err != nil {
		p.t.Fatal(err)
	}
	p.secure, p.lines = secure, bufio.NewReader(secure)
	return secure
}

// decrypt continues in clear, with or without a close_notify.
func (p *peer) decrypt(polite bool) {
	p.t.Helper()
	if polite {
		if err := p.secure.CloseWrite(); err != nil {
			p.t.Fatal(err)
		}
	}
	p.secure, p.lines = nil, bufio.NewReader(p.TCPConn)
	_ = p.SetDeadline(time.Now().Add(60 * time.Second)) // which crypto/tls leaves in the past
}

// auth begins TLS with the gateway.
func (b *stage) auth(k *fakeKeys) {
	b.t.Helper()
	b.client.say("AUTH TLS\r\n")
	b.client.hear("234 begin with TLS")
	b.client.encrypt(k, false)
}

func TestTerminated(t *testing.T) {
	k := newKeys(t)
	b := newStage(t, encrypting(k, required)).connect()
	b.client.say("USER x\r\n")
	b.client.hear("530 log in over TLS only: send AUTH TLS first")
	b.auth(k)
	b.login()
	for _, command := range []string{"PBSZ 0", "PROT P"} {
		b.client.say("%s\r\n", command)
		b.client.hear(map[string]string{"PBSZ 0": "200 PBSZ=0", "PROT P": "200 PROT P"}[command])
	}
	if data := b.pasv(); data.dataTLS.Client == nil || data.dataTLS.Server != nil ||
		!data.pinhole.TLS.Client {
		t.Errorf("got dataTLS %+v; want TLS with the client only", data.dataTLS)
	}
	if !strings.Contains(b.logs.String(), `msg="control connection encrypted" forward=test`) {
		t.Errorf("log: got nothing of TLS: %s", b.logs)
	}
	b.ask("QUIT", "221 bye")
	b.client.heardAll() // close_notify arrived first, or there would be an error
	b.wantRefused("encryption=1")
}

// The session passes the user and the end of the control connection to the client's TLS: by that others may
// resume its TLS session.
func TestTerminatedLogin(t *testing.T) {
	k := newKeys(t)
	b := newStage(t, encrypting(k, required)).connect()
	b.auth(k)
	clientTLS := k.client
	if want := netip.MustParseAddr("127.0.0.1"); clientTLS.address != want {
		t.Errorf("got the client %s; want %s", clientTLS.address, want)
	}
	b.ask("USER alice", "331 password")
	clientTLS.wantCalls(t, "login  false")
	b.ask("PASS x", "230 welcome")
	clientTLS.wantCalls(t, "login  false, login alice true")
	// a server that keeps the login, and has a kind word for every PASS
	b.ask("USER bob", "550 you are alice")
	b.ask("PASS x", "230 already logged in")
	clientTLS.wantCalls(t, "login  false, login alice true")
	b.ask("USER carol", "230 no password needed")
	clientTLS.wantCalls(t, "login  false, login alice true, login carol true")
	b.ask("QUIT", "221 bye")
	b.client.heardAll()
	clientTLS.wantCalls(t, "login  false, login alice true, login carol true, close")
}

func TestTerminatedInClear(t *testing.T) {
	k := newKeys(t)
	b := newStage(t, encrypting(k, optional)).connect()
	b.auth(k)
	b.login()
	if data := b.pasv(); data.dataTLS.Client != nil || data.pinhole.TLS.Any() {
		t.Errorf("got dataTLS %+v; want data in clear", data.dataTLS)
	}
}

// What an attacker on the path puts between AUTH and the handshake is not the client's.
func TestTerminatedInjection(t *testing.T) {
	k := newKeys(t)
	b := newStage(t, encrypting(k, required)).connect()
	b.client.say("AUTH TLS\r\nUSER evil\r\nPASS evil\r\n")
	b.client.hear("234 begin with TLS")
	b.client.encrypt(k, false)
	b.login() // the server hears this and nothing before
	b.wantRefused("encryption=1")

	b.connect()
	b.client.say("AUTH TLS\r\n")
	b.client.hear("234 begin with TLS")
	b.client.say("USER evil\r\n") // now it stands in the place of the handshake
	b.server.heardAll()
}

// A client that sends its handshake with AUTH is impatient, and no attack.
func TestTerminatedImpatient(t *testing.T) {
	k := newKeys(t)
	b := newStage(t, encrypting(k, required)).connect()
	here, there := net.Pipe()
	secure := tls.Client(here, &tls.Config{RootCAs: k.roots, ServerName: "127.0.0.1"})
	go func() { _ = secure.Handshake() }()
	hello := make([]byte, 4096)
	n, err := there.Read(hello)
	if err != nil {
		t.Fatal(err)
	}
	b.client.say("AUTH TLS\r\n%s", hello[:n])
	b.client.hear("234 begin with TLS")
	if first, err := b.client.lines.ReadByte(); first != 22 {
		t.Errorf("got %d, %v; want the server's handshake", first, err)
	}
	b.wantRefused("")
}

// A handshake that dribbles ends with the time for the login, and without a word in clear.
func TestTerminatedDribble(t *testing.T) {
	k := newKeys(t)
	b := newStage(t, encrypting(k, required), limited(forward.Limits{Login: time.Second})).connect()
	b.client.say("AUTH TLS\r\n")
	b.client.hear("234 begin with TLS")
	b.client.say("\x16\x03\x01")
	b.server.heardAll()
	b.client.heardAll()
	b.wantRefused("time=1")
}

func TestCCC(t *testing.T) {
	k := newKeys(t)
	for _, polite := range []bool{true, false} { // there are clients that continue without a close_notify
		b := newStage(t, encrypting(k, func(f *forward.Forward) {
			f.TLS.Client,
				f.TLS.CCC = forward.ClientTLSRequired, true
		})).connect()
		b.auth(k)
		b.login()
		b.client.say("CCC\r\n")
		b.client.hear("200 the control connection continues in plain text")
		if _, err := b.client.lines.ReadByte(); err != io.EOF {
			t.Fatalf("got %v; want close_notify", err)
		}
		b.client.decrypt(polite)
		b.ask("NOOP", "200 ok")
		b.ask("NOOP", "200 ok")
	}
}

func TestREINEndsTLS(t *testing.T) {
	k := newKeys(t)
	b := newStage(t, encrypting(k, required)).connect()
	b.auth(k)
	b.login()
	b.ask("REIN", "220 anew")
	if _, err := b.client.lines.ReadByte(); err != io.EOF {
		t.Fatalf("got %v; want close_notify", err)
	}
	b.client.decrypt(true)
	b.auth(k)
	b.login()
}

// The greeting of a server that is fast waits for the client's TLS.
func TestImplicit(t *testing.T) {
	k := newKeys(t)
	b := newStage(t, encrypting(k, func(f *forward.Forward) {
		f.TLS.Client,
			f.TLS.Implicit = forward.ClientTLSRequired, true
	}))
	b.client = b.dial()
	b.accept()
	b.server.say("220 hello\r\n")
	b.client.encrypt(k, false)
	b.client.hear("220 hello")
	b.login()
	if data := b.pasv(); data.dataTLS.Client == nil {
		t.Error("got data in clear; want TLS, which implicit FTPS implies")
	}

	b.client = b.dial() // a client in clear hears nothing that it could take for an answer
	b.accept()
	b.client.say("USER x\r\n")
	b.server.heardAll()
}

func TestHelloRefused(t *testing.T) {
	b := newStage(t).connect()
	b.client.say("\x16\x03\x01\x02\n\x01\x00\x01\xfc\x03\x03")
	b.client.hear("421 this gateway cannot carry an encrypted session to this server")
	b.client.heardAll()
	b.wantRefused("encryption=1")
	if log := b.logs.String(); !strings.Contains(log, "server_ports") ||
		!strings.Contains(log, "tls.client") {
		t.Errorf("log: got no remedies: %s", log)
	}
}

func passing(_ *Proxy, f *forward.Resolved) {
	f.ServerPorts = forward.PortRange{First: 50000, Last: 50100}
}

// exchangeBytes exchanges what is no line in both directions.
func (b *stage) exchangeBytes() {
	b.t.Helper()
	for _, way := range [][2]*peer{{b.client, b.server}, {b.server, b.client}} {
		way[0].say("\x16\x03\x00\n\xff\xf4 221 bye\r\x00")
		got := make([]byte, 15)
		if _, err := io.ReadFull(way[1].lines, got); err != nil ||
			string(got) != "\x16\x03\x00\n\xff\xf4 221 bye\r" {
			b.t.Fatalf("got %q, %v; want it as it was", got, err)
		}
		if _, err := way[1].lines.ReadByte(); err != nil {
			b.t.Fatal(err)
		}
	}
}

func TestPassedThrough(t *testing.T) {
	b := newStage(t, passing).connect()
	b.ask("AUTH TLS", "502 not today")
	if n := b.path.passthroughs(); n != 0 {
		t.Fatalf("after the server's no got %d passthroughs; want none", n)
	}
	b.ask("AUTH TLS", "234 go on")
	if n := b.path.passthroughs(); n != 1 {
		t.Fatalf("got %d passthroughs; want one", n)
	}
	b.exchangeBytes()
	if err := b.client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(b.server.lines); err != nil || len(rest) > 0 {
		t.Errorf("the server got %q, %v; want the end", rest, err)
	}
	b.server.say("last words")
	b.server.Close()
	if rest, err := io.ReadAll(b.client.lines); err != nil || string(rest) != "last words" {
		t.Errorf("the client got %q, %v; want the server's last words", rest, err)
	}
	b.client.Close()
	b.await("the end of the passthrough", func() bool { return b.path.passthroughs() == 0 })
	b.wantRefused("")
}

func TestPassedThroughImplicit(t *testing.T) {
	b := newStage(t, passing)
	b.client = b.dial()
	b.accept()
	b.exchangeBytes()
	b.server.Close()
	b.client.heardAll()
	b.wantRefused("")
}

// A server that speaks in plain text just when the client has begun with TLS ends it.
func TestPassedThroughTooLate(t *testing.T) {
	b := newStage(t, passing).connect()
	b.client.say("\x16\x03\x01")
	b.client.hear("421 the server begins in plain text, and encrypts with AUTH TLS")
	b.client.heardAll()
}

func TestPassedThroughNoPassthrough(t *testing.T) {
	b := newStage(t, passing).connect()
	b.path.set(errors.New("port 50007 is in use"), nil)
	b.client.say("AUTH TLS\r\n")
	b.client.hear("431 encryption is not possible now, try again later")
	b.login() // and the server has heard nothing of it
	if !strings.Contains(b.logs.String(), "port 50007 is in use") {
		t.Errorf("log: got no cause: %s", b.logs)
	}
}

// A session that the gateway does not read may be in a transfer: it stays while the gateway drains, and is
// cut then.
func TestPassedThroughDrains(t *testing.T) {
	b := newStage(t, passing, limited(forward.Limits{Idle: time.Second, Login: time.Second})).connect()
	b.ask("AUTH TLS", "234 go on")
	b.exchangeBytes()
	b.drain()
	b.exchangeBytes()
	b.abort()
	b.client.heardAll()
	b.server.heardAll()
	b.await("an end without a last line", func() bool {
		return strings.Contains(b.logs.String(),
			`goodbye=""`)
	})
}
