// Package tlsrecord reads the headers of TLS records (RFC 8446 section 5.1, RFC 5246 section 6.2.1) that two
// others exchange, to see from outside when their handshake has ended.
//
// It is pure, and reads nothing of what is in the records.
package tlsrecord

import "encoding/binary"

// The content types of records.
const (
	changeCipherSpec = 20
	alert            = 21
	handshake        = 22
	applicationData  = 23
	heartbeat        = 24 // RFC 6520
)

const headerLen = 5

// longestAlert is the length of an encrypted alert of TLS 1.3 without padding, which looks like application
// data: two bytes, the content type, and the authentication tag. The shortest reply of FTP is longer.
const longestAlert = 2 + 1 + 16

// Handshake follows the records of a client and a server. The zero value is before the first one. Its input
// must be complete: each byte of either side, in the order in which the other side gets them.
//
// The server answers application data only if the client has ended its handshake. In TLS 1.3 the end of the
// handshake looks like application data. So a handshake ends with the third of these:
//
//	the server sends ChangeCipherSpec or application data: it encrypts
//	the client sends application data
//	the server sends application data that is longer than an alert
type Handshake struct {
	client, server stream
	encrypts       bool // the server does
	clientData     bool // the client has sent application data since
	ended          bool
}

// Client reads what the client sends next.
func (h *Handshake) Client(b []byte) {
	if h.ended {
		return
	}
	h.client.each(b, func(typ byte, _ int) {
		h.clientData = h.clientData || h.encrypts && typ == applicationData
	})
}

// Server reads what the server sends next, and reports whether the handshake has ended.
func (h *Handshake) Server(b []byte) (ended bool) {
	if h.ended {
		return true
	}
	h.server.each(b, func(typ byte, length int) {
		h.ended = h.ended || h.clientData && typ == applicationData && length > longestAlert
		h.encrypts = h.encrypts || typ == changeCipherSpec || typ == applicationData
	})
	return h.ended
}

// stream is the records of one side.
type stream struct {
	header [headerLen]byte
	have   int  // bytes of the header
	left   int  // bytes of the record after it
	broken bool // it is not TLS, or not any more (CCC)
}

// each calls record with the content type and the length of each record whose header ends in b.
func (s *stream) each(b []byte, record func(typ byte, length int)) {
	for len(b) > 0 && !s.broken {
		if s.left > 0 {
			n := min(s.left, len(b))
			s.left, b = s.left-n, b[n:]
			continue
		}
		n := copy(s.header[s.have:], b)
		if s.have, b = s.have+n, b[n:]; s.have < headerLen {
			return
		}
		typ, length := s.header[0], int(binary.BigEndian.Uint16(s.header[3:]))
		const major = 3 // of all versions since SSL 3.0
		if s.broken = typ < changeCipherSpec || typ > heartbeat || s.header[1] != major; s.broken {
			return
		}
		s.have, s.left = 0, length
		record(typ, length)
	}
}
