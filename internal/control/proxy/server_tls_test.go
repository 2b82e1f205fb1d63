package proxy

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/core/forward"
)

// originated has the server spoken to in TLS.
func originated(f *forward.Forward) { f.TLS.Server = forward.ServerTLSRequired }

// hearAUTH lets the gateway begin TLS as far as its AUTH.
func (b *stage) hearAUTH(greeting string) {
	b.t.Helper()
	b.client = b.dial()
	b.accept()
	b.server.say("%s", greeting)
	b.server.hear("AUTH TLS")
}

// agree answers what the gateway asks for behind the handshake.
func (b *stage) agree() {
	b.t.Helper()
	b.server.hear("PBSZ 0")
	b.server.say("200 PBSZ=0\r\n")
	b.server.hear("PROT P")
	b.server.say("200 private\r\n")
}

func TestOriginated(t *testing.T) {
	k := newKeys(t)
	b := newStage(t, encrypting(k, originated))
	b.hearAUTH("120 wait\r\n220-hello\r\nthere\r\n220 go on\r\n")
	b.server.say("234 go on\r\n220 evil\r\n230 evil\r\n") // what comes after the yes is not the server's
	b.server.encrypt(k, true)
	b.agree()
	for _, line := range []string{"220-hello", "there", "220 go on"} {
		b.client.hear(line)
	}
	b.login()
	if data := b.pasv(); data.dataTLS.Server == nil || data.dataTLS.Client != nil ||
		!data.pinhole.TLS.Server {
		t.Errorf("got dataTLS %+v; want TLS with the server only", data.dataTLS)
	}
	b.ask("QUIT", "221 bye")
	b.server.heardAll() // close_notify arrived first, or there would be an error
	b.client.heardAll()
	b.wantRefused("")
}

func TestOriginatedImplicit(t *testing.T) {
	k := newKeys(t)
	b := newStage(t, encrypting(k, func(f *forward.Forward) { f.TLS.Server = forward.ServerTLSImplicit }))
	b.client = b.dial()
	b.accept()
	b.server.encrypt(k, true)
	b.server.say("220 hello\r\n")
	b.agree()
	b.client.hear("220 hello")
	b.login()
}

// A server that begins with TLS encrypts data, also where it does not know PBSZ and PROT.
func TestOriginatedImplicitWithoutPROT(t *testing.T) {
	k := newKeys(t)
	b := newStage(t, encrypting(k, func(f *forward.Forward) { f.TLS.Server = forward.ServerTLSImplicit }))
	b.client = b.dial()
	b.accept()
	b.server.encrypt(k, true)
	b.server.say("220 hello\r\n")
	for _, command := range []string{"PBSZ 0", "PROT P"} {
		b.server.hear(command)
		b.server.say("550 what\r\n")
	}
	b.client.hear("220 hello")
	b.login()
	if data := b.pasv(); data.dataTLS.Server == nil {
		t.Error("got data in clear; want TLS with the server")
	}
}

func TestReencrypted(t *testing.T) {
	k := newKeys(t)
	b := newStage(t, encrypting(k, func(f *forward.Forward) {
		required(f)
		originated(f)
		f.TLS.ServerDataClear = true
	}))
	b.hearAUTH("220 hello\r\n")
	b.server.say("234 go on\r\n")
	b.server.encrypt(k, true)
	b.server.hear("PBSZ 0")
	b.server.say("200 PBSZ=0\r\n")
	b.server.hear("PROT C")
	b.server.say("502 no such thing\r\n") // and so data is in clear
	b.client.hear("220 hello")
	b.auth(k)
	b.login()
	b.client.say("PBSZ 0\r\nPROT P\r\n")
	b.client.hear("200 PBSZ=0")
	b.client.hear("200 PROT P")
	if data := b.pasv(); data.dataTLS.Client == nil || data.dataTLS.Server != nil {
		t.Errorf("got dataTLS %+v; want TLS with the client only", data.dataTLS)
	}
}

