package servercheck

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/ftpclient"
)

var (
	serverAt  = netip.MustParseAddrPort("203.0.113.21:21")
	gatewayAt = netip.MustParseAddr("192.168.5.2")
)

// replied makes the answer with a reply.
func replied(code int, text string) *answer {
	return &answer{Reply: ftp.Reply{Code: code, Lines: []string{text}}}
}

// listed makes a passive transfer that went well.
func listed(mode ftpclient.Mode, named string, port uint16) *transfer {
	return &transfer{mode: mode, reply: *replied(map[ftpclient.Mode]int{"PASV": 227, "EPSV": 229}[mode],
		"ok"),
		place:     netip.AddrPortFrom(netip.MustParseAddr(named), port),
		at:        netip.AddrPortFrom(serverAt.Addr(), port),
		connected: true, bytes: 46, listReply: *replied(226, "done")}
}

// came makes a successful active transfer.
func came(mode ftpclient.Mode) *transfer {
	return &transfer{mode: mode, reply: *replied(200, "fine"), at: netip.AddrPortFrom(gatewayAt, 40000),
		from: netip.AddrPortFrom(serverAt.Addr(), 20), connected: true, bytes: 46,
		listReply: *replied(226, "done")}
}

// well is an attempt that went well, in clear.
func well() *attempt {
	return &attempt{
		setup: setup{dialTook: 12 * time.Millisecond, greeting: replied(220, "ready"),
			feat: replied(502, "no"), loginVerb: "PASS", login: replied(230, "welcome")},
		pasv: listed("PASV", "203.0.113.21", 50001), epsv: listed("EPSV", "203.0.113.21", 50002),
		port: came("PORT"), eprt: came("EPRT"),
		ports: []uint16{50002, 50001, 50010},
	}
}

// forwarded makes the terms for a forward with tracking proxy.
func forwarded(change func(*forward.Forward)) setting {
	f := forward.Forward{Name: "archive", Listen: forward.Listen{Addr: gatewayAt, Port: 2121},
		Server: forward.Server{Host: "ftp.example.com", Port: 21}}
	if change != nil {
		change(&f)
	}
	return setting{forward: f, user: theUser, password: thePassword, active: true, limits: DefaultTimeouts(),
		name: f.Server.Host, now: time.Unix(1_800_000_000, 0)}
}

func kernel(f *forward.Forward)  { f.Tracking = forward.TrackingKernel }
func through(f *forward.Forward) { f.ServerPorts = forward.PortRange{First: 50000, Last: 50100} }
func passive(f *forward.Forward) { f.ServerMode = forward.ServerModePassive }
func none(f *forward.Forward) {
	f.Tracking, f.ServerPorts = forward.TrackingNone, forward.PortRange{First: 50000, Last: 50100}
}

// dialed is the error of a dial.
func dialed(err error) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", err)}
}

// judged is a successful attempt with one change.
type judged struct {
	forward func(*forward.Forward)
	change  func(*attempt)
	want    []wanted
}

func (c judged) run(t *testing.T) {
	v := well()
	c.change(v)
	found := judgeAll(forwarded(c.forward), []report{{at: serverAt, clear: v}})
	for _, f := range found {
		sane(t, f)
	}
	expect(t, found, c.want...)
}

