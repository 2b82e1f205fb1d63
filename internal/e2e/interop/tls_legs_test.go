package interop

import (
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab/labtest"
)

// bothTLSFlags are the flags for TLS on both legs.
func bothTLSFlags(a *harness.Authority) []string {
	return append(a.ClientTLSFlags(), a.ServerTLSFlags()...)
}

// TestClientTLS makes every client use TLS with the gateway, in front of a server in clear.
func TestClientTLS(t *testing.T) {
	t.Parallel()
	for _, at := range []harness.Forward{harness.Forward4, harness.Forward6} {
		for name, tt := range map[string]struct {
			versions []string
			clients  []string
			flags    []string
		}{
			"resuming": {[]string{"1.2", "1.3"}, []string{"lftp", "ftplib resuming"}, nil},
			"curl 1.3": {[]string{"1.3"}, []string{"curl"}, nil},
			// With TLS 1.2 curl disables the tickets that resumption needs.
			"curl 1.2": {[]string{"1.2"}, []string{"curl"}, []string{"--tls-session-reuse=false"}},
		} {
			t.Run(name+"/"+at.IPVersion(), func(t *testing.T) {
				t.Parallel()
				l := labtest.New(t)
				a := harness.NewAuthority(t)
				s := peers.VSFTPD(t, l.Server(), at.Server)
				harness.StartForward(t, l, at, append(a.ClientTLSFlags(), tt.flags...)...)
				for _, version := range tt.versions {
					for _, client := range tt.clients {
						c := peers.TLSClients[client](t, peers.ClientTLS{CAFile: a.CAFile, Version: version,
							UsePASVAddress: true})
						t.Run(version, func(t *testing.T) { peers.CheckClients(t, l, s, at, c) })
					}
				}
			})
		}
	}
}

// The other servers in clear.
func TestClientTLSServers(t *testing.T) {
	t.Parallel()
	for name, run := range peers.Servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			a := harness.NewAuthority(t)
			s := run(t, l.Server(), harness.Forward4.Server)
			harness.StartForward(t, l, harness.Forward4, a.ClientTLSFlags()...)
			c := peers.LFTPWithTLS(t, peers.ClientTLS{CAFile: a.CAFile, UsePASVAddress: true})
			for _, m := range []peers.Mode{peers.PASV, peers.PORT} {
				t.Run(string(m), func(t *testing.T) { peers.CheckClient(t, l, c, s, m, harness.Forward4) })
			}
		})
	}
}

// Implicit TLS, as at port 990.
func TestClientTLSImplicit(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	a := harness.NewAuthority(t)
	s := peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
	harness.StartForward(t, l, harness.Forward4, append(a.ClientTLSFlags(), "--tls-implicit")...)
	for _, with := range []peers.TLSClient{peers.CurlWithTLS, peers.LFTPWithTLS} {
		c := with(t, peers.ClientTLS{CAFile: a.CAFile, UsePASVAddress: true, Implicit: true})
		for _, m := range []peers.Mode{peers.PASV, peers.EPSV} {
			t.Run(c.Name+"/"+string(m), func(t *testing.T) {
				peers.CheckClient(t, l, c, s, m,
					harness.Forward4)
			})
		}
	}
}

// serverTLSVersions are the versions of TLS that each server can be limited to.
var serverTLSVersions = map[string][]string{"vsftpd": {""}, "proftpd": {"", "1.2"}, "pure-ftpd": {""},
	"pyftpdlib": {"", "1.2"}}

// TestServerTLS lets clients without TLS reach servers that refuse everything in clear, and data
// connections that do not resume.
func TestServerTLS(t *testing.T) {
	t.Parallel()
	for name, run := range peers.TLSServers {
		for _, version := range serverTLSVersions[name] {
			for _, at := range []harness.Forward{harness.Forward4, harness.Forward6} {
				t.Run(name+"/"+version+"/"+at.IPVersion(), func(t *testing.T) {
					t.Parallel()
					l := labtest.New(t)
					a := harness.NewAuthority(t)
					s := run(t, l.Server(), at.Server, peers.ServerTLS{Certificate: a.IssueServer(),
						MaxVersion: version})
					harness.StartForward(t, l, at, a.ServerTLSFlags()...)
					peers.CheckClients(t, l, s, at, peers.Curl)
				})
			}
		}
	}
}