// Without TLS the gateway sends nothing in clear, and the client gets the reason.
func TestOriginatedRefused(t *testing.T) {
	k := newKeys(t)
	for _, tt := range []struct {
		name   string
		server func(b *stage) // behind AUTH
		want   string         // the client's line
		remedy string
		kind   string
	}{
		{"stripped", func(b *stage) { b.server.say("500 AUTH?\r\n") },
			"421 the server does not encrypt its sessions", "answers AUTH TLS with 500", "encryption=1"},
		{"not trusted", func(b *stage) {
			b.server.say("234 go on\r\n")
			_ = (&conn.Control{TCPConn: b.server.TCPConn}).AcceptTLS(newKeys(t).serving(), nil)
		}, "421 no TLS with the server: explained", "mended", "encryption=1"},
		{"wants a certificate of ours", func(b *stage) { // which TLS 1.3 says behind the handshake
			b.server.say("234 go on\r\n")
			c := k.serving()
			c.ClientAuth = tls.RequireAnyClientCert
			_ = tls.Server(b.server.TCPConn, c).Handshake()
		}, "421 no TLS with the server: explained", "mended", "encryption=1"},
		{"no TLS", func(b *stage) {
			b.server.say("234 go on\r\nHTTP/1.0 400 what\r\n")
			b.server.CloseWrite()
		}, "421 no TLS with the server: explained", "mended", "encryption=1"},
		{"data in clear only", func(b *stage) {
			b.server.say("234 go on\r\n")
			b.server.encrypt(k, true)
			b.server.hear("PBSZ 0")
			b.server.say("200 PBSZ=0\r\n")
			b.server.hear("PROT P")
			b.server.say("536 no\r\n")
		}, "421 the server does not encrypt its data connections", "server_data", "encryption=1"},
		{"gone", func(b *stage) { b.server.CloseWrite() }, "421 the server closed the connection",
			"log", "unreachable=1"},
		{"not FTP", func(b *stage) { b.server.say("what\r\n"); b.server.CloseWrite() },
			"421 the server's answer is not FTP", "port 990", "bad_reply=1"},
		{"silent", func(*stage) {}, "421 the server does not answer", "implicit", "unreachable=1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			limit := limited(forward.Limits{})
			if tt.name == "silent" {
				limit = limited(forward.Limits{Login: 100 * time.Millisecond})
			}
			b := newStage(t, encrypting(k, originated), limit)
			b.hearAUTH("220 hello\r\n")
			tt.server(b)
			b.client.say("USER x\r\nPASS secret\r\n")
			b.client.hear(tt.want)
			b.client.heardAll()
			b.wantRefused(tt.kind)
			if !strings.Contains(b.logs.String(), tt.remedy) {
				t.Errorf("log: got no remedy with %q: %s", tt.remedy, b.logs)
			}
		})
	}
}

// A server that takes no sessions says so in its own time; a gateway that stops does not wait for it.
func TestOriginatedDrain(t *testing.T) {
	k := newKeys(t)
	b := newStage(t, encrypting(k, originated))
	b.hearAUTH("220 hello\r\n")
	b.drain()
	b.client.hear("421 the gateway is shutting down")
	b.client.heardAll()

	b = newStage(t, encrypting(k, originated))
	b.client = b.dial()
	b.accept()
	b.server.say("421 too many\r\n")
	b.client.hear("421 the server takes no sessions now")
}

// A server that greets with a refusal counts the same with and without TLS.
func TestTurnedAwayCounts(t *testing.T) {
	k := newKeys(t)
	for goodbye, setups := range map[string][]setup{
		"421 too many":                         nil,
		"421 the server takes no sessions now": {encrypting(k, originated)},
	} {
		b := newStage(t, setups...)
		b.client = b.dial()
		b.accept()
		b.server.say("421 too many\r\n")
		b.client.hear(goodbye)
		b.client.heardAll()
		b.drain()
		b.wantRefused("unreachable=1")
		if !strings.Contains(b.logs.String(), "the server takes no sessions now") {
			t.Errorf("%s: the log does not say why: %s", goodbye, b.logs)
		}
	}
}
