package conn

import (
	"io"
	"net"
)

// recordReader is a TCP connection that is never read beyond the TLS record under way, so that what follows
// the last record can be read in clear (RFC 8446 section 5.1).
type recordReader struct {
	*net.TCPConn
	first  []byte // was read before, and is not handed out yet
	ending bool   // the next bytes may be no record
	header [headerLength]byte
	read   int // bytes of header that were read
	given  int // bytes of header that were handed out
	left   int // bytes of the record's body still to be read
}

// headerLength is that of a record's type, version and length.
const headerLength = 5

// The types of records, from change_cipher_spec to heartbeat.
const (
	firstType = 20
	lastType  = 24
)

// Read reads from one record, or from its header.
func (r *recordReader) Read(b []byte) (int, error) {
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
func (r *recordReader) readStream(b []byte) (int, error) {
	if len(r.first) > 0 {
		n := copy(b, r.first)
		r.first = r.first[n:]
		return n, nil
	}
	return r.TCPConn.Read(b)
}
