package servercheck

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"

	"ftpgate/internal/core/finding"
)

// TestJudgeReuseUntried has a server in front of which encrypted sessions pass, and whose data in TLS could
// not be tried.
func TestJudgeReuseUntried(t *testing.T) {
	chain := []*x509.Certificate{{DNSNames: []string{"ftp.example.com"}}}
	for want, change := range map[string]func(*attempt){
		"its certificate is not trusted": func(try *attempt) { try.loginSkipped = errUntrusted },
		"it takes no login":              func(try *attempt) { try.login = replied(530, "no") },
		"no listing in TLS worked":       func(try *attempt) { try.login = replied(230, "welcome") },
	} {
		try := &attempt{setup: setup{dialTook: 1, auth: replied(234, "go on"),
			handshake: &handshake{version: tls.VersionTLS13, chain: chain}}}
		change(try)
		found := judgeAll(forwarded(through), []report{{at: serverAt, clear: well(), tls: try}})
		last := found[len(found)-1]
		if last.Code != CodeReuse || last.Severity != finding.Info || !strings.Contains(last.Text, want) {
			t.Errorf("got %s; want a note with %q", format(found), want)
		}
	}
}
