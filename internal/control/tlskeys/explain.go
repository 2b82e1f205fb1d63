package tlskeys

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// PolicyError says that a handshake was sound and the connection is refused all the same.
type PolicyError struct{ plain, remedy string }

func (e *PolicyError) Error() string { return "secure: " + e.plain }

// Plain returns the sentence for the FTP client.
func (e *PolicyError) Plain() string { return e.plain }

// Remedy returns what the operator can do.
func (e *PolicyError) Remedy() string { return e.remedy }

// words is what there is to say about an error: to the FTP client, and to the operator.
type words struct{ plain, remedy string }

// Explain returns what to say of the error of a handshake: plain to the FTP client, with nothing in it that
// the peer has sent, and what the operator can do, for the log. Certificates are those of servers: the
// gateway asks clients for none. Both are "" for nil.
func Explain(err error) (plain, remedy string) {
	if err == nil {
		return "", ""
	}
	for _, explain := range []func(error) (words, bool){explainPolicy, explainCertificate, explainAlert, explainProtocol, explainEnd} {
		if w, known := explain(err); known {
			return w.plain, w.remedy
		}
	}
	return "the TLS handshake failed", "the error beside this says why"
}

func explainPolicy(err error) (words, bool) {
	if policy, ok := errors.AsType[*PolicyError](err); ok {
		return words{policy.plain, policy.remedy}, true
	}
	return words{}, false
}

// explainCertificate is for what crypto/x509 has against the server's certificate.
func explainCertificate(err error) (words, bool) {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return words{"the server's certificate is not trusted: signed by an unknown authority",
			"tls.ca names the authority's certificate, or the server's own; a server that leaves out the certificates in between must be made to send them"}, true
	}
	if host, ok := errors.AsType[x509.HostnameError](err); ok {
		return words{"the server's certificate is for another name", otherName(host)}, true
	}
	if _, ok := errors.AsType[x509.SystemRootsError](err); ok {
		return words{"the server's certificate is not trusted: the gateway knows no authorities",
			"install the package ca-certificates and start anew, or name the server's authority as tls.ca"}, true
	}
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case !ok:
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
			return words{"the server's certificate is not trusted", "have the server's certificate made anew"}, true
		}
		return words{}, false
	case invalid.Reason == x509.Expired && strings.Contains(invalid.Detail, "before"):
		return words{"the server's certificate is not good yet", "look whether the clocks of this host and of the server are right"}, true
	case invalid.Reason == x509.Expired:
		return words{"the server's certificate has expired", "have it renewed on the server; and look whether the clock of this host is right"}, true
	}
	return words{"the server's certificate may not be used for a server",
		"have the server's certificate made anew, for the use serverAuth, by an authority that may sign"}, true
}

// otherName says which names the certificate has; they are the server's words, and quoted.
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
		return "the certificate has no subjectAltName, without which no name can be verified: have it made anew"
	case len(names) > most:
		names = append(names[:most], "...")
	}
	return fmt.Sprintf("the certificate names %s, not %q: if that is the server, tls.server_name says so", strings.Join(names, ", "), err.Host)
}

// alertWords is what the peer says with an alert (RFC 8446 section 6), where more can be said of it than
// that the handshake failed.
var alertWords = map[tls.AlertError]words{
	40: {"the other side found nothing in common: no cipher, or no certificate",
		"it must know TLS 1.2 with ECDHE, or 1.3; its log may say more"},
	42: certificateRefused, 43: certificateRefused, 46: certificateRefused,
	44: {"the other side says that the gateway's certificate is revoked", "have it made anew"},
	45: {"the other side says that the gateway's certificate has expired", "have it renewed; or its clock is wrong"},
	48: {"the other side does not trust the gateway's certificate: it does not know the authority",
		"a client must be given the authority of tls.cert, whose file must have the certificates in between; a server that of tls.client_cert"},
	49:  {"the other side refuses access with the gateway's certificate", "the server must be told to let tls.client_cert in"},
	70:  versions,
	71:  {"the other side wants stronger ciphers", "its log may say more"},
	80:  {"the other side has an error of its own", "its log may say more"},
	112: {"the other side does not know the name that it was asked for", "tls.server_name says what the server is called"},
	116: {"the server wants a certificate of the gateway", "tls.client_cert and tls.client_key name one that it accepts"},
}

var (
	certificateRefused = words{"the other side refuses the gateway's certificate",
		"a client may not know its authority or not find the name that it dialled in tls.cert; a server must be told to let tls.client_cert in"}
	versions = words{"the other side knows only versions of TLS that are too old",
		"TLS 1.2 is the oldest that the gateway speaks: the other side must be brought up to date"}
)

// explainAlert is for what the peer says is wrong.
func explainAlert(err error) (words, bool) {
	remote, ok := errors.AsType[*net.OpError](err)
	if !ok || remote.Op != "remote error" || remote.Err == nil {
		return words{}, false
	}
	for code, w := range alertWords {
		if remote.Err.Error() == code.Error() { // crypto/tls has the number in a type of its own
			return w, true
		}
	}
	return words{"the other side broke the TLS handshake off with an alert", "its log may say more"}, true
}

// protocolWords is what crypto/tls says with a text alone, by its beginning.
var protocolWords = []struct {
	text string
	words
}{
	{"tls: client offered only unsupported versions", versions},
	{"tls: server selected unsupported protocol version", versions},
	{"tls: no cipher suite supported by both", words{"the other side knows only ciphers that are not safe",
		"it must know TLS 1.2 with ECDHE and AES-GCM or ChaCha20, or 1.3"}},
	// A client that refuses our certificate with TLS 1.3 may say so in clear (OpenSSL does), where crypto/tls
	// expects what is encrypted.
	{"tls: bad record MAC", words{"the other side broke the TLS handshake off, most often because it does not trust the certificate",
		"see that tls.cert names what the clients dial, has not expired, and that they know its authority; they say more"}},
	{"tls: downgrade attempt detected", words{"the TLS handshake was tampered with: it came out older than both sides can",
		"look what stands between the gateway and the other side"}},
}

// explainProtocol is for peers that do not speak our TLS.
func explainProtocol(err error) (words, bool) {
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return words{"the other side does not speak TLS",
			"a server that takes AUTH TLS wants tls.server = \"required\", one that begins with TLS (port 990) \"implicit\"; the same holds of clients and tls.implicit"}, true
	}
	for ; err != nil; err = errors.Unwrap(err) {
		for _, p := range protocolWords {
			if strings.HasPrefix(err.Error(), p.text) {
				return p.words, true
			}
		}
	}
	return words{}, false
}

// explainEnd is for connections that end before the handshake does.
func explainEnd(err error) (words, bool) {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return words{"the TLS handshake took too long",
			"look whether the other side wants TLS here at all: one that begins with TLS is implicit, one that waits for AUTH is not"}, true
	case errors.Is(err, context.Canceled), errors.Is(err, net.ErrClosed):
		return words{"the TLS handshake was given up", "nothing, unless it happens often"}, true
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return words{"the other side closed the connection in the middle of the TLS handshake",
			"its log may say more: most often it does not like the certificate, or knows no TLS 1.2"}, true
	}
	return words{}, false
}
