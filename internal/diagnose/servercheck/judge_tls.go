package servercheck

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ftpgate/internal/control/tlskeys"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/ftpclient"
)

// onlyTLS judges a server that accepts nothing in clear, behind a forward that speaks in clear with it.
func (j *judge) onlyTLS(text string, need forward.ServerTLS) {
	switch {
	case j.passesTLS():
		j.note(CodeAuth, finding.Info, "%s; clients must encrypt, and their sessions pass through unread",
			text)
	case j.forward.Tracking == forward.TrackingKernel:
		j.add(CodeAuth, finding.Fault, text+"; the kernel's helper cannot read that, and clients get no data",
			fmt.Sprintf("set tracking = \"proxy\" with tls.server = %q, or tracking = \"none\" with "+
				"server_ports", need))
	default:
		j.add(CodeAuth, finding.Fault, text+"; clients of this forward cannot use it",
			fmt.Sprintf("set tls.server = %q, or server_ports for clients that encrypt themselves", need))
	}
}

// alsoTLS judges the TLS of a server that also speaks in clear, as the forward does.
func (j *judge) alsoTLS(try *attempt) {
	unread := j.passesTLS()
	switch {
	case try.auth == nil || try.auth.err != nil:
	case try.auth.Code != 234 && j.forward.PassesThrough():
		j.add(CodeAuth, finding.Warning,
			"server_ports lets encrypted sessions through, and the server does not accept AUTH TLS: "+
				j.quoteReply(*try.auth),
			"switch TLS on in the server and give it a certificate")
	case try.auth.Code != 234:
		j.note(CodeAuth, finding.OK, "the server does not accept AUTH TLS, and the forward does not need "+
			"it: %s", j.quoteReply(*try.auth))
	case try.handshake == nil:
	case try.handshake.err != nil:
		text, remedy := handshakeFault(try.handshake.err, true, j.limits.Reply)
		level := finding.Info
		if unread {
			level = finding.Warning
		}
		j.add(CodeTLS, level, "the server accepts AUTH TLS, but "+text, remedy)
	case unread:
		j.note(CodeAuth, finding.OK, "the server accepts AUTH TLS, and clients that encrypt reach it: "+
			"they see the certificate for %s", j.names(try.handshake.chain[0]))
		j.reuse(try)
	default:
		j.add(CodeAuth, finding.Info,
			fmt.Sprintf("the server accepts AUTH TLS (%s), and the gateway does not use it: passwords and "+
				"files can be read on the way",
				tls.VersionName(try.handshake.version)), `set tls.server = "required" (tracking "proxy")`)
	}
}

// encryption judges AUTH TLS, the handshake and the certificate, and reports whether the session can
// continue.
func (j *judge) encryption(try *attempt) bool {
	if try.security == forward.ServerTLSRequired && !j.auth(try) || try.handshake == nil {
		return false
	}
	if try.handshake.err != nil {
		text, remedy := handshakeFault(try.handshake.err, try.security != forward.ServerTLSImplicit,
			j.limits.Reply)
		j.add(CodeTLS, finding.Fault, text, remedy)
		return false
	}
	j.note(CodeTLS, finding.OK, "the server speaks %s with %s", tls.VersionName(try.handshake.version),
		tls.CipherSuiteName(try.handshake.cipher))
	j.versions(try)
	j.certificate(try.handshake)
	return true
}

func (j *judge) auth(try *attempt) bool {
	if try.auth == nil || j.failed(CodeAuth, "AUTH TLS", *try.auth) {
		return false
	}
	switch a := *try.auth; {
	case a.Code == 234:
		j.note(CodeAuth, finding.OK, "the server accepts AUTH TLS")
		return true
	case a.Code/100 == 3:
		j.add(CodeAuth, finding.Fault, "the server wants something other than TLS: "+j.quoteReply(a),
			"switch TLS on in the server")
	case a.Code/100 == 4:
		j.add(CodeAuth, finding.Fault, "the server cannot start TLS now: "+j.quoteReply(a),
			"check that the server has its certificate and its key: its log says")
	default:
		j.add(CodeAuth, finding.Fault, "the server does not accept AUTH TLS: "+j.quoteReply(a),
			"switch TLS on in the server and give it a certificate; a firewall in between that inspects "+
				"FTP may refuse AUTH on its behalf")
	}
	return false
}

