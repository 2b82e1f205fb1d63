package conn

import (
	"crypto/tls"
	"io"
	"net"
	"time"
)

// HandshakeTime is how long a peer may take for a TLS handshake: a few round trips and some arithmetic.
const HandshakeTime = 30 * time.Second

// Wire is one end's control connection: TCP, with TLS on it or not. Deadlines are TCP's own.
type Wire struct {
	*net.TCPConn
	Secure *tls.Conn // nil: in clear
	plain  []byte    // what has come in clear and is to be read first
}

// Read reads what the end has to say, out of TLS where there is one.
func (w *Wire) Read(b []byte) (int, error) {
	if w.Secure != nil {
		return w.Secure.Read(b)
	}
	if len(w.plain) > 0 {
		n := copy(b, w.plain)
		if w.plain = w.plain[n:]; len(w.plain) == 0 {
			w.plain = nil
		}
		return n, nil
	}
	return w.TCPConn.Read(b)
}

// Write sends to the end, in TLS where there is one.
func (w *Wire) Write(b []byte) (int, error) {
	if w.Secure != nil {
		return w.Secure.Write(b)
	}
	return w.TCPConn.Write(b)
}

// CloseWrite ends our direction: TLS first, and then TCP (RFC 4217 section 12).
func (w *Wire) CloseWrite() error {
	if w.Secure != nil {
		_ = w.Secure.CloseWrite() // a peer that has gone does not miss it
	}
	return w.TCPConn.CloseWrite()
}

// Close ends the connection, TLS first. It does not wait for a peer that does not read.
func (w *Wire) Close() error {
	if w.Secure != nil {
		_ = w.SetWriteDeadline(time.Now().Add(LingerTime))
		_ = w.Secure.CloseWrite()
	}
	return w.TCPConn.Close()
}

// Accept has the client begin with TLS; first is what has been read of it already. The caller sees to
// its time.
func (w *Wire) Accept(config *tls.Config, first []byte) error {
	secure := tls.Server(&records{TCPConn: w.TCPConn, first: first}, config)
	if err := secure.Handshake(); err != nil {
		return err
	}
	w.Secure = secure
	return nil
}

// Request begins TLS with a server. The caller sees to its time.
func (w *Wire) Request(config *tls.Config) error {
	secure := tls.Client(w.TCPConn, config)
	if err := secure.Handshake(); err != nil {
		return err
	}
	w.Secure = secure
	return nil
}

// Decrypt ends TLS and keeps TCP: both ends say close_notify, and then the client goes on in clear. What
// it has sent in TLS until then is not looked at. There are clients that go on without a word.
func (w *Wire) Decrypt() error {
	stream := w.Secure.NetConn().(*records)
	stream.ending = true
	if err := w.Secure.CloseWrite(); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(w.Secure, lingerBytes)); err != nil {
		return err
	}
	w.Secure, w.plain = nil, stream.first
	return nil
}

// records is a TCP connection that is never read beyond the TLS record under way, so that what follows
// the last one can be read in clear (RFC 8446 section 5.1).
type records struct {
	*net.TCPConn
	first  []byte // read before and not handed out yet
	ending bool   // the next record may be none
	head   [headerLength]byte
	heads  int // bytes of head that are there
	given  int // bytes of head that are handed out
	left   int // bytes of the record behind its head
}

// headerLength is that of a record: its type, version and length.
const headerLength = 5

// The types of records, from change_cipher_spec to heartbeat.
const (
	firstType = 20
	lastType  = 24
)

// Read reads of one record, or its header.
func (r *records) Read(b []byte) (int, error) {
	if r.given == headerLength && r.left == 0 { // at the end of a record
		r.heads, r.given = 0, 0
	}
	for r.heads < headerLength {
		n, err := r.read(r.head[r.heads:])
		if r.heads += n; err != nil {
			return 0, err
		}
		if r.ending && (r.head[0] < firstType || r.head[0] > lastType) {
			r.first = append(append([]byte(nil), r.head[:r.heads]...), r.first...)
			r.heads = 0
			return 0, io.EOF
		}
		if r.heads == headerLength {
			r.left = int(r.head[3])<<8 | int(r.head[4])
		}
	}
	if r.given < headerLength {
		n := copy(b, r.head[r.given:])
		r.given += n
		return n, nil
	}
	n, err := r.read(b[:min(len(b), r.left)])
	r.left -= n
	return n, err
}

// read reads what has been read before, and then the connection.
func (r *records) read(b []byte) (int, error) {
	if len(r.first) > 0 {
		n := copy(b, r.first)
		r.first = r.first[n:]
		return n, nil
	}
	return r.TCPConn.Read(b)
}

// lingerTime is how long a peer may take to read our last line before the connection is cut, and
// lingerBytes how much it may send meanwhile.
const (
	LingerTime  = time.Second
	lingerBytes = 1 << 20
)

// HangUp closes a connection so that its peer can still read our last line: one that is closed with
// bytes unread is reset, and what was sent is lost with it.
func HangUp(c *Wire) {
	defer c.Close()
	if c.CloseWrite() != nil {
		return
	}
	_ = c.SetReadDeadline(time.Now().Add(LingerTime))
	var some [512]byte // of which thousands may be in use, when all sessions end at once
	for left := lingerBytes; left > 0; {
		n, err := c.TCPConn.Read(some[:])
		if err != nil {
			return
		}
		left -= n
	}
}
