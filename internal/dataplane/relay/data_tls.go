package relay

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// DataTLS is the TLS that the gateway speaks on the legs of a transfer. On data connections the FTP client is
// the TLS client, whoever has connected (RFC 4217 section 7): so the gateway is the TLS server on the
// client's leg, and the TLS client on the server's. The zero value leaves both in clear.
type DataTLS struct {
	Client, Server *tls.Config // nil: that leg is in clear
	// An end that is unshut may end its data without close_notify, by TCP's FIN alone, which anybody on
	// the way can forge: a file that was cut short then looks complete.
	ClientCloseNotifyOptional, ServerCloseNotifyOptional bool
	// TransferStarted is closed when the transfer begins, and TLS with the server not before: there are servers
	// that close a data connection on which anything comes sooner. nil: at once.
	TransferStarted <-chan struct{}
}

// legTLS is the TLS of one leg.
type legTLS struct {
	config              *tls.Config // nil: in clear
	end                 string      // "client" or "server"
	closeNotifyOptional bool
	transferStarted     <-chan struct{} // nil: at once

	helloTime, handshakeTime time.Duration
}

// seal has t speak TLS, where client is the side of FTP's client.
func (p *Path) seal(t *Transfer, client Side, seals DataTLS) {
	hello, handshake := orDefault(p.HelloTime, DefaultHelloTime), orDefault(p.HandshakeTime, DefaultHandshakeTime)
	t.legTLS[client] = legTLS{seals.Client, endClient, seals.ClientCloseNotifyOptional, nil, hello, handshake}
	t.legTLS[client.other()] = legTLS{seals.Server, endServer, seals.ServerCloseNotifyOptional, seals.TransferStarted, hello, handshake}
}

// usesTLS tells whether the gateway speaks TLS on one of the legs at least.
func (t *Transfer) usesTLS() bool { return t.legTLS[From].config != nil || t.legTLS[To].config != nil }

const (
	endClient = "client"
	endServer = "server"
)

// HandshakeError says which end the TLS handshake has failed with. It wraps what crypto/tls says, and what a
// config's VerifyConnection does.
type HandshakeError struct {
	Side Side
	End  string // "client" or "server"
	Err  error
}

func (e *HandshakeError) Error() string {
	return fmt.Sprintf("handshake with the %s: %v", e.End, e.Err)
}
func (e *HandshakeError) Unwrap() error { return e.Err }

// Reply returns the error for the FTP client, with 522 (RFC 4217 section 10.2).
func (e *HandshakeError) Reply() (code int, text string) { return 522, e.plain() }

// plain uses the words of Err where that has some.
func (e *HandshakeError) plain() string {
	var worded interface{ Plain() string }
	var noTLS tls.RecordHeaderError
	switch {
	case errors.As(e.Err, &worded):
		return worded.Plain()
	case errors.As(e.Err, &noTLS):
		return fmt.Sprintf("the %s does not speak TLS on the data connection", e.End)
	case errors.Is(e.Err, os.ErrDeadlineExceeded):
		return fmt.Sprintf("the %s's TLS handshake on the data connection took too long", e.End)
	case errors.Is(e.Err, io.EOF):
		return fmt.Sprintf("the %s closed the data connection before its TLS handshake was done", e.End)
	}
	return fmt.Sprintf("the %s's TLS handshake on the data connection failed", e.End)
}

// TruncatedError says that an end's data ended as only an attacker, a fault or careless software ends it:
// TLS marks the end with close_notify (RFC 8446 section 6.1), and that did not come.
type TruncatedError struct {
	End    string // "client" or "server"
	Inside bool   // in the midst of a record: then it is cut short for certain
}

// Reply returns the error for the FTP client.
func (e *TruncatedError) Reply() (code int, text string) { return 426, e.Error() }

func (e *TruncatedError) Error() string {
	if e.Inside {
		return fmt.Sprintf("the %s's data ended inside a TLS record, it is cut short", e.End)
	}
	return fmt.Sprintf("the %s's data ended without TLS's close_notify, it may be cut short", e.End)
}

// Remedy returns what the operator can do.
func (e *TruncatedError) Remedy() string {
	if e.Inside {
		return fmt.Sprintf("see in the %[1]s's log why its data connection was closed, or what stands between the gateway and the %[1]s", e.End)
	}
	return fmt.Sprintf(`if the %[1]s is known never to send close_notify, set tls.%[1]s_close_notify = "optional": the gateway `+
		`then takes what an attacker has cut short for complete`, e.End)
}
