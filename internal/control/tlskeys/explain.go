package tlskeys

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"strings"
	"syscall"

	"ftpgate/internal/core/verdict"
)

// explanation is a sentence for the FTP client, and a remedy for the operator.
type explanation struct{ reason, remedy string }

// PolicyError is the refusal of a connection whose handshake succeeded.
type PolicyError struct {
	explanation
	code verdict.Code
}

func (e *PolicyError) Error() string { return "tlskeys: " + e.reason }

// Reason returns the sentence for the FTP client.
func (e *PolicyError) Reason() string { return e.reason }

// Code returns the code of the verdict about it.
func (e *PolicyError) Code() verdict.Code { return e.code }

// Remedy returns what the operator can do.
func (e *PolicyError) Remedy() string { return e.remedy }

// Explain explains the error of a handshake: reason is for the FTP client, without anything that the peer
// sent, and remedy is for the log. Certificates are those of servers; for the client's leg use
// ClientTLS.Explain. Both are "" if err is nil.
func Explain(err error) (reason, remedy string) {
	if err == nil {
		return "", ""
	}
	if policy, ok := errors.AsType[*PolicyError](err); ok {
		return policy.reason, policy.remedy
	}
	for _, explain := range []func(error) (explanation, bool){explainCertificate, explainAlert,
		explainProtocol, explainEnd} {
		if w, known := explain(err); known {
			return w.reason, w.remedy
		}
	}
	return "the TLS handshake failed", "the error beside this says why"
}

// explainCertificate explains why crypto/x509 rejects the server's certificate.
func explainCertificate(err error) (explanation, bool) {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return explanation{"the server's certificate is not trusted: signed by an unknown authority",
			"tls.ca names the authority's certificate, or the server's own; a server that leaves out the " +
				"intermediate certificates must send them"}, true
	}
	if host, ok := errors.AsType[x509.HostnameError](err); ok {
		return explanation{"the server's certificate is for another name", otherName(host)}, true
	}
	if _, ok := errors.AsType[x509.SystemRootsError](err); ok {
		return explanation{"the server's certificate is not trusted: the gateway knows no authorities",
			"install the package ca-certificates and restart ftpgate, or name the server's authority as " +
				"tls.ca"}, true
	}
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case !ok:
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
			return explanation{"the server's certificate is not trusted",
				"have a new certificate made for the server"}, true
		}
		return explanation{}, false
	case invalid.Reason == x509.Expired && strings.Contains(invalid.Detail, "before"):
		return explanation{"the server's certificate is not valid yet",
			"check the clocks of this host and of the server"}, true
	case invalid.Reason == x509.Expired:
		return explanation{"the server's certificate has expired",
			"have it renewed on the server; and check this host's clock"}, true
	}
	return explanation{"the server's certificate may not be used for a server",
		"have a new certificate made, for the use serverAuth, by an authority that may sign"}, true
}

// explainClientCertificate explains why crypto/tls or crypto/x509 rejects the client's certificate, or that
// there is none.
func explainClientCertificate(err error) (explanation, bool) {
	if policy, ok := errors.AsType[*PolicyError](err); ok {
		return policy.explanation, true
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if strings.HasPrefix(e.Error(), "tls: client didn't provide a certificate") {
			return explanation{"the client presents no certificate, and this forward requires one",
				"give the client a certificate of an authority in the file of tls.client_ca, and its key; " +
					"many hold back one of another authority, and GnuTLS (lftp, FileZilla) one with RSA " +
					"in TLS 1.3: use one with an ECDSA key there, or TLS 1.2 (lftp: set ssl:priority " +
					"NORMAL:-VERS-TLS1.3)"}, true
		}
	}
	refused, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if !ok {
		return explanation{}, false
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return explanation{"the client's certificate is not trusted: signed by an unknown authority",
			"tls.client_ca names the authority's certificate, or the client's own; a client must send the " +
				"intermediate certificates"}, true
	}
	switch invalid, _ := errors.AsType[x509.CertificateInvalidError](err); {
	case invalid.Cert == nil:
	case invalid.Reason == x509.Expired && invalid.Cert != refused.UnverifiedCertificates[0]:
		return explanation{"the certificate of an authority of the client has expired, or is not yet valid",
			"have that authority's certificate renewed, in the file of tls.client_ca or at the client; and " +
				"check this host's clock"}, true
	case invalid.Reason == x509.Expired && strings.Contains(invalid.Detail, "before"):
		return explanation{"the client's certificate is not valid yet",
			"check the clocks of this host and of the host that made the certificate"}, true
	case invalid.Reason == x509.Expired:
		return explanation{"the client's certificate has expired",
			"have it renewed; and check this host's clock"}, true
	case invalid.Reason == x509.IncompatibleUsage:
		return explanation{"the client's certificate may not be used for a client",
			"have a new certificate made for the client, for the use clientAuth"}, true
	}
	return explanation{"the client's certificate is not trusted",
		"have a new certificate made for the client"}, true
}

// otherName lists the certificate's names, quoted, because the server chose them.
func otherName(err x509.HostnameError) string {
	var names []string
	for _, name := range err.Certificate.DNSNames {
		names = append(names, fmt.Sprintf("%.64q", name))
	}
	for _, addr := range err.Certificate.IPAddresses {
		names = append(names, fmt.Sprintf("%q", addr))
	}
	const most = 4
	switch {
	case len(names) == 0:
		return "the certificate has no subjectAltName, without which no name can be verified: have a new " +
			"one made, or name the server's own certificate as tls.ca"
	case len(names) > most:
		names = append(names[:most], "...")
	}
	return fmt.Sprintf("the certificate names %s, not %q: if that is the server, tls.server_name says so",
		strings.Join(names, ", "), err.Host)
}