// versions judges a second handshake, with the version that the first did not choose.
func (j *judge) versions(try *attempt) {
	switch {
	case try.handshake.version < tls.VersionTLS12: // which tls.server_min_version allows
		j.add(CodeVersions, finding.Warning, "the server accepts "+tls.VersionName(try.handshake.version)+
			" and nothing newer, which is not safe: an attacker on the path can read passwords and files",
			"update the server, and leave tls.server_min_version out then")
	case try.otherVersion == nil:
	case try.otherVersion.err == nil:
		j.note(CodeVersions, finding.OK, "the server accepts TLS 1.2 and TLS 1.3")
	case !isAlert(try.otherVersion.err) && !isOldVersion(try.otherVersion.err): // it may be the network
	case try.handshake.version == tls.VersionTLS13:
		j.note(CodeVersions, finding.OK, "the server accepts TLS 1.3 and not TLS 1.2")
	default:
		j.add(CodeVersions, finding.Info, "the server accepts TLS 1.2 and not TLS 1.3",
			"update the server when there is time: TLS 1.2 is older, and safe")
	}
}

// handshakeFault says why a handshake failed. It began after AUTH, or with the connection.
func handshakeFault(err error, afterAuth bool, limit time.Duration) (text, remedy string) {
	_, clear := errors.AsType[tls.RecordHeaderError](err)
	alert, isAlert := tlskeys.AlertOf(err)
	switch {
	case errors.Is(err, ftpclient.ErrInjected):
		return "bytes in clear came after the answer to AUTH TLS",
			"check what stands between this host and the server: an attacker may be injecting replies"
	case clear && !afterAuth:
		return "the server does not start with TLS: it answered in clear",
			`set tls.server = "required" if the server accepts AUTH TLS, else "off"; or correct the port, ` +
				"which is 990 for implicit FTPS"
	case clear:
		return "the server answered in clear where TLS starts",
			"check the server's log, and whether a firewall in between answers on its behalf"
	case isAlert:
		return alertFault(alert)
	case isOldVersion(err):
		return "the server knows only versions of TLS that are too old",
			remedyOldVersion
	case isTimeout(err):
		return "the TLS handshake did not end within " + rounded(limit),
			"check the server's log, and whether a firewall that inspects FTP lets TLS pass"
	case isClosed(err):
		return "the server closed the connection in the TLS handshake",
			"check that the server can read its certificate and key, and knows TLS 1.2 or 1.3: its log says"
	}
	return "the TLS handshake failed: " + quote(err.Error()), remedyLog
}

const remedyOldVersion = "update the server: TLS 1.2 is the oldest that is safe; tls.server_min_version " +
	"allows " +
	"an older one"

// isOldVersion reports whether the server chose a TLS version that is too old.
func isOldVersion(err error) bool {
	return strings.Contains(err.Error(), "unsupported protocol version")
}

// isAlert reports whether the peer sent a TLS alert.
func isAlert(err error) bool {
	_, ok := tlskeys.AlertOf(err)
	return ok
}

// alertFault says what the server's alert means.
func alertFault(alert tls.AlertError) (text, remedy string) {
	switch alert {
	case 70:
		return "the server accepts no version of TLS that is safe",
			remedyOldVersion
	case 40, 71:
		return "the server has no TLS in common with this host: " + quote(alert.Error()),
			"check that the server has a certificate, and which ciphers it allows"
	case 116, 42, 43, 44, 45, 46, 48, 49:
		return "the server wants a certificate of the gateway, or another one: " + quote(alert.Error()),
			"set tls.client_cert and tls.client_key to what the server accepts"
	case 112:
		return "the server does not know the name that the gateway asked for",
			"set tls.server_name to what the server is called"
	}
	return "the server ended TLS: " + quote(alert.Error()), remedyLog
}

