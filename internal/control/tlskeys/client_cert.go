package tlskeys

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"time"
	"unicode"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
)

// clientCerts checks the client's certificate in one session. In the zero value the forward asks for none.
type clientCerts struct {
	trust *Trust // the authorities of clients; nil: clients are not asked
	crl   *crl   // nil: no certificate is revoked
	now   func() time.Time
	leaf  *x509.Certificate // that the client presents on the control connection; nil: none
}

// newClientCerts returns the clientCerts of a forward.
func (k *Keys) newClientCerts(n *tlsFiles) clientCerts {
	c := clientCerts{crl: n.clientCRL, now: k.now}
	if n.clientCA != nil {
		c.trust = n.clientCA.get(k.now())
	}
	return c
}

// ask makes the control connection ask for a certificate and verify it. crypto/tls refuses with an alert that
// shows the reason, unless the certificate is revoked: see Admit.
func (c *clientCerts) ask(config *tls.Config, optional bool) {
	if c.trust == nil {
		return
	}
	config.ClientCAs, config.Time = c.trust.roots, c.now
	config.ClientAuth = tls.RequireAndVerifyClientCert
	if optional {
		config.ClientAuth = tls.VerifyClientCertIfGiven
	}
}

// askAgain makes a data connection ask for the certificate of the control connection. sameAs compares it.
func (c *clientCerts) askAgain(config *tls.Config) {
	if c.leaf != nil {
		config.ClientCAs, config.Time, config.ClientAuth = c.trust.roots, c.now, tls.RequestClientCert
	}
}

// sameAs refuses a data connection without the certificate of the control connection. A resumed session has
// its first certificate.
func (c *clientCerts) sameAs(peer []*x509.Certificate) error {
	switch {
	case c.leaf == nil:
		return nil
	case c.now().After(c.leaf.NotAfter): // crypto/tls does not resume its session any more
		return certificateError(explanation{
			reason: "the client's certificate has expired during the session",
			remedy: "have it renewed, and connect again"})
	case len(peer) == 0:
		return certificateError(explanation{
			reason: "the data connection presents no certificate, unlike the control connection",
			remedy: "use a client that presents its certificate on data connections, or resumes sessions"})
	case !c.leaf.Equal(peer[0]):
		return certificateError(explanation{
			reason: "the data connection presents another certificate than the control connection",
			remedy: "check who connects from the client's address; a client must use one certificate " +
				"in a session"})
	}
	return nil
}

func certificateError(why explanation) *PolicyError {
	return &PolicyError{why, verdict.CodeClientCertificate}
}

// Admit checks the client after the handshake of its control connection. subject is the subject of the
// client's certificate, without control characters; "": it presents none. The error is a *PolicyError, for
// reasons for which crypto/tls has no alert.
func (s *ClientTLS) Admit(state tls.ConnectionState) (subject string, err error) {
	if len(state.PeerCertificates) == 0 || s.certs.trust == nil {
		return "", nil
	}
	s.certs.leaf = state.PeerCertificates[0]
	subject = subjectOf(s.certs.leaf)
	if s.certs.crl == nil {
		return subject, nil
	}
	now := s.certs.now()
	if refused := s.certs.crl.get(now).check(state.VerifiedChains, now); refused != nil {
		return subject, refused
	}
	return subject, nil
}

// maxSubject bounds a subject in the log, in characters.
const maxSubject = 256

// subjectOf names the owner of a certificate: the subject (RFC 4514), or else an alternative name.
func subjectOf(cert *x509.Certificate) string {
	subject := cert.Subject.String()
	switch {
	case subject != "":
	case len(cert.EmailAddresses) > 0:
		subject = "email:" + cert.EmailAddresses[0]
	case len(cert.URIs) > 0:
		subject = "URI:" + cert.URIs[0].String()
	case len(cert.DNSNames) > 0:
		subject = "DNS:" + cert.DNSNames[0]
	default:
		subject = "serial number " + cert.SerialNumber.Text(16)
	}
	subject = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, subject)
	if runes := []rune(subject); len(runes) > maxSubject {
		subject = string(runes[:maxSubject]) + "..."
	}
	return subject
}

// Explain explains why the handshake of the control connection failed, or why Admit refuses the client, as
// the function Explain does; code is for programs.
func (s *ClientTLS) Explain(err error) (code verdict.Code, reason, remedy string) {
	if w, ok := explainClientCertificate(err); ok {
		return verdict.CodeClientCertificate, w.reason, w.remedy
	}
	reason, remedy = Explain(err)
	return verdict.CodeClientTLS, reason, remedy
}

// clientPolicy warns of settings that make the client's leg less safe.
func (l *loading) clientPolicy(f forward.Forward, own *pair) {
	if f.TLS.ClientMinVersion.IsObsolete() {
		if own != nil && own.value.Load() != nil && own.value.Load().Leaf.PublicKeyAlgorithm != x509.RSA {
			l.warn(f, "tls.cert", "the certificate's key is not RSA: most devices that know only TLS 1.0 "+
				"or 1.1 "+
				"know no other", "have a certificate made with an RSA key of 2048 bits")
		}
		l.warn(f, "tls.client_min_version", "clients may use TLS "+f.TLS.ClientMinVersion.String()+
			" and ciphers that are not safe: an attacker on the path can read passwords and files",
			"leave client_min_version out as soon as the old devices are gone; until then name "+
				"only them in clients")
	}
	if f.TLS.SessionReuseOptional {
		l.warn(f, "tls.session_reuse",
			"data connections need not resume the session of the control connection: another program at "+
				"the client's address that connects first gets its data",
			"leave session_reuse out, unless a client cannot do it")
	}
	if f.TLS.ClientCloseNotifyOptional {
		l.warn(f, "tls.client_close_notify", "an upload that was cut short looks complete",
			"leave client_close_notify out, unless a client does not send it")
	}
}
