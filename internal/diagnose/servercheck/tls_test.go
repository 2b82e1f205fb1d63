package servercheck

import (
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/control/tlskeys"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/try/testca"
)

// TestDemandsTLS has the words with which servers refuse to continue in clear.
func TestDemandsTLS(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer answers
		said   string
	}{
		"530 at PASS": {answers{"PASS": inClear("530 Non-anonymous sessions must use encryption.")}, "530"},
		"530 at USER": {answers{"USER": inClear("530 Anonymous sessions must use encryption.")}, "530"},
		"421": {answers{"USER": inClear("421 Sorry, cleartext sessions are not accepted on this server.")},
			"421"},
		"550": {answers{"USER": inClear("550 SSL/TLS required on the control channel")}, "550"},
		"503": {answers{"USER": inClear("503 Use AUTH first.")},
			"503"},
		"data": {answers{"LIST": inClear("522 Data connections must be encrypted.")}, "522"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, trust := sound(t)
			p := &peer{tls: server, answer: c.answer}
			o := options()
			o.Trust = trust
			f := p.start(t)
			found := run(t, f, o)
			expect(t, found, wanted{CodeAuth, finding.Fault, "the server demands TLS: " + c.said},
				wanted{CodeCertificate, finding.OK, `for "localhost"`},
				wanted{CodePasv, finding.OK, "in TLS"}, wanted{CodeLogin, finding.OK, ""})
			f.TLS.Server = forward.ServerTLSRequired
			expect(t, run(t, f, o), wanted{CodeAuth, finding.OK, "accepts AUTH TLS"},
				wanted{CodeEprt, finding.OK, "in TLS"})
		})
	}
}

// inClear is an answer to who has no TLS; others are obeyed.
func inClear(reply string) func(*client, string) string {
	return func(c *client, arg string) string {
		if _, secure := c.conn.(*tls.Conn); !secure {
			return reply
		}
		verb := "USER"
		if strings.HasPrefix(reply, "530 Non") {
			verb = "PASS"
		} else if strings.HasPrefix(reply, "522") {
			verb = "LIST"
		}
		return c.obey(verb, arg)
	}
}

// tlsCase is a server that speaks TLS in its own way.
type tlsCase struct {
	peer   *peer
	trust  *tlskeys.Trust
	want   []wanted
	unsent bool // the password
}

func (c tlsCase) run(t *testing.T) {
	t.Parallel()
	f := c.peer.start(t)
	f.TLS.Server = forward.ServerTLSRequired
	o := options()
	o.Trust = c.trust
	expect(t, run(t, f, o), c.want...)
	if sent := slices.Contains(c.peer.commands(), "PASS "+thePassword); sent == c.unsent {
		t.Errorf("the password was sent: %t; want %t", sent, !c.unsent)
	}
}

func runTLS(t *testing.T, cases map[string]tlsCase) {
	for name, c := range cases {
		t.Run(name, c.run)
	}
}

// demanding returns the TLS of data connections that must resume a session of the server's first ticket key
// {1}.
func demanding(server *tls.Config) *tls.Config {
	reuse := server.Clone()
	reuse.VerifyConnection = func(c tls.ConnectionState) error {
		if !c.DidResume {
			return errors.New("not resumed")
		}
		return nil
	}
	reuse.SetSessionTicketKeys([][32]byte{{1}})
	return reuse
}

func TestTLSReuse(t *testing.T) {
	t.Parallel()
	server, trust := sound(t)
	server.SetSessionTicketKeys([][32]byte{{1}})
	reuse := demanding(server)
	foreign := reuse.Clone() // which takes no ticket of the control connection
	foreign.SetSessionTicketKeys([][32]byte{{2}})
	runTLS(t, map[string]tlsCase{
		"sound": {&peer{tls: server}, trust,
			[]wanted{{CodeTLS, finding.OK, "TLS 1.3"}, {CodeVersions, finding.OK, "TLS 1.2 and TLS 1.3"},
				{CodeCertificate, finding.OK, "trusted, and good for 99 days"},
				{CodeProtection, finding.OK, "PROT P"},
				{CodePasv, finding.OK, "with the session of the control connection"},
				{CodePort, finding.OK, "in TLS"}, {CodeReuse, finding.Info, "does not require it"},
				{CodeCloseNotify, finding.OK, ""}}, false},
		"reuse demanded": {&peer{tls: server, data: reuse}, trust,
			[]wanted{{CodeReuse, finding.OK, "requires"}, {CodeEpsv, finding.OK, ""}}, false},
		"reuse demanded of tickets that no client gets": {&peer{tls: server, data: foreign}, trust,
			[]wanted{{CodePasv, finding.Fault, "522"}, {CodeEpsv, finding.Fault, "does not resume"},
				{CodePort, finding.Warning, "522"}, {CodeEprt, finding.Warning, "522"}}, false},
		"data connection closed": {&peer{tls: server,
			answer: answers{"LIST": closing("150 wait", "426 no TLS")}},
			trust,
			[]wanted{{CodePasv, finding.Fault, "refuses the data connection in TLS"},
				{CodeEpsv, finding.Fault, ""}, {CodePort, finding.Warning, ""},
				{CodeEprt, finding.Warning, ""}}, false},
	})
}