func TestJudge(t *testing.T) {
	timeout := &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
	for name, c := range map[string]judged{
		"well": {nil, func(*attempt) {}, []wanted{{CodeConnect, finding.OK, "after 12ms"},
			{CodePasvAddress, finding.OK, "its own, 203.0.113.21"},
			{CodePorts, finding.OK, "3 passive ports that were seen lie within 50001-50010"},
			{CodePort, finding.OK, "from 203.0.113.21:20"}}},

		"silent": {nil, func(v *attempt) {
			v.setup = setup{dialErr: timeout,
				dialTook: 10 * time.Second}
		}, []wanted{{CodeConnect, finding.Fault,
			"no answer from 203.0.113.21:21 within 10s"}}},
		"unreachable": {nil, func(v *attempt) {
			v.setup = setup{dialErr: dialed(syscall.EHOSTUNREACH),
				dialTook: 3 * time.Second}
		}, []wanted{{CodeConnect, finding.Fault,
			"cannot be reached (after 3s)"}}},
		"no route": {nil, func(v *attempt) {
			v.setup = setup{dialErr: dialed(syscall.ENETUNREACH),
				dialTook: 1}
		}, []wanted{{CodeConnect, finding.Fault, "no route to 203.0.113.21"}}},
		"forbidden": {nil, func(v *attempt) {
			v.setup = setup{dialErr: dialed(syscall.EPERM),
				dialTook: 1}
		}, []wanted{{CodeConnect, finding.Fault, "this host does not allow"}}},
		"odd": {nil,
			func(v *attempt) { v.setup = setup{dialErr: errors.New("a \"strange\" thing"), dialTook: 1} },
			[]wanted{{CodeConnect, finding.Fault, "no connection to"}}},
		"slow": {nil, func(v *attempt) {
			v.dialTook, v.greetingTook = 3100*time.Millisecond,
				5*time.Second
		}, []wanted{{CodeConnect, finding.Warning, "only after 3.1s"},
			{CodeGreeting, finding.Warning, "only after 5s"}}},
		"no anonymous": {func(f *forward.Forward) {},
			func(v *attempt) { v.login = replied(332, "ACCT") },
			[]wanted{{CodeLogin, finding.Warning, "an account"}}},
		"password in a reply": {nil, func(v *attempt) {
			v.login = replied(530,
				"no "+strings.ToUpper(thePassword)+" here")
		},
			[]wanted{{CodeLogin, finding.Fault, "(a text with the password in it)"}}},
		"closed at PASS": {nil, func(v *attempt) { v.login = &answer{err: io.ErrUnexpectedEOF} },
			[]wanted{{CodeLogin, finding.Fault, "closes the control connection instead of answering PASS"}}},
		"no FTP at PASS": {nil, func(v *attempt) {
			v.login = &answer{err: errors.New("x"),
				heard: "\x1b]0;" + thePassword}
		}, []wanted{{CodeLogin, finding.Fault, "no FTP reply: (a text"}}},
	} {
		t.Run(name, c.run)
	}
}

// runJudged runs cases.
func runJudged(t *testing.T, cases map[string]judged) {
	for name, c := range cases {
		t.Run(name, c.run)
	}
}

func TestJudgeAddress(t *testing.T) {
	runJudged(t, map[string]judged{
		"227, kernel, own": {kernel, func(*attempt) {},
			[]wanted{{CodePasvAddress, finding.OK, "the kernel's helper replaces with the gateway's"}}},
		"227, kernel, foreign": {kernel, func(v *attempt) { v.pasv = listed("PASV", "198.51.100.9", 50001) },
			[]wanted{{CodePasvAddress, finding.Fault,
				"198.51.100.9 (another public address): the kernel's helper does not change that"}}},
		"227, none, own": {none, func(*attempt) {},
			[]wanted{{CodePasvAddress, finding.Warning, "clients will get it as it is"},
				{CodePorts, finding.OK, "within server_ports (50000-50100)"}}},
		"227, none, gateway": {none, func(v *attempt) { v.pasv = listed("PASV", "192.168.5.2", 50001) },
			[]wanted{{CodePasvAddress, finding.OK, "the gateway's address"}}},
		"227, through": {through, func(*attempt) {},
			[]wanted{{CodePasvAddress, finding.Info, "clients that encrypt will get it as it is"}}},
		"227, private": {nil, func(v *attempt) { v.pasv = listed("PASV", "10.0.0.5", 50001) },
			[]wanted{{CodePasvAddress, finding.Info, "10.0.0.5 (a private address), is not used"}}},
		"227, loopback": {nil, func(v *attempt) { v.pasv = listed("PASV", "127.0.0.1", 50001) },
			[]wanted{{CodePasvAddress, finding.Info, "its own loopback"}}},
		"227, provider's": {nil, func(v *attempt) { v.pasv = listed("PASV", "100.64.1.2", 50001) },
			[]wanted{{CodePasvAddress, finding.Info, "a private address"}}},

		"ports, none": {none, func(v *attempt) { v.pasv, v.ports = nil, append(v.ports, 60000) },
			[]wanted{{CodePorts, finding.Fault,
				"port 60000, which is outside server_ports (50000-50100): clients cannot"}}},
		"ports, through": {through, func(v *attempt) { v.ports = append(v.ports, 49999) },
			[]wanted{{CodePorts, finding.Warning, "clients that encrypt cannot"}}},
	})
}

