package e2e

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"ftpgate/internal/try/lab/labtest"
)

// A forward that says nothing about TLS says so: to the client in FEAT and AUTH, to the operator in the
// log, with what to do.
func TestFTPSRefused(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	p := s.connect()
	p.server.say("220 ready")
	p.client.hear("220")
	p.client.say("FEAT")
	p.server.hear("FEAT")
	p.server.say("211-Features:\r\n AUTH TLS\r\n PBSZ\r\n PROT\r\n CCC\r\n SIZE\r\n211 End")
	var feat string
	for !strings.HasPrefix(feat, "211 ") {
		feat = p.client.hear("")
		for _, unwanted := range []string{"AUTH", "PBSZ", "PROT", "CCC"} {
			if strings.Contains(feat, unwanted) {
				t.Errorf("FEAT lists %q, which does not work here", feat)
			}
		}
	}
	for _, command := range []string{"AUTH TLS", "AUTH SSL", "AUTH GSSAPI"} {
		p.client.say("%s", command)
		if got := p.client.hear("534 "); !strings.Contains(got, "encrypted") {
			t.Errorf("%s: got %q; want the reason", command, got)
		}
	}
	p.stillThere()
	s.gate.await("kind=encryption", 1)
	wantLines(t, s.gate.text(), "server_ports", "[forward.tls]")
	s.serves()
}

// Real clients that insist on TLS end at once, and say why.
func TestFTPSRefusedCurl(t *testing.T) {
	for name, tt := range map[string]struct {
		terminated   bool
		scheme, want string
	}{
		"explicit":                          {false, "ftp://", "curl: (64) Requested SSL level failed"},
		"implicit":                          {false, "ftps://", "curl: (35) "},
		"implicit, where explicit would do": {true, "ftps://", "curl: (35) "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			labtest.Need(t, "curl")
			l := labtest.New(t)
			vsftpd(t, l.Server(), site4.server)
			flags := []string{"forward", gateway4, server4}
			if tt.terminated {
				flags = append(flags, terminated(newAuthority(t))...)
			}
			p := start(t, l.Gateway(), flags...).ready()
			text, err := do(t, l.Client(), t.TempDir(), step{args: []string{"curl", "--verbose", "--silent", "--show-error", "--insecure",
				"--max-time", "20", "--ssl-reqd", tt.scheme + gateway4 + "/"}})
			var exit *exec.ExitError
			const tookTooLong = 28
			if !errors.As(err, &exit) || exit.ExitCode() == tookTooLong || !strings.Contains(text, tt.want) {
				t.Errorf("got %v; want %q\n%s", err, tt.want, lastLines(text))
			}
			p.await("kind=encryption", 1)
		})
	}
}

// lftp, told to force TLS, sends no password to a gateway that has none.
func TestFTPSRefusedLftp(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	s := vsftpd(t, l.Server(), site4.server)
	forward(t, l, site4)
	o := call(t, l.Client(), lftpTLS(t, trust{ca: newAuthority(t).ca}), s, pasv, site4.listen)
	if o.err == nil || !strings.Contains(o.transcript, "ftp:ssl-force is set and server does not support or allow SSL") {
		t.Errorf("got %v; want lftp to give up, with the reason", o.err)
	}
	if strings.Contains(o.transcript, "---> PASS") {
		t.Error("got a password in clear")
	}
}