func (j *judge) certificate(h *handshake) {
	leaf := h.chain[0]
	what := fmt.Sprintf("the certificate for %s by %s", j.names(leaf), j.issuer(leaf))
	days := int(leaf.NotAfter.Sub(j.now) / (24 * time.Hour))
	switch {
	case h.certErr != nil && j.forward.TLS.Insecure:
		text, _ := j.certificateFault(h.certErr, leaf)
		j.add(CodeCertificate, finding.Warning, text+`, and tls.verify = "insecure" accepts it all the same`,
			"set tls.ca to what to trust, and tls.server_name to the name; then remove tls.verify")
	case h.certErr != nil && j.passesTLS(): // clients check it, and each knows authorities of its own
		text, _ := j.certificateFault(h.certErr, leaf)
		j.add(CodeCertificate, finding.Warning, text+"; this host does not check it, but clients may",
			"have clients trust it, or have one made by an authority that they know")
	case h.certErr != nil:
		text, remedy := j.certificateFault(h.certErr, leaf)
		j.add(CodeCertificate, finding.Fault, text, remedy)
	case leaf.NotAfter.Sub(j.now) < tlskeys.WarnBefore:
		j.add(CodeCertificate, finding.Warning, fmt.Sprintf("%s expires in %d days", what, days),
			"have it renewed in time, and check that the server uses the new one")
	default:
		j.note(CodeCertificate, finding.OK, "%s is trusted, and good for %d days", what, days)
	}
}

