// Package leg is one leg of a data connection that this process copies: in clear, or with TLS that the
// gateway speaks. A leg waits for data without a buffer, so that an idle connection costs two goroutines
// and no more.
//
// It does not know the other leg, and does not decide how data may end.
//
// Locks: that of a TLS leg orders what is written to one peer, and is held while that peer is slow: only the
// data of the same connection waits for it.
package leg

import (
	"crypto/tls"
	"errors"
	"io"
	"os"
	"time"

	"ftpgate/internal/dataplane/socket"
)

// Leg is one end of a data connection. One goroutine waits and reads; another may write at the same time.
//
//	clear --Handshake--> TLS, or broken if that fails
type Leg struct {
	tcp      *socket.Conn
	readable *Readable     // in clear, after the first Wait
	buffered *bufferedConn // below tls
	tls      *tls.Conn     // nil: in clear
}

// New returns a leg in clear over a connection, which the caller closes.
func New(tcp *socket.Conn) *Leg { return &Leg{tcp: tcp} }

// TCP returns the connection.
func (l *Leg) TCP() *socket.Conn { return l.tcp }

// Handshake starts TLS on the leg, as the server if asServer is set. The peer may take limit from its
// first byte on; the caller sets the deadline for that byte.
func (l *Leg) Handshake(config *tls.Config, asServer bool, limit time.Duration) error {
	buffered, err := newBufferedConn(l.tcp, limit)
	if err != nil {
		return err
	}
	l.buffered = buffered
	if asServer {
		l.tls = tls.Server(buffered, config)
	} else {
		l.tls = tls.Client(buffered, config)
	}
	err = l.tls.Handshake()
	buffered.handshaking = false
	return err
}

// PeerBegan reports whether the peer has sent anything since Handshake was called.
func (l *Leg) PeerBegan() bool { return l.buffered != nil && l.buffered.heard }

// SentAlert reports whether crypto/tls sent the peer an alert when the handshake failed with err. It sends
// none if the connection itself failed, or the peer never sent TLS.
func (l *Leg) SentAlert(err error) bool {
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	return l.PeerBegan() && l.buffered.err == nil && !noTLS
}

// ConnectionState returns the result of the handshake; the zero value in clear.
func (l *Leg) ConnectionState() tls.ConnectionState {
	if l.tls == nil {
		return tls.ConnectionState{}
	}
	return l.tls.ConnectionState()
}

// UsesTLS reports whether Handshake was called.
func (l *Leg) UsesTLS() bool { return l.tls != nil }

// SawCloseNotify reports, after Read has returned io.EOF, whether the peer sent close_notify. (A tls.Conn
// also returns io.EOF if the connection ends between two records.)
func (l *Leg) SawCloseNotify() bool { return l.tls != nil && !l.buffered.ended }

// Wait waits until the peer has sent something or has ended, without a buffer.
func (l *Leg) Wait() error {
	if l.tls != nil {
		l.buffered.wait()
		return nil
	}
	if l.readable == nil {
		r, err := NewReadable(l.tcp)
		if err != nil {
			return err
		}
		l.readable = r
	}
	n, err := l.readable.Available()
	if err == nil && n == 0 {
		err = io.EOF
	}
	return err
}

// Read reads what has arrived. After Wait it never waits, and n may be 0. Both n and the error count.
func (l *Leg) Read(buf []byte) (n int, err error) {
	if l.tls == nil {
		return l.tcp.Read(buf)
	}
	for n < len(buf) && err == nil {
		var some int
		some, err = l.tls.Read(buf[n:])
		n += some
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && l.buffered.dry {
		err = nil
	}
	return n, err
}

// Write sends all of data.
func (l *Leg) Write(data []byte) error {
	if l.tls == nil {
		_, err := l.tcp.Write(data)
		return err
	}
	l.buffered.cork()
	if _, err := l.tls.Write(data); err != nil {
		return err
	}
	return l.buffered.flush()
}

// CloseWrite ends our direction: TLS first, and then TCP.
func (l *Leg) CloseWrite() error {
	if l.tls != nil {
		if err := l.tls.CloseWrite(); err != nil {
			return err
		}
	}
	return l.tcp.CloseWrite()
}