func TestJudgePassive(t *testing.T) {
	timeout := &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
	runJudged(t, map[string]judged{
		"EPSV unknown, kernel": {kernel, func(v *attempt) {
			v.epsv = &transfer{mode: "EPSV",
				reply: *replied(500, "what?")}
		}, []wanted{{CodeEpsv, finding.Info, "clients must use PASV"}}},
		"EPSV refused": {nil, func(v *attempt) {
			v.epsv = &transfer{mode: "EPSV",
				reply: *replied(425, "no port")}
		}, []wanted{{CodeEpsv, finding.Warning, "refuses EPSV"}}},
		"neither": {nil, func(v *attempt) {
			v.pasv, v.epsv, v.ports = &transfer{mode: "PASV", reply: *replied(502, "no")},
				&transfer{mode: "EPSV", reply: *replied(502, "no")}, nil
		}, []wanted{{CodePasv, finding.Fault, "refuses PASV"}, {CodeEpsv, finding.Fault, "refuses EPSV"}}},
		"PASV silent": {nil, func(v *attempt) { v.pasv.dialErr, v.pasv.dialTook = timeout, 10*time.Second },
			[]wanted{{CodePasv, finding.Warning,
				"no answer from 203.0.113.21:50001 within 10s: a firewall drops the packets"}}},
		"PASV elsewhere": {nil, func(v *attempt) {
			v.pasv = listed("PASV", "10.0.0.5", 50001)
			v.pasv.dialErr, v.pasv.dialTook = dialed(syscall.ECONNREFUSED), time.Millisecond
		},
			[]wanted{{CodePasv, finding.Warning,
				"refused the connection after 1ms: nothing listens there, or a firewall says no; the " +
					"server may accept data at 10.0.0.5 only"}, {CodePasvAddress, finding.Info, ""}}},
		"broken": {nil, func(v *attempt) { v.pasv.readErr, v.pasv.bytes = syscall.ECONNRESET, 7 },
			[]wanted{{CodePasv, finding.Warning, "broke after 7 bytes"}}},
		"no end": {nil, func(v *attempt) { v.pasv.listReply = answer{err: os.ErrDeadlineExceeded} },
			[]wanted{{CodePasv, finding.Warning,
				"46 bytes came over PASV, and the server never said that this was all"}}},
		"425": {nil, func(v *attempt) { v.pasv.listReply, v.pasv.bytes = *replied(425, "no connection"), 0 },
			[]wanted{{CodePasv, finding.Warning, "found no data connection"}}},
	})
}

func TestJudgeActive(t *testing.T) {
	runJudged(t, map[string]judged{
		"active refused": {nil, func(v *attempt) {
			v.port = &transfer{mode: "PORT", at: v.port.at,
				reply: *replied(504, "no")}
		}, []wanted{{CodePort, finding.Warning,
			"refuses PORT to 192.168.5.2:40000"}}},
		"active refused, not used": {passive,
			func(v *attempt) { v.port = &transfer{mode: "PORT", at: v.port.at, reply: *replied(504, "no")} },
			[]wanted{{CodePort, finding.Info, "refuses PORT"}, {CodeEprt, finding.OK, "not used"}}},
		"active, no connection": {nil, func(v *attempt) {
			v.port = &transfer{mode: "PORT", at: v.port.at, reply: *replied(200, "ok"),
				listReply: *replied(425, "Can't connect")}
		},
			[]wanted{{CodePort, finding.Warning,
				`did not connect to 192.168.5.2:40000 within 10s: ` +
					`it answered LIST with 425 "Can't connect"`}}},
		"active, another host": {nil, func(v *attempt) {
			v.port.from, v.port.unexpectedPeer = netip.AddrPort{}, netip.MustParseAddrPort("203.0.113.99:20")
		},
			[]wanted{{CodePort, finding.Warning,
				"a connection comes from 203.0.113.99 instead of 203.0.113.21"}}},
		"active, no listener": {nil, func(v *attempt) {
			v.port = &transfer{mode: "PORT",
				listenErr: syscall.EADDRNOTAVAIL}
		}, []wanted{{CodePort, finding.Info, "cannot listen"}}},
		"active, none": {none, func(v *attempt) {
			v.pasv, v.port, v.eprt, v.activeUnused = nil, nil,
				nil, true
		}, []wanted{{CodePort, finding.Info, "only passive data connections"}}},
	})
}

