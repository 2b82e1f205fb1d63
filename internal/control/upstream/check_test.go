package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/try/testca"
)

// checkKeys trust an authority.
type checkKeys struct{ *tls.Config }

func (k checkKeys) ForServer(forward.Forward) (control, data *tls.Config, err error) {
	if k.Config == nil {
		return nil, nil, errors.New("the forward is not loaded")
	}
	return k.Config, k.Config, nil
}

func (checkKeys) Explain(error) (plain, remedy string) { return "its certificate is wrong", "renew it" }

// checkServer answers one check by a script, a line for each command and the greeting first, and reports what
// it heard. "TLS" begins it; without a script the server hangs up.
func checkServer(t *testing.T, with *tls.Config, script ...string) (addr netip.AddrPort,
	heard func() []string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan []string, 1)
	go func() {
		var lines []string
		defer func() { ended <- lines }()
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { c.Close() }()
		in := bufio.NewScanner(c)
		hears := func() bool {
			if !in.Scan() {
				return false
			}
			lines = append(lines, in.Text())
			if in.Text() == "QUIT" {
				fmt.Fprint(c, "221 bye\r\n")
			}
			return in.Text() != "QUIT"
		}
		if len(script) == 0 {
			return
		}
		for _, say := range script {
			if say == "TLS" {
				encrypted := tls.Server(c, with)
				if encrypted.Handshake() != nil {
					return
				}
				c, in = encrypted, bufio.NewScanner(encrypted)
				continue
			}
			fmt.Fprint(c, say)
			if goesOn := strings.HasPrefix(say, "234 "); !goesOn && !hears() {
				return
			}
		}
		for hears() {
		}
	}()
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort(), func() []string { l.Close(); return <-ended }
}

func TestCheck(t *testing.T) {
	own, err := testca.SelfSigned("ftp.test", testca.ForNames("ftp.test"))
	if err != nil {
		t.Fatal(err)
	}
	serverTLS := &tls.Config{Certificates: []tls.Certificate{own.TLS()}}
	trusting := checkKeys{&tls.Config{ServerName: "ftp.test", RootCAs: own.Pool()}}
	for name, tt := range map[string]struct {
		tls    forward.ServerTLS
		keys   checkKeys
		script []string
		want   string // text and remedy; "": it answers
		heard  string
	}{
		"sound": {script: []string{"120 wait\r\n220-hello\r\n220 go on\r\n"}, heard: "QUIT"},
		"full": {script: []string{"421 too many\r\n"},
			want: "the server takes no sessions now; the server greets with 421: its own log says why"},
		"not FTP": {script: []string{"SSH-2.0-OpenSSH_9.2\r\n"},
			want: "the server's answer is not FTP; see what " +
				"listens there: a server that begins with TLS (port 990) wants tls.server = \"implicit\""},
		"closes": {want: "the server closed the connection; its own log says why", script: []string{}},
		"TLS": {tls: forward.ServerTLSRequired, keys: trusting,
			script: []string{"220 hello\r\n", "234 go on\r\n", "TLS"}, heard: "AUTH TLS, QUIT"},
		"begins with TLS": {tls: forward.ServerTLSImplicit, keys: trusting,
			script: []string{"TLS", "220 hello\r\n"}, heard: "QUIT"},
		"no TLS": {tls: forward.ServerTLSRequired, keys: trusting, script: []string{"220 hello\r\n",
			"502 what\r\n"},
			want: "the server does not encrypt its sessions; the server answers AUTH TLS with 502: switch " +
				"on its " +
				"explicit FTPS; one that begins with TLS (port 990) wants tls.server = \"implicit\"",
			heard: "AUTH TLS"},
		"a stranger's certificate": {tls: forward.ServerTLSRequired,
			keys:   checkKeys{&tls.Config{ServerName: "other"}},
			script: []string{"220 hello\r\n", "234 go on\r\n", "TLS"}, heard: "AUTH TLS",
			want: "no TLS with the server: its certificate is wrong; renew it"},
		"no keys": {tls: forward.ServerTLSRequired, want: "the forward is not loaded"},
	} {
		t.Run(name, func(t *testing.T) {
			addr, heard := checkServer(t, serverTLS, tt.script...)
			f := forward.Resolved{Server4: addr.Addr()}
			f.Server.Port, f.TLS.Server = addr.Port(), tt.tls
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			var got string
			if found := Check(ctx, nil, f, tt.keys); found != nil {
				got = strings.TrimSuffix(found.Text+"; "+found.Remedy, "; ")
			}
			if got != tt.want {
				t.Errorf("got %q; want %q", got, tt.want)
			}
			if got := strings.Join(heard(), ", "); got != tt.heard {
				t.Errorf("the server heard %q; want %q", got, tt.heard)
			}
		})
	}
}

// A server that takes the connection and says nothing does not answer, unless the gateway cannot know whether
// it waits for TLS. One that takes no connection does not, either.
func TestCheckOfSilentServer(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	check := func(tracking forward.Tracking) string {
		f := forward.Resolved{Server4: addr.Addr()}
		f.Server.Port, f.Tracking = addr.Port(), tracking
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if found := Check(ctx, nil, f, nil); found != nil {
			return found.Text
		}
		return ""
	}
	for tracking, want := range map[forward.Tracking]string{forward.TrackingNone: "",
		forward.TrackingKernel: "the server does not answer",
		forward.TrackingProxy:  "the server does not answer"} {
		if got := check(tracking); got != want {
			t.Errorf("tracking %s: got %q; want %q", tracking, got, want)
		}
	}
	l.Close()
	want := fmt.Sprintf("no connection: %s: connect: connection refused", addr)
	if got := check(forward.TrackingNone); got != want {
		t.Errorf("got %q; want %q", got, want)
	}
}
