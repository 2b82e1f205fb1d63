package proxy

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/observe/sessions"
)

// Of many refusals a session logs a few, counts all, and ends: sooner before the login than after it.
func TestFloodOfRefusals(t *testing.T) {
	const last = "421 too many refusals in this session"
	for name, tt := range map[string]struct {
		begin func(*stage) *stage
		most  int
	}{
		"before the login": {func(b *stage) *stage { return b.connect() }, 50},
		"of a user":        {func(b *stage) *stage { return b.connect().login() }, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			j := sessions.New(time.Now())
			b := tt.begin(newStage(t, withJournal(j)))
			// it may be cut off
			go func() { _, _ = io.WriteString(b.client, strings.Repeat("LPSV\r\n", 5000)) }()
			for range tt.most - 1 {
				b.client.hear("502 use EPSV or EPRT")
			}
			b.client.hear(last)
			b.server.heardAll()
			b.await("the session's end", func() bool {
				return strings.Contains(b.logs.String(),
					"session ends")
			})
			log := b.logs.String()
			if got := strings.Count(log, `msg="request refused"`); got != 11 || !strings.Contains(log,
				`kind=limit reason="too many refusals in this session"`) {
				t.Errorf("log: got %d refusals; want 10, and that of the session: %s", got, log)
			}
			if want := fmt.Sprintf("refusals=%d unlogged=%d goodbye=%q", tt.most+1, tt.most-9,
				last); !strings.Contains(
				log, want) {
				t.Errorf("log: no %s in it: %s", want, log)
			}
			if got, want := b.refusals(), fmt.Sprintf("limit=1 command=%d", tt.most); got != want {
				t.Errorf("counted %s; want %s", got, want)
			}
			if e, _ := b.timeline(j); e.Verdict.Code != verdict.CodeTooManyRefusals {
				t.Errorf("got %+v; want %s", e.Verdict, verdict.CodeTooManyRefusals)
			}
		})
	}
}

// A client that tries in vain before every transfer may do so as often as it likes.
func TestRefusalsBetweenTransfers(t *testing.T) {
	b := newStage(t).connect().login()
	for range 3 {
		for range 500 {
			b.client.say("LPSV\r\n")
			b.client.hear("502 use EPSV or EPRT")
		}
		close(b.transfer().done)
		b.server.say("226 done\r\n")
		b.client.hear("226 done")
	}
	b.ask("NOOP", "200 ok")
}

// A client that speaks another protocol learns it at once, the server hears nothing of it, and the verdict
// names the client.
func TestForeignClients(t *testing.T) {
	for name, tt := range map[string]struct {
		says, hears string
		code        verdict.Code
		text        string
	}{
		"HTTP": {"POST / HTTP/1.1\r\nHost: 192.168.5.2\r\n\r\nUSER x\r\nPASS y\r\nPORT 127,0,0,1,40,0\r\n",
			"421 this is FTP, and the client speaks HTTP", "client_speaks_http", "probably a browser"},
		"Host": {"host: 192.168.5.2\r\n\r\nUSER x\r\n",
			"421 this is FTP, and the client speaks HTTP", "client_speaks_http", "probably a browser"},
		"SSH": {"SSH-2.0-OpenSSH_9.2p1\r\n\x00\x00\x01\x02\x05\x14",
			"421 this is FTP, and the client speaks SSH", "client_speaks_ssh", "an SSH client"},
		"TLS": {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
			"421 this gateway cannot carry an encrypted session to this server", "tls_refused",
			"asked for encryption"},
	} {
		for _, when := range []string{"first", "later"} {
			t.Run(name+" "+when, func(t *testing.T) {
				j := sessions.New(time.Now())
				b := newStage(t, withJournal(j)).connect()
				if when == "later" {
					b.ask("NOOP", "200 ok").login()
				}
				b.client.say("%s", tt.says)
				b.client.hear(tt.hears)
				b.client.heardAll()
				b.server.heardAll()
				b.await("the session's end", func() bool {
					return b.sessions() == 0 &&
						len(slices.Collect(j.Ended())) == 1
				})
				if e, _ := b.timeline(j); e.Verdict.Code != tt.code || !strings.Contains(e.Verdict.Text,
					tt.text) {
					t.Errorf("got %+v; want %s with %q", e.Verdict, tt.code, tt.text)
				}
			})
		}
	}
}

// TLS where AUTH is due has a verdict of its own.
func TestForeignTLS(t *testing.T) {
	j := sessions.New(time.Now())
	b := newStage(t, withJournal(j), encrypting(newKeys(t), optional)).connect().login()
	b.client.say("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
	b.client.hear("421 clients begin in plain text here, and encrypt with AUTH TLS")
	b.client.heardAll()
	b.server.heardAll()
	b.await("the session's end", func() bool { return len(slices.Collect(j.Ended())) == 1 })
	if e, _ := b.timeline(j); e.Verdict.Code != verdict.CodeClientBeginsTLS ||
		!strings.Contains(e.Verdict.Text, "with TLS where plain text is expected") || e.Verdict.Remedy == "" {
		t.Errorf("got %+v; want %s", e.Verdict, verdict.CodeClientBeginsTLS)
	}
}

// All addresses of an IPv6 network are one client, and another network is another one.
func TestSessionsOfNetwork(t *testing.T) {
	for name, tt := range map[string]struct {
		bits  int
		admit string // with one session of 2001:db8::1
		want  verdict.RefusalKind
	}{
		"another address":          {0, "2001:db8::2:2", verdict.RefusedLimit},
		"another network":          {0, "2001:db8:0:1::1", verdict.NotRefused},
		"another /64, one /56":     {56, "2001:db8:0:1::1", verdict.RefusedLimit},
		"another address, told so": {128, "2001:db8::2:2", verdict.NotRefused},
	} {
		b := newStage(t).connect()
		f := forward.Resolved{Forward: forward.Forward{Limits: forward.Limits{PerClient: 1,
			IPv6Prefix: tt.bits}}}
		first, second := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr(tt.admit)
		for range 2 { // what leaves makes room
			if got, reason := b.proxy.admit(first, f); got != verdict.NotRefused {
				t.Fatalf("%s: the first is refused: %s", name, reason)
			}
			got, _ := b.proxy.admit(second, f)
			if got != tt.want {
				t.Errorf("%s: got %s; want %s", name, got, tt.want)
			}
			if b.proxy.leave(f.Limits.ClientOf(first)); got == verdict.NotRefused {
				b.proxy.leave(f.Limits.ClientOf(second))
			}
		}
	}
}
