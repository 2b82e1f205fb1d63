package servercheck

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/ftpclient"
)

// expiresSoon is how long before its end a certificate is worth a word.
const expiresSoon = 30 * 24 * time.Hour

// onlyTLS judges a server that has nothing in clear, behind a forward that speaks in clear with it.
func (j *judge) onlyTLS(text string, need forward.ServerTLS) {
	switch {
	case j.passesTLS():
		j.add(CodeAuth, finding.Info, text+"; clients must encrypt, and their sessions go through unread", "")
	case j.forward.Tracking == forward.TrackingKernel:
		j.add(CodeAuth, finding.Fault, text+"; the kernel's helper cannot read that, and clients get no data",
			fmt.Sprintf("set tracking = \"proxy\" with tls.server = %q, or tracking = \"none\" with server_ports", need))
	default:
		j.add(CodeAuth, finding.Fault, text+"; clients of this forward cannot use it", fmt.Sprintf("set tls.server = %q, or server_ports for clients that encrypt themselves", need))
	}
}

// alsoTLS judges the TLS of a server with which the forward speaks in clear, and can.
func (j *judge) alsoTLS(try *attempt) {
	through := j.passesTLS()
	switch {
	case try.auth == nil || try.auth.err != nil:
	case try.auth.Code != 234 && j.forward.PassesThrough():
		j.add(CodeAuth, finding.Warning, "server_ports lets encrypted sessions through, and the server does not take AUTH TLS: "+j.quoteReply(*try.auth),
			"switch TLS on in the server and give it a certificate")
	case try.auth.Code != 234:
		j.add(CodeAuth, finding.OK, "the server does not take AUTH TLS, and the forward does not need it: "+j.quoteReply(*try.auth), "")
	case try.handshake == nil:
	case try.handshake.err != nil:
		text, remedy := handshakeFault(try.handshake.err, true, j.limits.Reply)
		level := finding.Info
		if through {
			level = finding.Warning
		}
		j.add(CodeTLS, level, "the server takes AUTH TLS, but "+text, remedy)
	case through:
		j.add(CodeAuth, finding.OK, "the server takes AUTH TLS, and clients that encrypt get through to it: they are shown the certificate for "+j.names(try.handshake.chain[0]), "")
	default:
		j.add(CodeAuth, finding.Info, fmt.Sprintf("the server takes AUTH TLS (%s), and the gateway speaks with it in clear: passwords and files can be read on the way",
			tls.VersionName(try.handshake.version)), `set tls.server = "required" (tracking "proxy")`)
	}
}

// encryption judges AUTH TLS, the handshake and the certificate, and tells whether a session can go on.
func (j *judge) encryption(try *attempt) bool {
	if try.security == forward.ServerTLSRequired && !j.auth(try) || try.handshake == nil {
		return false
	}
	if try.handshake.err != nil {
		text, remedy := handshakeFault(try.handshake.err, try.security != forward.ServerTLSImplicit, j.limits.Reply)
		j.add(CodeTLS, finding.Fault, text, remedy)
		return false
	}
	j.add(CodeTLS, finding.OK, fmt.Sprintf("the server speaks %s with %s", tls.VersionName(try.handshake.version), tls.CipherSuiteName(try.handshake.cipher)), "")
	j.versions(try)
	j.certificate(try.handshake)
	return true
}

func (j *judge) auth(try *attempt) bool {
	if try.auth == nil {
		return false
	}
	a := *try.auth
	if text, remedy := j.commandFailure("AUTH TLS", a); text != "" {
		j.add(CodeAuth, finding.Fault, text, remedy)
		return false
	}
	switch {
	case a.Code == 234:
		j.add(CodeAuth, finding.OK, "the server takes AUTH TLS", "")
		return true
	case a.Code/100 == 3:
		j.add(CodeAuth, finding.Fault, "the server wants something else than TLS: "+j.quoteReply(a), "switch TLS on in the server")
	case a.Code/100 == 4:
		j.add(CodeAuth, finding.Fault, "the server cannot begin with TLS at the moment: "+j.quoteReply(a), "look whether the server has its certificate and its key: its log says")
	default:
		j.add(CodeAuth, finding.Fault, "the server does not take AUTH TLS: "+j.quoteReply(a),
			"switch TLS on in the server and give it a certificate; a firewall in between that inspects FTP may refuse AUTH in its name")
	}
	return false
}

// versions judges a second handshake, with the version that the first had not.
func (j *judge) versions(try *attempt) {
	switch {
	case try.otherVersion == nil:
	case try.otherVersion.err == nil:
		j.add(CodeVersions, finding.OK, "the server takes TLS 1.2 and TLS 1.3", "")
	case !isAlert(try.otherVersion.err) && !isOldVersion(try.otherVersion.err): // it may be the network
	case try.handshake.version == tls.VersionTLS13:
		j.add(CodeVersions, finding.OK, "the server takes TLS 1.3 and not TLS 1.2", "")
	default:
		j.add(CodeVersions, finding.Info, "the server takes TLS 1.2 and not TLS 1.3", "bring the server up to date when there is time: TLS 1.2 is safe, and older")
	}
}

