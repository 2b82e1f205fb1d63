package ftps

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab/labtest"
)

// A forward without TLS settings refuses TLS in FEAT and AUTH, and the log has the remedy.
func TestRefused(t *testing.T) {
	t.Parallel()
	s := harness.NewTestbed(t)
	p := s.Connect()
	p.Server.Send("220 ready")
	p.Client.Expect("220")
	p.Client.Send("FEAT")
	p.Server.Expect("FEAT")
	p.Server.Send("211-Features:\r\n AUTH TLS\r\n PBSZ\r\n PROT\r\n CCC\r\n SIZE\r\n211 End")
	var feat string
	for !strings.HasPrefix(feat, "211 ") {
		feat = p.Client.Expect("")
		for _, unwanted := range []string{"AUTH", "PBSZ", "PROT", "CCC"} {
			if strings.Contains(feat, unwanted) {
				t.Errorf("FEAT lists %q, which does not work here", feat)
			}
		}
	}
	for _, command := range []string{"AUTH TLS", "AUTH SSL", "AUTH GSSAPI"} {
		p.Client.Send("%s", command)
		if got := p.Client.Expect("534 "); !strings.Contains(got, "encrypted") {
			t.Errorf("%s: got %q; want the reason", command, got)
		}
	}
	p.WantAlive()
	s.Program.AwaitLog("kind=encryption", 1)
	harness.WantContains(t, s.Program.Log(), "--server-ports", "--tls-client")
	s.WantService()
}

// Clients that insist on TLS stop at once, with the reason.
func TestRefusedCurl(t *testing.T) {
	t.Parallel()
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
			peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
			flags := []string{"forward", harness.Gateway4, harness.Server4}
			if tt.terminated {
				flags = append(flags, harness.NewAuthority(t).ClientTLSFlags()...)
			}
			p := harness.Start(t, l.Gateway(), flags...).AwaitReady()
			text, err := peers.Exec(t, l.Client(), t.TempDir(), peers.Invocation{Args: []string{"curl",
				"--verbose", "--silent", "--show-error", "--insecure",
				"--max-time", "20", "--ssl-reqd", tt.scheme + harness.Gateway4 + "/"}})
			var exit *exec.ExitError
			const tookTooLong = 28
			if !errors.As(err, &exit) || exit.ExitCode() == tookTooLong || !strings.Contains(text, tt.want) {
				t.Errorf("got %v; want %q\n%s", err, tt.want, harness.LastLines(text))
			}
			p.AwaitLog("kind=encryption", 1)
		})
	}
}

// lftp with forced TLS sends no password to a gateway without TLS.
func TestRefusedLftp(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	s := peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
	harness.StartForward(t, l, harness.Forward4)
	o := peers.RunClient(t, l.Client(),
		peers.LFTPWithTLS(t, peers.ClientTLS{CAFile: harness.NewAuthority(t).CAFile}), s, peers.PASV,
		harness.Forward4.Listen)
	if o.Err == nil || !strings.Contains(o.Transcript,
		"ftp:ssl-force is set and server does not support or allow SSL") {
		t.Errorf("got %v; want lftp to give up, with the reason", o.Err)
	}
	if strings.Contains(o.Transcript, "---> PASS") {
		t.Error("got a password in clear")
	}
}