func TestTLSControl(t *testing.T) {
	t.Parallel()
	server, trust := sound(t)
	only12 := server.Clone()
	only12.MaxVersion = tls.VersionTLS12
	tooOld := server.Clone()
	tooOld.MinVersion, tooOld.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	mutual := server.Clone()
	mutual.ClientAuth = tls.RequireAnyClientCert
	runTLS(t, map[string]tlsCase{
		"TLS 1.2": {&peer{tls: only12}, trust,
			[]wanted{{CodeTLS, finding.OK, "TLS 1.2"}, {CodeVersions, finding.Info, "not TLS 1.3"}}, false},
		"too old": {&peer{tls: tooOld}, trust,
			[]wanted{{CodeTLS, finding.Fault, "no version of TLS that is safe"}}, true},
		"AUTH refused": {&peer{}, trust, []wanted{{CodeAuth, finding.Fault, "does not accept AUTH TLS"},
			{CodeFeatures, finding.Info, "not AUTH TLS"}}, true},
		"AUTH not now": {&peer{tls: server, answer: answers{"AUTH": always("431 no certificate")}}, trust,
			[]wanted{{CodeAuth, finding.Fault, "now"}}, true},
		"clear behind AUTH": {&peer{tls: server,
			answer: answers{"AUTH": always("234 go on\r\n230 welcome")}},
			trust,
			[]wanted{{CodeTLS, finding.Fault, "bytes in clear"}}, true},
		"clear after AUTH": {&peer{tls: server,
			answer: answers{"AUTH": func(c *client, _ string) string {
				c.say("234 go on")
				c.lines.ReadByte() // the ClientHello
				return "220 I have forgotten"
			}}}, trust, []wanted{{CodeTLS, finding.Fault, "in clear where TLS starts"}}, true},
		"client certificate": {&peer{tls: mutual}, trust,
			[]wanted{{CodeLogin, finding.Fault, "wants a certificate of the gateway"}}, true},
	})
}

func TestTLSData(t *testing.T) {
	t.Parallel()
	server, trust := sound(t)
	runTLS(t, map[string]tlsCase{
		"no PROT": {&peer{tls: server,
			answer: answers{"PROT": always("536 no")}}, trust,
			[]wanted{{CodeProtection, finding.Fault, "does not encrypt data"}}, false},
		"no PBSZ": {&peer{tls: server,
			answer: answers{"PBSZ": always("503 no")}}, trust,
			[]wanted{{CodeProtection, finding.OK, "accepts PROT P"}, {CodePasv, finding.OK, "in TLS"}},
			false},
		"no close_notify": {&peer{tls: server, rude: true}, trust,
			[]wanted{{CodeCloseNotify, finding.Fault, "incomplete"}}, false},
		"listing refused, data open": {&peer{tls: server,
			answer: answers{"LIST": always("550 Permission denied.")}}, trust,
			[]wanted{{CodePasv, finding.Info, "refuses the listing"},
				{CodePort, finding.Info, "refuses the listing"}}, false},
		"listing refused, data closed": {&peer{tls: server,
			answer: answers{"LIST": closing("150 wait",
				"550 Permission denied.")}}, trust,
			[]wanted{{CodePasv, finding.Info, "refuses the listing"},
				{CodePort, finding.Info, "refuses the listing"}}, false},
		"data in clear only": {&peer{tls: server,
			answer: answers{"LIST": always("521 Data connections must be in clear")}}, trust,
			[]wanted{{CodePasv, finding.Fault, "in another way (PROT)"}, {CodeEpsv, finding.Fault, ""},
				{CodePort, finding.Warning, ""}, {CodeEprt, finding.Warning, ""}}, false},
	})
}