// handshakeFault says why a handshake failed, that began after AUTH or with the connection.
func handshakeFault(err error, afterAuth bool, limit time.Duration) (text, remedy string) {
	_, clear := errors.AsType[tls.RecordHeaderError](err)
	_, injected := errors.AsType[*ftpclient.InjectedError](err)
	switch {
	case injected:
		return "bytes in clear came behind the answer to AUTH TLS", "look who stands between this host and the server: somebody may be injecting replies"
	case clear && !afterAuth:
		return "the server does not begin with TLS: it answered in clear",
			`set tls.server = "required" where the server takes AUTH TLS, "off" where not; or correct the port, which is 990 for implicit FTPS`
	case clear:
		return "the server answered in clear where TLS begins", "look at the server's log, and for a firewall in between that answers in its name"
	case isAlert(err):
		return alertFault(err)
	case isOldVersion(err):
		return "the server knows only versions of TLS that are too old", "bring the server up to date: TLS 1.2 is the oldest that is safe"
	case isTimeout(err):
		return "the TLS handshake did not end within " + rounded(limit), "look at the server's log, and whether a firewall that inspects FTP lets TLS pass"
	case isClosed(err):
		return "the server closed the connection in the TLS handshake",
			"look whether the server can read its certificate and key, and knows TLS 1.2 or 1.3: its log says"
	}
	return "the TLS handshake failed: " + quote(err.Error()), remedyLog
}

// isOldVersion tells whether the server has chosen a version that is too old for us.
func isOldVersion(err error) bool {
	return strings.Contains(err.Error(), "unsupported protocol version")
}

// isAlert tells whether the peer has said by TLS what is wrong.
func isAlert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}

// alertFault is for what the server says is wrong (RFC 8446 section 6).
func alertFault(err error) (text, remedy string) {
	op, _ := errors.AsType[*net.OpError](err)
	is := func(codes ...tls.AlertError) bool {
		return slices.ContainsFunc(codes, func(c tls.AlertError) bool { return op.Err.Error() == c.Error() }) // crypto/tls has the number in a type of its own
	}
	switch {
	case is(70):
		return "the server takes no version of TLS that is safe", "bring the server up to date: TLS 1.2 is the oldest that is safe"
	case is(40, 71):
		return "the server has no TLS in common with this host: " + quote(op.Err.Error()), "look whether the server has a certificate, and which ciphers it allows"
	case is(116, 42, 43, 44, 45, 46, 48, 49):
		return "the server wants a certificate of the gateway, or another one: " + quote(op.Err.Error()), "set tls.client_cert and tls.client_key to what the server accepts"
	case is(112):
		return "the server does not know the name that it was asked for", "set tls.server_name to what the server is called"
	}
	return "the server broke TLS off: " + quote(op.Err.Error()), remedyLog
}

// verify verifies what a server has shown, as clients do.
func verify(chain []*x509.Certificate, config *tls.Config, now time.Time) error {
	others := x509.NewCertPool()
	for _, c := range chain[1:] {
		others.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: strings.TrimSuffix(config.ServerName, "."), Roots: config.RootCAs, Intermediates: others, CurrentTime: now})
	return err
}

// certificate judges what the server has shown.
func (j *judge) certificate(h *handshake) {
	leaf := h.chain[0]
	what := fmt.Sprintf("the certificate for %s by %s", j.names(leaf), j.issuer(leaf))
	days := int(leaf.NotAfter.Sub(j.now) / (24 * time.Hour))
	switch {
	case h.certErr != nil && j.forward.TLS.Insecure:
		text, _ := j.certificateFault(h.certErr, leaf)
		j.add(CodeCertificate, finding.Warning, text+`, and tls.verify = "insecure" takes it all the same`, "name what to trust as tls.ca, and the name as tls.server_name; then take tls.verify out")
	case h.certErr != nil:
		text, remedy := j.certificateFault(h.certErr, leaf)
		j.add(CodeCertificate, finding.Fault, text, remedy)
	case leaf.NotAfter.Sub(j.now) < expiresSoon:
		j.add(CodeCertificate, finding.Warning, fmt.Sprintf("%s expires in %d days", what, days), "have it renewed in time, and see that the server takes the new one")
	default:
		j.add(CodeCertificate, finding.OK, fmt.Sprintf("%s is trusted, and good for %d days", what, days), "")
	}
}