// TestJudgeDemand has a server that is nothing in clear, behind forwards that speak in clear with it.
func TestJudgeDemand(t *testing.T) {
	need := func(v *attempt) { v.login = replied(530, "use encryption") }
	hides := func(v *attempt) {
		v.setup = setup{dialTook: 1, greeting: &answer{err: os.ErrDeadlineExceeded}, implicit: true}
	}
	for name, c := range map[string]struct {
		forward func(*forward.Forward)
		change  func(*attempt)
		level   finding.Severity
		remedy  string
	}{
		"proxy":           {nil, need, finding.Fault, `tls.server = "required"`},
		"proxy, implicit": {nil, hides, finding.Fault, `tls.server = "implicit"`},
		"kernel": {func(f *forward.Forward) { f.Tracking = forward.TrackingKernel }, need,
			finding.Fault, `tracking = "proxy"`},
		"none": {func(f *forward.Forward) {
			f.Tracking, f.ServerPorts = forward.TrackingNone,
				forward.AllPorts
		}, hides, finding.Info, ""},
		"through": {func(f *forward.Forward) {
			f.ServerPorts = forward.PortRange{First: 50000,
				Last: 50100}
		}, need, finding.Info, ""},
	} {
		t.Run(name, func(t *testing.T) {
			v := well()
			c.change(v)
			found := judgeAll(forwarded(c.forward), []report{{at: serverAt, clear: v}})
			if f := found[0]; len(found) != 1 || f.Code != CodeAuth || f.Severity != c.level ||
				!strings.Contains(f.Remedy, c.remedy) {
				t.Errorf("got %s; want one %s with %q", format(found), c.level, c.remedy)
			}
		})
	}
}

// TestJudgeOffer has a server that can do TLS, behind forwards that speak in clear with it.
func TestJudgeOffer(t *testing.T) {
	chain := []*x509.Certificate{{DNSNames: []string{"ftp.example.com"}}}
	taken := &attempt{setup: setup{dialTook: 1, auth: replied(234, "go on"),
		handshake: &handshake{version: tls.VersionTLS13, chain: chain}}}
	refused := &attempt{setup: setup{dialTook: 1, auth: replied(502, "no")}}
	broken := &attempt{setup: setup{dialTook: 1, auth: replied(234, "go on"),
		handshake: &handshake{err: io.EOF}}}
	for name, c := range map[string]struct {
		forward func(*forward.Forward)
		tls     *attempt
		want    wanted
	}{
		"taken": {nil, taken, wanted{CodeAuth, finding.Info, "TLS 1.3"}},
		"taken, through": {through, taken, wanted{CodeAuth, finding.OK,
			`certificate for "ftp.example.com"`}},
		"refused": {nil, refused, wanted{CodeAuth, finding.OK, "does not need it"}},
		"refused, through": {through, refused,
			wanted{CodeAuth, finding.Warning, "the server does not accept AUTH TLS"}},
		"broken": {nil, broken, wanted{CodeTLS, finding.Info,
			"closed the connection in the TLS handshake"}},
		"broken, through": {through, broken,
			wanted{CodeTLS, finding.Warning, "closed the connection in the TLS handshake"}},
	} {
		t.Run(name, func(t *testing.T) {
			expect(t, judgeAll(forwarded(c.forward), []report{{at: serverAt, clear: well(), tls: c.tls}}),
				c.want)
		})
	}
}

