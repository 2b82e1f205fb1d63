package relay

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
)

var (
	// ErrNoPeer says that the peer of a pinhole did not connect in time.
	ErrNoPeer = errors.New("no peer connected")
	// ErrClosed says that the connection was severed, or closed before a peer connected.
	ErrClosed = errors.New("closed")
)

// DialError says that connecting to an end failed.
type DialError struct {
	Side Side
	To   netip.AddrPort
	Err  error
}

func (e *DialError) Error() string { return fmt.Sprintf("dial %s: %v", e.To, e.Err) }
func (e *DialError) Unwrap() error { return e.Err }

// BrokenError says which end broke a running connection, by a reset or by silence.
type BrokenError struct {
	Side Side
	Err  error
}

func (e *BrokenError) Error() string { return fmt.Sprintf("broken by the %s: %v", e.Side, e.Err) }
func (e *BrokenError) Unwrap() error { return e.Err }

// HandshakeError says with which end the TLS handshake failed. It wraps the error of crypto/tls, and with it
// that of a config's VerifyConnection.
type HandshakeError struct {
	Side Side
	Err  error
}

func (e *HandshakeError) Error() string {
	return fmt.Sprintf("handshake with the %s: %v", e.Side, e.Err)
}
func (e *HandshakeError) Unwrap() error { return e.Err }

// Reply returns the error for the FTP client, with 522 (RFC 4217 section 10.2). It uses the words of Err
// where that has some, in a method Reason() string.
func (e *HandshakeError) Reply() (code int, text string) {
	var worded interface{ Reason() string }
	var noTLS tls.RecordHeaderError
	switch {
	case errors.As(e.Err, &worded):
		text = worded.Reason()
	case errors.As(e.Err, &noTLS):
		text = fmt.Sprintf("the %s does not speak TLS on the data connection", e.Side)
	case errors.Is(e.Err, os.ErrDeadlineExceeded):
		text = fmt.Sprintf("the %s's TLS handshake on the data connection took too long", e.Side)
	case errors.Is(e.Err, io.EOF):
		text = fmt.Sprintf("the %s closed the data connection before its TLS handshake was done", e.Side)
	default:
		text = fmt.Sprintf("the %s's TLS handshake on the data connection failed", e.Side)
	}
	return 522, text
}

// TruncatedError says that an end's data ended without close_notify, with which TLS marks the end (RFC 8446
// section 6.1): by an attacker, a fault or careless software.
type TruncatedError struct {
	Side   Side
	Inside bool // in the middle of a record: the data is certainly cut short
}

// Reply returns the error for the FTP client.
func (e *TruncatedError) Reply() (code int, text string) { return 426, e.Error() }

func (e *TruncatedError) Error() string {
	if e.Inside {
		return fmt.Sprintf("the %s's data ended inside a TLS record, it is cut short", e.Side)
	}
	return fmt.Sprintf("the %s's data ended without TLS's close_notify, it may be cut short", e.Side)
}

// Remedy returns what the operator can do.
func (e *TruncatedError) Remedy() string {
	if e.Inside {
		return fmt.Sprintf("see in the %[1]s's log why its data connection was closed, or what stands "+
			"between the gateway and the %[1]s", e.Side)
	}
	return fmt.Sprintf(`if the %[1]s is known never to send close_notify, set tls.%[1]s_close_notify = `+
		`"optional": the gateway then takes what an attacker has cut short for complete`, e.Side)
}