// certificateFault says what is wrong with a certificate.
func (j *judge) certificateFault(err error, leaf *x509.Certificate) (text, remedy string) {
	_, name := errors.AsType[x509.HostnameError](err)
	_, rootless := errors.AsType[x509.SystemRootsError](err)
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	switch {
	case j.now.After(leaf.NotAfter):
		return "the server's certificate has expired on " + leaf.NotAfter.UTC().Format(time.DateOnly), "have it renewed on the server; and look whether the clock of this host is right"
	case j.now.Before(leaf.NotBefore):
		return "the server's certificate is not good before " + leaf.NotBefore.UTC().Format(time.DateOnly), "look whether the clocks of this host and of the server are right"
	case name && len(leaf.DNSNames) == 0 && len(leaf.IPAddresses) == 0:
		return "the server's certificate has no subjectAltName, without which no name can be verified", "have it made anew"
	case name:
		return fmt.Sprintf("the server's certificate is for %s, not for %s", j.names(leaf), quote(j.name)),
			"set tls.server_name to one of its names if that is the server, or have it made anew with the name"
	case rootless:
		return "this host knows no authorities", "install the package ca-certificates, or name the server's authority as tls.ca"
	case unknown && leaf.Issuer.String() == leaf.Subject.String():
		return "the server's certificate is signed by itself, and not known here", "name its file as tls.ca, or have one made by an authority"
	case unknown:
		return fmt.Sprintf("the server's certificate is signed by %s, whom this host does not know", j.issuer(leaf)),
			"name the authority's certificate as tls.ca; if the authority is known, have the server send the certificates in between"
	}
	return "the server's certificate is not trusted: " + j.quote(err.Error()), "have it made anew, for servers (serverAuth), by an authority that may sign and has not expired"
}

// names quotes some of the names that a certificate is for.
func (j *judge) names(leaf *x509.Certificate) string {
	names := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no name"
	}
	return j.quote(strings.Join(names, ", "))
}

// issuer quotes who has signed a certificate.
func (j *judge) issuer(leaf *x509.Certificate) string {
	for _, name := range append([]string{leaf.Issuer.CommonName}, leaf.Issuer.Organization...) {
		if name != "" {
			return j.quote(name)
		}
	}
	return "nobody"
}

// protection judges PBSZ and PROT (RFC 4217 section 9), and tells whether a session can go on.
func (j *judge) protection(try *attempt) bool {
	level := "P"
	if j.forward.TLS.ServerClear {
		level = "C"
	}
	for _, step := range []struct {
		command, text, remedy string
		a                     *answer
	}{
		{"PBSZ 0", "the server refuses PBSZ 0: ", "bring the server up to date: RFC 4217 wants it to take that", try.pbsz},
		{"PROT " + level, map[string]string{"P": "the server does not encrypt data: ", "C": "the server sends no data in clear: "}[level],
			map[string]string{"P": `switch that on in the server, or set server_data = "clear"`, "C": `set server_data = "private"`}[level], try.prot},
	} {
		if step.a == nil {
			return false
		}
		if text, remedy := j.commandFailure(step.command, *step.a); text != "" {
			j.add(CodeProtection, finding.Fault, text, remedy)
			return false
		}
		if !step.a.positive() {
			j.add(CodeProtection, finding.Fault, step.text+j.quoteReply(*step.a), step.remedy)
			return false
		}
	}
	j.add(CodeProtection, finding.OK, "the server takes PROT "+level, "")
	return true
}

// closeNotify judges how data in TLS ended.
func (j *judge) closeNotify(try *attempt) {
	i := slices.IndexFunc(try.tried(), func(t *transfer) bool { return t.worked() && t.encrypted && !t.tooLong })
	const text = "the server ends data without TLS's close_notify"
	switch {
	case i < 0:
	case try.tried()[i].closeNotify:
		j.add(CodeCloseNotify, finding.OK, "data ends with close_notify: nobody can cut it short unseen", "")
	case j.forward.TLS.ServerUnshut:
		j.add(CodeCloseNotify, finding.Info, text+`, and tls.server_close_notify = "optional" takes its files for whole`, "bring the server up to date when there is time")
	case j.passesTLS():
		j.add(CodeCloseNotify, finding.Info, text+": clients that are careful take its files for cut short", "bring the server up to date")
	default:
		j.add(CodeCloseNotify, finding.Fault, text+": the gateway takes its files for cut short",
			`bring the server up to date; if that cannot be, set tls.server_close_notify = "optional"`)
	}
}

// reuse compares a transfer that could resume the control connection's session with one that did not.
func (j *judge) reuse(try *attempt) {
	with := try.firstPassive(func(t *transfer) bool { return t.encrypted && t.worked() })
	if with == nil || try.unresumed == nil || !try.unresumed.negotiated() || try.unresumed.dialErr != nil {
		return
	}
	switch {
	case try.unresumed.worked() && with.resumed:
		j.add(CodeReuse, finding.Info, "the server lets data connections resume the control connection's session, as the gateway does, and does not demand it",
			"have the server demand it (require_ssl_reuse): else whoever guesses a passive port can take a file in a client's place")
	case try.unresumed.worked():
		j.add(CodeReuse, finding.Info, "the server lets no data connection resume the control connection's session", "switch on the server's cache of TLS sessions, or its tickets")
	case with.resumed && j.passesTLS():
		j.add(CodeReuse, finding.Info, "the server demands that data connections resume the control connection's session: clients that cannot get no data",
			"for such clients have the gateway speak TLS with both (tls.client, tls.server)")
	case with.resumed:
		j.add(CodeReuse, finding.OK, "the server demands that data connections resume the control connection's session, as the gateway does", "")
	}
}
