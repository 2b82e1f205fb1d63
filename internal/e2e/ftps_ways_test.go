package e2e

import (
	"net/netip"
	"testing"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// The flags of the ways in which sessions are encrypted, with what an authority has issued.

func passedThrough() []string { return []string{"--server-ports", passiveRange} }

func terminated(a *authority) []string {
	pair := a.gateway()
	return []string{"--tls-client", "required", "--tls-cert", pair.cert, "--tls-key", pair.key}
}

func originated(a *authority) []string {
	return []string{"--tls-server", "required", "--tls-ca", a.ca}
}

func bothLegs(a *authority) []string { return append(terminated(a), originated(a)...) }

// TestFTPSPassedThrough has every client and server agree on TLS between themselves. The address in
// a 227 is the server's, which the clients know to leave aside.
func TestFTPSPassedThrough(t *testing.T) {
	for serverName, run := range secureServers {
		for clientName, with := range secureClients {
			if ownFault(clientName, serverName) != "" {
				continue // TestFTPSWithoutGateway
			}
			for at, six := range map[site]bool{site4: false, site6: true} {
				modes := passiveOnly(with(t, trust{}).v4)
				if six {
					modes = passiveOnly(with(t, trust{}).v6)
				}
				for _, m := range modes {
					t.Run(serverName+"/"+clientName+"/"+at.version()+"/"+string(m), func(t *testing.T) {
						t.Parallel()
						l := labtest.New(t)
						a := newAuthority(t)
						s := run(t, l.Server(), at.server, terms{pair: a.server()})
						forward(t, l, at, passedThrough()...)
						unread(t, l, with(t, trust{ca: a.ca}), s, m, at)
					})
				}
			}
		}
	}
}

// unread is through where nobody on the way reads what is said.
func unread(t *testing.T, l *lab.Lab, c client, s server, m mode, at site) {
	t.Helper()
	o := call(t, l.Client(), c, s, m, at.listen)
	o.files(t, s)
	o.allInMode(t, "the client sent", findCommands(clientCommand, o.transcript))
}

// Certificates of clients, versions of TLS and sessions without AUTH are the peers' own matter.
func TestFTPSPassedThroughTerms(t *testing.T) {
	for name, tt := range map[string]struct {
		server string
		terms  terms
		trust  trust
	}{
		"TLS 1.2":                      {"vsftpd", terms{}, trust{only: "1.2"}},
		"TLS 1.3":                      {"vsftpd", terms{}, trust{only: "1.3"}},
		"implicit, vsftpd":             {"vsftpd", terms{implicit: true}, trust{implicit: true}},
		"implicit, proftpd":            {"proftpd", terms{implicit: true}, trust{implicit: true}},
		"certificate of the client":    {"proftpd", terms{clientsCA: "own"}, trust{}},
		"certificate of the client, 2": {"vsftpd", terms{clientsCA: "own"}, trust{}},
	} {
		for path, flags := range dataPaths {
			for _, with := range []string{"curl", "lftp"} {
				// With TLS 1.3 lftp closes an upload with the server's session tickets unread: its kernel
				// resets and throws away what it has not sent yet. The slower the way, the more.
				know := tt.trust
				if with == "lftp" && path == "relay" {
					if know.only == "1.3" {
						continue
					}
					know.only = "1.2"
				}
				t.Run(name+"/"+path+"/"+with, func(t *testing.T) {
					t.Parallel()
					l := labtest.New(t)
					a := newAuthority(t)
					want := tt.terms
					want.pair, know.ca = a.server(), a.ca
					if want.clientsCA != "" {
						want.clientsCA, know.own = a.ca, a.issue("client.lab.example")
					}
					s := secureServers[tt.server](t, l.Server(), site4.server, want)
					forward(t, l, site4, append(passedThrough(), flags...)...)
					unread(t, l, secureClients[with](t, know), s, epsv, site4)
				})
			}
		}
	}
}

// TestFTPSTerminated has every client speak TLS with the gateway, and servers in clear.
func TestFTPSTerminated(t *testing.T) {
	for clientName, with := range secureClients {
		if clientName == "ftplib" {
			continue // it does not resume: TestFTPSTerminatedWithoutResumption
		}
		for _, version := range []string{"1.2", "1.3"} {
			for at, six := range map[site]bool{site4: false, site6: true} {
				modes := with(t, trust{}).v4
				if six {
					modes = with(t, trust{}).v6
				}
				for _, m := range modes {
					t.Run(clientName+"/"+version+"/"+at.version()+"/"+string(m), func(t *testing.T) {
						t.Parallel()
						l := labtest.New(t)
						a := newAuthority(t)
						s := vsftpd(t, l.Server(), at.server)
						flags := terminated(a)
						if clientName == "curl" && version == "1.2" { // it switches off the tickets that resumption needs
							flags = append(flags, "--tls-session-reuse=false")
						}
						forward(t, l, at, flags...)
						through(t, l, with(t, trust{ca: a.ca, only: version, believe: true}), s, m, at)
					})
				}
			}
		}
	}
}

// The other servers, in clear, behind a gateway that speaks TLS.
func TestFTPSTerminatedServers(t *testing.T) {
	for name, run := range serverPrograms {
		for _, m := range []mode{pasv, port} {
			t.Run(name+"/"+string(m), func(t *testing.T) {
				t.Parallel()
				l := labtest.New(t)
				a := newAuthority(t)
				s := run(t, l.Server(), site4.server)
				forward(t, l, site4, terminated(a)...)
				through(t, l, lftpTLS(t, trust{ca: a.ca, believe: true}), s, m, site4)
			})
		}
	}
}

// A client that begins with TLS, as at port 990.
func TestFTPSTerminatedImplicit(t *testing.T) {
	for _, with := range []string{"curl", "lftp"} {
		for _, m := range []mode{pasv, epsv} {
			t.Run(with+"/"+string(m), func(t *testing.T) {
				t.Parallel()
				l := labtest.New(t)
				a := newAuthority(t)
				s := vsftpd(t, l.Server(), site4.server)
				forward(t, l, site4, append(terminated(a), "--tls-implicit")...)
				through(t, l, secureClients[with](t, trust{ca: a.ca, believe: true, implicit: true}), s, m, site4)
			})
		}
	}
}

// originatedVersions are the versions of TLS that each server can be held to.
var originatedVersions = map[string][]string{"vsftpd": {""}, "proftpd": {"", "1.2"}, "pure-ftpd": {""}, "pyftpdlib": {"", "1.2"}}

// TestFTPSOriginated has plain old clients reach servers that refuse everything in clear, and data
// connections that do not resume.
func TestFTPSOriginated(t *testing.T) {
	for name, run := range secureServers {
		for _, version := range originatedVersions[name] {
			for at, modes := range map[site][]mode{site4: curl.v4, site6: curl.v6} {
				for _, m := range modes {
					t.Run(name+"/"+version+"/"+at.version()+"/"+string(m), func(t *testing.T) {
						t.Parallel()
						l := labtest.New(t)
						a := newAuthority(t)
						s := run(t, l.Server(), at.server, terms{pair: a.server(), max: version})
						forward(t, l, at, originated(a)...)
						through(t, l, curl, s, m, at)
					})
				}
			}
		}
	}
}

// The other plain clients.
func TestFTPSOriginatedClients(t *testing.T) {
	for _, c := range []client{lftp, ncftp, tnftp} {
		for _, m := range c.v4 {
			t.Run(c.name+"/"+string(m), func(t *testing.T) {
				t.Parallel()
				l := labtest.New(t)
				a := newAuthority(t)
				s := secureVSFTPd(t, l.Server(), site4.server, terms{pair: a.server()})
				forward(t, l, site4, originated(a)...)
				through(t, l, c, s, m, site4)
			})
		}
	}
}

// TestFTPSOriginatedTerms has the gateway as the client of servers that want more of it.
func TestFTPSOriginatedTerms(t *testing.T) {
	for name, tt := range map[string]struct {
		server string
		terms  terms
	}{
		"implicit, vsftpd":  {"vsftpd", terms{implicit: true}},
		"implicit, proftpd": {"proftpd", terms{implicit: true}},
		"vsftpd":            {"vsftpd", terms{clientsCA: "own"}},
		"proftpd":           {"proftpd", terms{clientsCA: "own"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			a := newAuthority(t)
			want := tt.terms
			want.pair = a.server()
			flags := originated(a)
			if want.implicit {
				flags[1] = "implicit"
			}
			if want.clientsCA != "" {
				own := a.issue(gatewayName)
				want.clientsCA = a.ca
				flags = append(flags, "--tls-client-cert", own.cert, "--tls-client-key", own.key)
			}
			s := secureServers[tt.server](t, l.Server(), site4.server, want)
			forward(t, l, site4, flags...)
			for _, m := range []mode{pasv, port} {
				o := call(t, l.Client(), curl, s, m, site4.listen)
				o.files(t, s)
			}
		})
	}
}

// TestFTPSNothingToResume has a server want what it gives no means for: the client hears its no, and the
// operator what to do.
func TestFTPSNothingToResume(t *testing.T) {
	labtest.Need(t, "curl")
	l := labtest.New(t)
	a := newAuthority(t)
	s := secureProFTPd(t, l.Server(), site4.server, terms{pair: a.server(), max: "1.2", noTickets: true})
	p := start(t, l.Gateway(), append([]string{"forward", gateway4, server4}, originated(a)...)...).ready()
	text, err := do(t, l.Client(), t.TempDir(), step{args: []string{"curl", "--verbose", "--silent", "--show-error", "--max-time", "20",
		"--user", s.user + ":" + s.password, "ftp://" + gateway4 + "/"}})
	if err == nil {
		t.Errorf("curl got a listing over a data connection that was not resumed:\n%s", lastLines(text))
	}
	p.await("kind=broken_transfer", 1)
	wantLines(t, p.text(), "TLSSessionTickets on")
}

// TestFTPSBothLegs has every client and server speak TLS with the gateway.
func TestFTPSBothLegs(t *testing.T) {
	for serverName, run := range secureServers {
		for clientName, with := range secureClients {
			if clientName == "ftplib" {
				continue
			}
			for _, m := range with(t, trust{}).v4 {
				t.Run(serverName+"/"+clientName+"/"+string(m), func(t *testing.T) {
					t.Parallel()
					l := labtest.New(t)
					a := newAuthority(t)
					s := run(t, l.Server(), site4.server, terms{pair: a.server()})
					forward(t, l, site4, bothLegs(a)...)
					through(t, l, with(t, trust{ca: a.ca, believe: true}), s, m, site4)
				})
			}
		}
	}
}

// TestFTPSOtherFamily joins clients with servers of the other version of IP, by TLS on both legs.
func TestFTPSOtherFamily(t *testing.T) {
	for at, modes := range map[site]map[mode]mode{
		{site4.listen, site6.server, site4.masked}: asIPv6,
		{site6.listen, site4.server, site4.masked}: asIPv4,
	} {
		at.masked = map[bool]netip.Addr{true: lab.GatewayWAN4, false: lab.GatewayWAN6}[at.server.Addr().Is4()]
		c := ftplibResuming
		for _, m := range []mode{pasv, epsv, port, eprt} {
			if at.listen.Addr().Is6() && (m == pasv || m == port) {
				continue
			}
			t.Run(at.version()+"/"+string(m), func(t *testing.T) {
				t.Parallel()
				l := labtest.New(t)
				a := newAuthority(t)
				s := secureVSFTPd(t, l.Server(), at.server, terms{pair: a.server()})
				forward(t, l, at, bothLegs(a)...)
				translated(t, l, c(t, trust{ca: a.ca, believe: true}), s, m, modes[m], at)
			})
		}
	}
}