// alerts are the alerts of the peer (RFC 8446 section 6) that say more than that the handshake failed.
var alerts = map[tls.AlertError]explanation{
	40: {"the other side found nothing in common: no cipher, or no certificate",
		"it must know TLS 1.2 with ECDHE, or 1.3; its log may say more"},
	42: certificateRefused, 43: certificateRefused, 46: certificateRefused,
	44: {"the other side says that the gateway's certificate is revoked", "have a new one made"},
	45: {"the other side says that the gateway's certificate has expired",
		"have it renewed; or its clock is wrong"},
	48: {"the other side does not trust the gateway's certificate: it does not know the authority",
		"a client must be given the authority of tls.cert, whose file must have the certificates in " +
			"between; a server that of tls.client_cert"},
	49: {"the other side refuses access with the gateway's certificate",
		"configure the server to accept tls.client_cert"},
	70: versions,
	71: {"the other side wants stronger ciphers", "its log may say more"},
	80: {"the other side has an error of its own", "its log may say more"},
	112: {"the other side does not know the name that it was asked for",
		"set tls.server_name to the name that the server knows"},
	116: {"the server wants a certificate of the gateway",
		"tls.client_cert and tls.client_key name one that it accepts"},
}

var (
	certificateRefused = explanation{"the other side refuses the gateway's certificate",
		"a client may not know its authority or not find the name that it dialled in tls.cert; " +
			"configure a server to accept tls.client_cert"}
	versions = explanation{"the other side knows only versions of TLS that are too old",
		"TLS 1.2 is the oldest that the gateway speaks by itself: update the other side; for old devices " +
			"there are tls.client_min_version and tls.server_min_version"}
)

// explainAlert explains the peer's alert.
func explainAlert(err error) (explanation, bool) {
	alert, ok := AlertOf(err)
	if !ok {
		return explanation{}, false
	}
	if w, known := alerts[alert]; known {
		return w, true
	}
	return explanation{"the other side broke the TLS handshake off with an alert", "its log may say more"},
		true
}

// AlertOf returns the alert with which the peer ended TLS (RFC 8446 section 6); false: it sent none.
func AlertOf(err error) (tls.AlertError, bool) {
	remote, ok := errors.AsType[*net.OpError](err)
	if !ok || remote.Op != "remote error" || remote.Err == nil {
		return 0, false
	}
	for code := range tls.AlertError(math.MaxUint8) { // crypto/tls keeps the number in an unexported type
		if remote.Err.Error() == code.Error() {
			return code, true
		}
	}
	return math.MaxUint8, true // no alert has this number
}

// protocolErrors explains the errors that crypto/tls reports as text only, by the beginning of that text.
var protocolErrors = []struct {
	text string
	explanation
}{
	{"tls: client offered only unsupported versions", versions},
	{"tls: server selected unsupported protocol version", versions},
	{"tls: no cipher suite supported by both",
		explanation{"the other side knows only ciphers that are not safe",
			"it must know TLS 1.2 with ECDHE and AES-GCM or ChaCha20, or 1.3; a client that knows RSA only " +
				"needs a certificate with an RSA key in tls.cert"}},
	// With TLS 1.3 a client that refuses our certificate may say so in clear (OpenSSL does); crypto/tls
	// expects an encrypted record.
	{"tls: bad record MAC",
		explanation{"the other side broke the TLS handshake off, most often because it does not trust the " +
			"certificate",
			"check that tls.cert names what the clients dial and has not expired, and that they know its " +
				"authority; they say more"}},
	{"tls: downgrade attempt detected",
		explanation{"the TLS handshake was tampered with: its version is older than both sides support",
			"check what stands between the gateway and the other side"}},
	{"tls: client requested unsupported application protocols",
		explanation{"the client's TLS is for another protocol than FTP (ALPN): probably a browser",
			"if it continues, a web page may be using browsers against the server (ALPACA); curl before " +
				"7.50 asks " +
				"for HTTP with FTPS, too: --no-alpn"}},
	{"tls: no certificates configured", // see ClientTLS.checkName
		explanation{"the client's TLS is for another server's name (SNI)",
			"tls.names has the names that clients may ask for: add the one that they dial"}},
}

// explainProtocol explains the errors of peers that do not speak our TLS.
func explainProtocol(err error) (explanation, bool) {
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return explanation{"the other side does not speak TLS",
			"a server that accepts AUTH TLS needs tls.server = \"required\", one that starts with TLS " +
				"(port 990) \"implicit\"; the same is true of clients and tls.implicit"}, true
	}
	for ; err != nil; err = errors.Unwrap(err) {
		for _, p := range protocolErrors {
			if strings.HasPrefix(err.Error(), p.text) {
				return p.explanation, true
			}
		}
	}
	return explanation{}, false
}

// explainEnd explains connections that end during the handshake.
func explainEnd(err error) (explanation, bool) {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return explanation{"the TLS handshake took too long",
			"check whether the other side wants TLS here at all: one that starts with TLS is implicit, one " +
				"that waits for AUTH is not"}, true
	case errors.Is(err, context.Canceled), errors.Is(err, net.ErrClosed):
		return explanation{"the TLS handshake was cancelled", "nothing, unless it happens often"}, true
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return explanation{"the other side closed the connection in the middle of the TLS handshake",
			"its log may say more: most often it does not like the certificate, or knows no TLS 1.2"}, true
	}
	return explanation{}, false
}
