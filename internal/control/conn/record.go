package conn

import (
	"crypto/tls"
	"io"
	"net"
)

// recordStream is a TCP connection that is never read beyond the TLS record under way, so that what follows
// the last record can be read in clear (RFC 8446 section 5.1).
type recordStream struct {
	*net.TCPConn
	readTCP func(b []byte) (int, error) // from TCPConn
	first   []byte                      // was read before, and is not returned yet
	ending  bool                        // the next bytes may be no record
	header  [headerLength]byte
	read    int // bytes of header that were read
	given   int // bytes of header that were returned
	left    int // bytes of the record's body still to be read

	ticketComes bool   // the next write ends with a session ticket
	heldBack    []byte // the record with the ticket, to be sent with the next write; nil: none
}

// headerLength is that of a record's type, version and length.
const headerLength = 5

// The types of records, from change_cipher_spec to heartbeat.
const (
	firstType = 20
	lastType  = 24
)

// Read reads from one record, or from its header.
func (r *recordStream) Read(b []byte) (int, error) {
	if r.given == headerLength && r.left == 0 { // at the end of a record
		r.read, r.given = 0, 0
	}
	for r.read < headerLength {
		n, err := r.readStream(r.header[r.read:])
		if r.read += n; err != nil {
			return 0, err
		}
		if r.ending && (r.header[0] < firstType || r.header[0] > lastType) {
			r.first = append(append([]byte(nil), r.header[:r.read]...), r.first...)
			r.read = 0
			return 0, io.EOF
		}
		if r.read == headerLength {
			r.left = int(r.header[3])<<8 | int(r.header[4])
		}
	}
	if r.given < headerLength {
		n := copy(b, r.header[r.given:])
		r.given += n
		return n, nil
	}
	n, err := r.readStream(b[:min(len(b), r.left)])
	r.left -= n
	return n, err
}

// readStream reads what was read before, and then from the connection.
func (r *recordStream) readStream(b []byte) (int, error) {
	if len(r.first) > 0 {
		n := copy(b, r.first)
		r.first = r.first[n:]
		return n, nil
	}
	return r.readTCP(b)
}

// holdingTicket returns a configuration that sends the session ticket of TLS 1.3 with the first line for the
// client instead of with the handshake: a client that does one thing at a time (curl) reads it then. If it
// had the ticket sooner, it might resume the session on a data connection of another control connection, and
// wait for that transfer before it logs in here.
func (r *recordStream) holdingTicket(config *tls.Config) *tls.Config {
	wrap := config.WrapSession
	if wrap == nil {
		return config
	}
	config = config.Clone()
	config.WrapSession = func(c tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		r.ticketComes = c.Version >= tls.VersionTLS13 // before that a ticket is part of the handshake
		return wrap(c, session)
	}
	return config
}

// Write sends records. crypto/tls writes whole ones.
func (r *recordStream) Write(b []byte) (int, error) {
	if !r.ticketComes && len(r.heldBack) == 0 { // most often
		return r.TCPConn.Write(b)
	}
	keep := 0
	if r.ticketComes {
		r.ticketComes = false
		keep = lastRecord(b)
	}
	out := append(r.heldBack, b[:len(b)-keep]...)
	r.heldBack = append([]byte(nil), b[len(b)-keep:]...)
	if _, err := r.TCPConn.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// lastRecord returns the length of the last of several records.
func lastRecord(b []byte) int {
	for {
		length := headerLength + int(b[3])<<8 + int(b[4])
		if length >= len(b) {
			return len(b)
		}
		b = b[length:]
	}
}