// certificateFault says what is wrong with a certificate.
func (j *judge) certificateFault(err error, leaf *x509.Certificate) (text, remedy string) {
	_, name := errors.AsType[x509.HostnameError](err)
	_, rootless := errors.AsType[x509.SystemRootsError](err)
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	switch {
	case j.now.After(leaf.NotAfter):
		return "the server's certificate has expired on " + leaf.NotAfter.UTC().Format(time.DateOnly),
			"have it renewed on the server; and check this host's clock"
	case j.now.Before(leaf.NotBefore):
		return "the server's certificate is not valid before " + leaf.NotBefore.UTC().Format(time.DateOnly),
			"check the clocks of this host and of the server"
	case name && len(leaf.DNSNames) == 0 && len(leaf.IPAddresses) == 0:
		return "the server's certificate has no subjectAltName, without which no name can be verified",
			"have a new one made, or set tls.ca to the server's own certificate"
	case name:
		return fmt.Sprintf("the server's certificate is for %s, not for %s", j.names(leaf), quote(j.name)),
			"set tls.server_name to one of its names if that is the server, or have a new one made with " +
				"the name"
	case rootless:
		return "this host knows no certificate authorities",
			"install the package ca-certificates, or set tls.ca to the server's authority"
	case unknown && leaf.Issuer.String() == leaf.Subject.String():
		return "the server's certificate is self-signed, and not known here",
			"set tls.ca to its file, or have one made by an authority"
	case unknown:
		return fmt.Sprintf("the server's certificate is signed by %s, which this host does not know",
				j.issuer(leaf)),
			"set tls.ca to the authority's certificate; if the authority is known, have the server send " +
				"the intermediate certificates"
	}
	return "the server's certificate is not trusted: " + j.quote(err.Error()),
		"have a new one made, for servers (serverAuth), by an authority that may sign and has not expired"
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

// issuer quotes who signed a certificate.
func (j *judge) issuer(leaf *x509.Certificate) string {
	if name := cmp.Or(append([]string{leaf.Issuer.CommonName}, leaf.Issuer.Organization...)...); name != "" {
		return j.quote(name)
	}
	return "an authority without a name"
}

// protection judges PBSZ and PROT (RFC 4217 section 9), and reports whether the session can continue. Of the
// answers only that to PROT counts.
func (j *judge) protection(try *attempt) bool {
	command, text, remedy := "PROT P", "the server does not encrypt data: ",
		`switch that on in the server, or set server_data = "clear"`
	if j.forward.TLS.ServerDataClear {
		command, text, remedy = "PROT C", "the server sends no data in clear: ", `set server_data = "private"`
	}
	if try.pbsz == nil || j.failed(CodeProtection, "PBSZ 0", *try.pbsz) ||
		try.prot == nil || j.failed(CodeProtection, command, *try.prot) {
		return false
	}
	switch {
	case !j.forward.TLS.AgreesOnData(try.prot.Code):
		j.add(CodeProtection, finding.Fault, text+j.quoteReply(*try.prot), remedy)
		return false
	case !try.prot.positive():
		j.note(CodeProtection, finding.OK, "the server does not support %s, which is allowed: %s", command,
			j.quoteReply(*try.prot))
	default:
		j.note(CodeProtection, finding.OK, "the server accepts %s", command)
	}
	return true
}

// closeNotify judges how data in TLS ended.
func (j *judge) closeNotify(try *attempt) {
	i := slices.IndexFunc(try.tried(), func(t *transfer) bool {
		return t.worked() && t.encrypted && !t.tooLong
	})
	const text = "the server ends data without TLS's close_notify"
	switch {
	case i < 0:
	case try.tried()[i].closeNotify:
		j.note(CodeCloseNotify, finding.OK, "data ends with close_notify: it cannot be cut short unnoticed")
	case j.forward.TLS.ServerCloseNotifyOptional:
		j.add(CodeCloseNotify, finding.Info,
			text+`, and tls.server_close_notify = "optional" accepts its files as complete`,
			"update the server when there is time")
	case j.passesTLS():
		j.add(CodeCloseNotify, finding.Info, text+": careful clients treat its files as incomplete",
			"update the server")
	default:
		j.add(CodeCloseNotify, finding.Fault, text+": the gateway treats its files as incomplete",
			`update the server; if that is impossible, set tls.server_close_notify = "optional"`)
	}
}

// reuse compares a transfer that could resume the control connection's session with one that did not.
func (j *judge) reuse(try *attempt) {
	with := try.firstPassive(func(t *transfer) bool { return t.encrypted && t.worked() })
	if with == nil || try.unresumed == nil || !try.unresumed.negotiated() || try.unresumed.dialErr != nil {
		j.reuseUntried(try)
		return
	}
	switch {
	case try.unresumed.worked() && j.passesTLS():
		remedy := "have the server require it (vsftpd: require_ssl_reuse=YES; proftpd: without TLSOptions " +
			"NoSessionReuseRequired), or have the gateway speak TLS with both sides (tls.client, tls.server)"
		if !with.resumed {
			remedy = "switch on the server's cache of TLS sessions, or its tickets, and " + remedy
		}
		j.add(CodeReuse, finding.Warning,
			"the server does not require data connections to resume the control connection's session: any "+
				"client that encrypts can take the files of another, because the server sees the gateway's "+
				"address for both", remedy)
	case try.unresumed.worked() && with.resumed:
		j.add(CodeReuse, finding.Info,
			"the server lets data connections resume the control connection's session, as the gateway "+
				"does, and does not require it",
			"have the server require it (require_ssl_reuse): else any program that guesses a passive port "+
				"can get a client's file")
	case try.unresumed.worked():
		j.add(CodeReuse, finding.Info,
			"the server lets no data connection resume the control connection's session",
			"switch on the server's cache of TLS sessions, or its tickets")
	case with.resumed && j.passesTLS():
		j.add(CodeReuse, finding.Info,
			"the server requires data connections to resume the control connection's session: clients that "+
				"cannot get no data",
			"for such clients, have the gateway speak TLS with both sides (tls.client, tls.server)")
	case with.resumed:
		j.note(CodeReuse, finding.OK, "the server requires data connections to resume the control "+
			"connection's session, as the gateway does")
	}
}

// reuseUntried adds that it is unknown whether the server requires session reuse, if that matters.
func (j *judge) reuseUntried(try *attempt) {
	if !j.passesTLS() || try.handshake == nil || try.handshake.err != nil {
		return
	}
	why := "no listing in TLS worked"
	switch {
	case errors.Is(try.loginSkipped, errUntrusted):
		why = "its certificate is not trusted, and so it does not get the password"
	case try.login == nil || !try.login.positive():
		why = "it takes no login"
	}
	j.add(CodeReuse, finding.Info, "not tried whether the server requires data connections to resume the "+
		"control "+
		"connection's session: "+why,
		"make sure that it does: else any client that encrypts can take the files of another")
}
