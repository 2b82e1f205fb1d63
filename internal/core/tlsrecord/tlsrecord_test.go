package tlsrecord

import (
	"encoding/binary"
	"testing"
)

// said is a record of the client or of the server.
type said struct {
	server bool
	typ    byte
	length int
}

func (s said) bytes() []byte {
	b := []byte{s.typ, 3, 3}
	b = binary.BigEndian.AppendUint16(b, uint16(s.length))
	return append(b, make([]byte, s.length)...)
}

func client(typ byte, length int) said { return said{false, typ, length} }
func server(typ byte, length int) said { return said{true, typ, length} }

// What ends a handshake is the last record, and nothing before it; in one piece and byte by byte.
func TestHandshake(t *testing.T) {
	for name, tt := range map[string]struct {
		records []said
		ends    bool
	}{
		"TLS 1.2": {[]said{client(handshake, 200), server(handshake, 3000), client(handshake, 70),
			client(changeCipherSpec, 1), client(handshake, 40), server(handshake, 170),
			server(changeCipherSpec, 1), server(handshake, 40), client(applicationData, 30),
			server(applicationData, 40)}, true},
		"TLS 1.2, resumed": {[]said{client(handshake, 200), server(handshake, 90),
			server(changeCipherSpec, 1), server(handshake, 40), client(changeCipherSpec, 1),
			client(handshake, 40), client(applicationData, 30), server(applicationData, 30)}, true},
		"TLS 1.3": {[]said{client(handshake, 200), server(handshake, 90), server(changeCipherSpec, 1),
			server(applicationData, 40), server(applicationData, 900), client(changeCipherSpec, 1),
			client(applicationData, 53), server(applicationData, 240)}, true},
		"the client does not go on": {[]said{client(handshake, 200), server(handshake, 90),
			server(applicationData, 900), server(applicationData, 900)}, false},
		"data without a handshake": {[]said{client(applicationData, 200), server(alert, 2)}, false},
		"data before the handshake": {[]said{client(applicationData, 200), server(handshake, 90),
			server(applicationData, 900)}, false},
		"the server refuses in TLS 1.3": {[]said{client(handshake, 200), server(handshake, 90),
			server(applicationData, 900), client(applicationData, 53),
			server(applicationData, longestAlert)}, false},
		"the server refuses in TLS 1.2": {[]said{client(handshake, 200), server(handshake, 3000),
			client(changeCipherSpec, 1), client(handshake, 40), client(applicationData, 40), server(alert,
				26)},
			false},
	} {
		for _, piece := range []int{1, 7, 1 << 20} {
			var h Handshake
			for i, r := range tt.records {
				ended := false
				for b := r.bytes(); len(b) > 0; {
					n := min(piece, len(b))
					if r.server {
						ended = h.Server(b[:n])
					} else {
						h.Client(b[:n])
					}
					b = b[n:]
				}
				if want := tt.ends && i == len(tt.records)-1; ended != want {
					t.Errorf("%s, record %d, pieces of %d: got ended %t; want %t", name, i, piece, ended,
						want)
				}
			}
		}
	}
}

// What is not TLS ends no handshake.
func TestNotTLS(t *testing.T) {
	for _, line := range []string{"ADAT AAAA\r\n", "\x80\x2e\x01\x03\x01", "\x17\x02\x00\x00\x01",
		"SSH-2.0-x\r\n"} {
		var h Handshake
		h.Server(server(changeCipherSpec, 1).bytes())
		h.Client([]byte(line))
		h.Client(client(applicationData, 100).bytes())
		if h.Server(server(applicationData, 100).bytes()) {
			t.Errorf("%q: got it ended; want nothing", line)
		}
	}
}