func TestJudgeCertificate(t *testing.T) {
	now := forwarded(nil).now
	days := func(n int) time.Time { return now.Add(time.Duration(n)*24*time.Hour + time.Hour) }
	good := &x509.Certificate{DNSNames: []string{"nas.example.net"}, NotBefore: days(-10), NotAfter: days(90)}
	for name, c := range map[string]struct {
		leaf     *x509.Certificate
		distrust error
		insecure bool
		want     wanted
	}{
		"trusted": {good, nil, false, wanted{CodeCertificate, finding.OK, "good for 90 days"}},
		"ends soon": {&x509.Certificate{NotAfter: days(7)}, nil, false,
			wanted{CodeCertificate, finding.Warning, "no name by an authority without a name expires in 7 " +
				"days"}},
		"expired": {&x509.Certificate{NotAfter: days(-7)},
			x509.CertificateInvalidError{Reason: x509.Expired}, false,
			wanted{CodeCertificate, finding.Fault, "has expired on 2027-01-08"}},
		"not yet": {&x509.Certificate{NotBefore: days(7), NotAfter: days(90)},
			x509.CertificateInvalidError{Reason: x509.Expired}, false,
			wanted{CodeCertificate, finding.Fault, "is not valid before 2027-01-22"}},
		"name": {good, x509.HostnameError{Certificate: good, Host: "ftp.example.com"}, false,
			wanted{CodeCertificate, finding.Fault, `is for "nas.example.net", not for "ftp.example.com"`}},
		"no names": {&x509.Certificate{NotAfter: days(90)}, x509.HostnameError{}, false,
			wanted{CodeCertificate, finding.Fault, "no subjectAltName"}},
		"no roots": {good, x509.SystemRootsError{}, false,
			wanted{CodeCertificate, finding.Fault, "knows no certificate authorities"}},
		"other use": {good, x509.CertificateInvalidError{Reason: x509.IncompatibleUsage}, false,
			wanted{CodeCertificate, finding.Fault, "is not trusted"}},
		"all the same": {good, x509.UnknownAuthorityError{}, true,
			wanted{CodeCertificate, finding.Warning, `tls.verify = "insecure" accepts it all the same`}},
	} {
		t.Run(name, func(t *testing.T) {
			j := &judge{setting: forwarded(func(f *forward.Forward) { f.TLS.Insecure = c.insecure }),
				at: serverAt}
			j.certificate(&handshake{chain: []*x509.Certificate{c.leaf}, certErr: c.distrust})
			for _, f := range j.findings {
				sane(t, f)
			}
			expect(t, j.findings, c.want)
		})
	}
	j := &judge{setting: forwarded(through), at: serverAt}
	j.certificate(&handshake{chain: []*x509.Certificate{good}, certErr: x509.UnknownAuthorityError{}})
	expect(t, j.findings, wanted{CodeCertificate, finding.Warning,
		"this host does not check it, but clients may"})
}

// TestJudgeNothing has nothing to judge.
func TestJudgeNothing(t *testing.T) {
	expect(t, judgeAll(forwarded(nil), nil), wanted{CodeAddress, finding.Fault,
		`"ftp.example.com" has no address`})
	expect(t, judgeAll(forwarded(nil), []report{{at: serverAt, clear: &attempt{}, unfinished: true}}),
		wanted{CodeUnfinished, finding.Warning, "the check was interrupted or timed out; not everything " +
			"was tested"})
}

func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "ok", "\x1b[0m", strings.Repeat("ä", 100), "\xff\xfe", thePassword,
		"s3cret-of\"-kim", strings.Repeat("x", 76) + "日本", "100%!d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		j := &judge{setting: setting{password: thePassword}}
		sane(t, finding.Finding{Code: "x", Severity: finding.OK, Text: j.quote(s)})
		if q := j.quote(s); len(q) > maxQuote+2 {
			t.Errorf("got %d bytes", len(q))
		}
	})
}
