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
	"testing"
)

// TestExplain: what is said of errors that no handshake of the other tests makes.
func TestExplain(t *testing.T) {
	alert := func(code uint8) error { return &net.OpError{Op: "remote error", Err: tls.AlertError(code)} }
	for _, test := range []struct {
		err            error
		reason, remedy string
	}{
		{alert(48), "the other side does not trust the gateway's certificate: it does not know the authority",
			"tls.cert"},
		{alert(42), "the other side refuses the gateway's certificate", "tls.client_cert"},
		{alert(70), "the other side knows only versions of TLS that are too old", "TLS 1.2"},
		{alert(116), "the server wants a certificate of the gateway", "tls.client_cert"},
		{alert(255), "the other side broke the TLS handshake off with an alert", "log"},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET},
			"the other side closed the connection in the middle of the TLS handshake", "log"},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, "the TLS handshake took too long",
			"implicit"},
		{context.DeadlineExceeded, "the TLS handshake took too long", "implicit"},
		{context.Canceled, "the TLS handshake was cancelled", ""},
		{io.EOF, "the other side closed the connection in the middle of the TLS handshake", "log"},
		{tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"},
			"the other side does not speak TLS", `tls.server = "required"`},
		{errors.New("tls: server selected unsupported protocol version 302"),
			"the other side knows only versions of TLS that are too old", "TLS 1.2"},
		{&net.OpError{Op: "local error", Err: errors.New("tls: bad record MAC")}, protocolErrors[3].reason,
			"tls.cert"},
		{errors.New("tls: downgrade attempt detected, possibly"),
			"the TLS handshake was tampered with: its version is older than both sides support", "between"},
		{x509.SystemRootsError{}, "the server's certificate is not trusted: the gateway knows no authorities",
			"ca-certificates"},
		{&tls.CertificateVerificationError{Err: errors.New("peer's words")},
			"the server's certificate is not trusted", "a new certificate"},
		{errors.New("peer's words"), "the TLS handshake failed", ""},
		{notResumed(tls.VersionTLS13), textNotResumed, "session_reuse"},
	} {
		wantWords(t, test.err, test.reason, test.remedy)
		wantWords(t, fmt.Errorf("server %q: %w", "peer's words", test.err), test.reason, test.remedy)
	}
	if reason, remedy := Explain(nil); reason != "" || remedy != "" {
		t.Errorf("nil: got %q, %q", reason, remedy)
	}
}

// TestExplainReal: crypto/tls's own errors are known by what they are, or by texts that may change.
func TestExplainReal(t *testing.T) {
	ca := authority(t)
	cert := sign(t, ca, nil)
	f := terminated(put(t, "both.pem", cert.certPEM(), cert.keyPEM()), "")
	k, _, _ := keys(t, f)
	own, err := k.ForClient(f, theClient)
	if err != nil {
		t.Fatal(err)
	}
	unknown := trusting(authority(t), 0)
	weak := trusting(ca, tls.VersionTLS12)
	weak.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}
	s, _ := shake(t, own.Control(), unknown)
	wantAlert(t, s.err, "bad certificate")
	s, _ = shake(t, own.Control(), weak)
	wantWords(t, s.err, "the other side knows only ciphers that are not safe", "ECDHE")
	_, c := shake(t, own.Control(), weak)
	wantWords(t, c.err, alerts[40].reason, "ECDHE")
	_, c = shake(t, own.Control(), trusting(ca, tls.VersionTLS11))
	wantWords(t, c.err, versions.reason, "TLS 1.2")

	near, far := net.Pipe()
	defer near.Close()
	go func() { defer far.Close(); io.WriteString(far, "USER anonymous\r\n") }()
	wantWords(t, tls.Server(quiet{near}, own.Control()).Handshake(), "the other side does not speak TLS",
		"tls.implicit")
}

// wantAlert asserts that an error is known as the peer's alert.
func wantAlert(t *testing.T, err error, text string) {
	t.Helper()
	reason, _ := Explain(err)
	if err == nil || !strings.Contains(err.Error(), text) || reason != certificateRefused.reason {
		t.Errorf("error %v: got %q; want %q for %s", err, reason, certificateRefused.reason, text)
	}
}

// quiet is a connection whose other end never reads.
type quiet struct{ net.Conn }

func (quiet) Write(p []byte) (int, error) { return len(p), nil }