// TestCertificate has certificates that are not as they should be.
func TestCertificate(t *testing.T) {
	t.Parallel()
	server, trust := sound(t)
	old, soonTrust := certificate(t, "localhost", time.Now().Add(-48*time.Hour),
		time.Now().Add(10*24*time.Hour+time.Minute))
	dead, deadTrust := certificate(t, "localhost", time.Now().Add(-48*time.Hour),
		time.Now().Add(-24*time.Hour))
	wrong, wrongTrust := certificate(t, "nas.example.net", time.Now().Add(-time.Hour),
		time.Now().Add(100*24*time.Hour))
	pinned, pinnedTrust := selfSigned(t)
	named, _ := selfSigned(t, testca.ForNames("localhost"))
	deadPinned, deadPinnedTrust := selfSigned(t, testca.Expired)
	of := func(c tls.Certificate) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{c}} }
	for name, c := range map[string]tlsCase{
		"expires soon": {&peer{tls: of(old)}, soonTrust,
			[]wanted{{CodeCertificate, finding.Warning, "expires in 10 days"}}, false},
		"expired": {&peer{tls: of(dead)}, deadTrust,
			[]wanted{{CodeCertificate, finding.Fault, "has expired on"},
				{CodeLogin, finding.Info, "no login"}}, true},
		"wrong name": {&peer{tls: of(wrong)}, wrongTrust,
			[]wanted{{CodeCertificate, finding.Fault, `is for "nas.example.net", not for "localhost"`},
				{CodeLogin, finding.Info, "the password is not sent to a server"}}, true},
		"pinned": {&peer{tls: of(pinned)}, pinnedTrust,
			[]wanted{{CodeCertificate, finding.OK, "is trusted"}, {CodePasv, finding.OK, ""}}, false},
		"pinned, expired": {&peer{tls: of(deadPinned)}, deadPinnedTrust,
			[]wanted{{CodeCertificate, finding.Fault, "has expired on"}}, true},
		"not known": {&peer{tls: of(wrong)}, trust,
			[]wanted{{CodeCertificate, finding.Fault, "nas.example.net"}}, true},
		"self-signed": {&peer{tls: of(named)}, wrongTrust,
			[]wanted{{CodeCertificate, finding.Fault, "self-signed"}}, true},
		"self-signed, without a name": {&peer{tls: of(pinned)}, wrongTrust,
			[]wanted{{CodeCertificate, finding.Fault, "no subjectAltName"}}, true},
		"another certificate": {&peer{tls: server, data: of(wrong)}, trust,
			[]wanted{{CodePasv, finding.Fault, "another certificate"}, {CodeEpsv, finding.Fault, ""},
				{CodePort, finding.Warning, ""}, {CodeEprt, finding.Warning, ""}}, false},
	} {
		t.Run(name, c.run)
	}
}

// closing brings the data connection up and closes it at once, with a reply before and one after that.
func closing(first, last string) func(*client, string) string {
	return func(c *client, _ string) string {
		c.say(first)
		if conn, err := c.connect(); err == nil {
			conn.Close()
		}
		return last
	}
}

func TestImplicit(t *testing.T) {
	t.Parallel()
	server, trust := sound(t)
	p := &peer{tls: server, implicit: true}
	f := p.start(t)
	f.TLS.Server = forward.ServerTLSImplicit
	o := options()
	o.Trust = trust
	t.Run("the server does not support PROT", func(t *testing.T) {
		ignorant := &peer{tls: server, implicit: true, answer: answers{"PBSZ": always("550 what"),
			"PROT": func(c *client, _ string) string {
				c.private = true
				return "550 what"
			}}}
		f := ignorant.start(t)
		f.TLS.Server = forward.ServerTLSImplicit
		expect(t, run(t, f, o), wanted{CodeProtection, finding.OK, "which is allowed"},
			wanted{CodePasv, finding.OK, "in TLS"})
	})
	expect(t, run(t, f, o), wanted{CodeTLS, finding.OK, "TLS 1.3"}, wanted{CodeVersions, finding.OK, ""},
		wanted{CodeCertificate, finding.OK, ""}, wanted{CodeGreeting, finding.OK, ""},
		wanted{CodeLogin, finding.OK, ""}, wanted{CodePasv, finding.OK, "in TLS"},
		wanted{CodePort, finding.OK, "in TLS"})

	t.Run("the server is in clear", func(t *testing.T) {
		p := &peer{tls: server}
		f := p.start(t)
		f.TLS.Server = forward.ServerTLSImplicit
		expect(t, run(t, f, o), wanted{CodeTLS, finding.Fault, "does not start with TLS"})
	})
	t.Run("the forward is in clear", func(t *testing.T) {
		f.TLS.Server = forward.ServerTLSOff
		o := o
		o.Timeouts.Reply = brief
		expect(t, run(t, f, o), wanted{CodeAuth, finding.Fault, "waits for TLS from the first byte"},
			wanted{CodePasv, finding.OK, "in TLS"})
	})
	t.Run("the forward asks for AUTH", func(t *testing.T) {
		f.TLS.Server = forward.ServerTLSRequired
		o := o
		o.Timeouts.Reply = brief
		expect(t, run(t, f, o), wanted{CodeGreeting, finding.Fault, "did not greet"})
	})
}

func TestServerClear(t *testing.T) {
	server, trust := sound(t)
	p := &peer{tls: server}
	f := p.start(t)
	f.TLS.Server, f.TLS.ServerDataClear = forward.ServerTLSRequired, true
	o := options()
	o.Trust = trust
	found := run(t, f, o)
	expect(t, found, wanted{CodeProtection, finding.OK, "PROT C"},
		wanted{CodePasv, finding.OK, "a listing of 46 bytes"})
	for _, f := range found {
		if f.Code == CodeReuse || f.Code == CodeCloseNotify || strings.Contains(f.Text, "in TLS with") {
			t.Errorf("got %s: %s; want nothing of TLS on data", f.Code, f.Text)
		}
	}
}