// The other clients without TLS.
func TestServerTLSClients(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	a := harness.NewAuthority(t)
	s := peers.VSFTPDWithTLS(t, l.Server(), harness.Forward4.Server,
		peers.ServerTLS{Certificate: a.IssueServer()})
	harness.StartForward(t, l, harness.Forward4, a.ServerTLSFlags()...)
	peers.CheckClients(t, l, s, harness.Forward4, peers.LFTP, peers.NcFTP, peers.Tnftp)
}

// TestServerTLSTerms makes the gateway the client of servers that demand more.
func TestServerTLSTerms(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		server string
		terms  peers.ServerTLS
	}{
		"implicit, vsftpd":  {"vsftpd", peers.ServerTLS{Implicit: true}},
		"implicit, proftpd": {"proftpd", peers.ServerTLS{Implicit: true}},
		"vsftpd":            {"vsftpd", peers.ServerTLS{ClientCA: "own"}},
		"proftpd":           {"proftpd", peers.ServerTLS{ClientCA: "own"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			a := harness.NewAuthority(t)
			want := tt.terms
			want.Certificate = a.IssueServer()
			flags := a.ServerTLSFlags()
			if want.Implicit {
				flags[1] = "implicit"
			}
			if want.ClientCA != "" {
				own := a.Issue(harness.GatewayName)
				want.ClientCA = a.CAFile
				flags = append(flags, "--tls-client-cert", own.CertFile, "--tls-client-key", own.KeyFile)
			}
			s := peers.TLSServers[tt.server](t, l.Server(), harness.Forward4.Server, want)
			harness.StartForward(t, l, harness.Forward4, flags...)
			for _, m := range []peers.Mode{peers.PASV, peers.PORT} {
				o := peers.RunClient(t, l.Client(), peers.Curl, s, m, harness.Forward4.Listen)
				o.WantFiles(t, s)
			}
		})
	}
}

// A server demands resumption and issues no tickets: the client gets the server's refusal, and the log
// has the remedy.
func TestServerTLSNothingToResume(t *testing.T) {
	t.Parallel()
	labtest.Need(t, "curl")
	l := labtest.New(t)
	a := harness.NewAuthority(t)
	s := peers.ProFTPDWithTLS(t, l.Server(), harness.Forward4.Server,
		peers.ServerTLS{Certificate: a.IssueServer(), MaxVersion: "1.2", NoTickets: true})
	p := harness.Start(t, l.Gateway(), append([]string{"forward", harness.Gateway4, harness.Server4},
		a.ServerTLSFlags()...)...).AwaitReady()
	text, err := peers.Exec(t, l.Client(), t.TempDir(), peers.Invocation{Args: []string{"curl", "--verbose",
		"--silent", "--show-error", "--max-time", "20",
		"--user", s.User + ":" + s.Password, "ftp://" + harness.Gateway4 + "/"}})
	if err == nil {
		t.Errorf("curl got a listing over a data connection that was not resumed:\n%s",
			harness.LastLines(text))
	}
	p.AwaitLog("kind=broken_transfer", 1)
	harness.WantContains(t, p.Log(), "TLSSessionTickets on")
}

// TestBothLegsTLS makes every client and server use TLS with the gateway.
func TestBothLegsTLS(t *testing.T) {
	t.Parallel()
	for name, run := range peers.TLSServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			a := harness.NewAuthority(t)
			s := run(t, l.Server(), harness.Forward4.Server, peers.ServerTLS{Certificate: a.IssueServer()})
			harness.StartForward(t, l, harness.Forward4, bothTLSFlags(a)...)
			for client, with := range peers.TLSClients {
				if client != "ftplib" { // which does not resume
					peers.CheckClients(t, l, s, harness.Forward4,
						with(t, peers.ClientTLS{CAFile: a.CAFile, UsePASVAddress: true}))
				}
			}
		})
	}
}

// TestBothLegsTLSOtherFamily joins clients with servers of the other version of IP, with TLS on both
// legs.
func TestBothLegsTLSOtherFamily(t *testing.T) {
	t.Parallel()
	for at, modes := range map[harness.Forward]map[peers.Mode]peers.Mode{
		harness.Forward4To6: peers.ModesTowardsIPv6,
		harness.Forward6To4: peers.ModesTowardsIPv4,
	} {
		t.Run(at.IPVersion(), func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			a := harness.NewAuthority(t)
			s := peers.VSFTPDWithTLS(t, l.Server(), at.Server, peers.ServerTLS{Certificate: a.IssueServer()})
			harness.StartForward(t, l, at, bothTLSFlags(a)...)
			peers.CheckTranslated(t, l, s, at, modes, peers.FtplibResuming(t,
				peers.ClientTLS{CAFile: a.CAFile, UsePASVAddress: true}))
		})
	}
}
