package flows

import (
	"encoding/binary"
	"net/netip"
	"time"

	"ftpgate/internal/core/netflow"
)

// ends are both ends of a connection as they know themselves, the one that began first: short, as a map is asked for
// them with every segment.
type ends [2 * endLen]byte

const endLen = 16 + 2

func endsOf(from, to netip.AddrPort) (e ends) {
	e.put(0, from)
	e.put(endLen, to)
	return e
}

func (e *ends) put(i int, end netip.AddrPort) {
	addr := end.Addr().As16()
	copy(e[i:], addr[:])
	binary.BigEndian.PutUint16(e[i+len(addr):], end.Port())
}

// turned are the ends as the one that was dialled has them.
func (e ends) turned() (t ends) {
	copy(t[:endLen], e[endLen:])
	copy(t[endLen:], e[:endLen])
	return t
}

// count is what the first and the last segments of a connection say of the bytes that it has carried (RFC 9293
// section 3.4): those that were sent twice count once.
type count struct {
	sent, received stream
	begun          time.Time // when its SYN was read
	over           bool      // both ends have closed, or one has reset it
	reset          bool
}

// stream is one direction.
type stream struct {
	first, last uint32 // sequence numbers of the first byte, and of the one behind the last
	began, told bool   // first and last are known
	closed      bool   // its sender has sent FIN, behind last
	acked       uint32 // what its receiver wanted next when it closed
	left        bool   // its receiver has closed
}

// take reads a segment. back: of the end that was dialled.
func (c *count) take(s netflow.Segment, back bool) {
	if c.reset {
		return
	}
	own, other := &c.sent, &c.received
	if back {
		own, other = other, own
	}
	switch {
	case s.SYN:
		own.begin(s.Sequence + 1)
		if s.ACK && !other.began { // the first SYN was before our time
			other.begin(s.Acknowledged)
		}
	case s.RST:
		other.cut(s)
		if !own.told {
			own.end(s.Sequence)
		}
		c.over, c.reset = true, true
	case s.FIN:
		own.end(s.Sequence + s.Length)
		own.closed = true
		if s.ACK {
			other.leave(s.Acknowledged)
		}
		c.over = c.over || own.closed && other.closed
	}
}

func (d *stream) begin(first uint32) { d.first, d.began = first, true }

func (d *stream) end(last uint32) { d.last, d.told = last, true }

// leave tells what the receiver had when it closed: that is all, unless the sender goes on and says more.
func (d *stream) leave(acked uint32) {
	if d.acked, d.left = d.capped(acked), true; !d.closed {
		d.end(d.acked)
	}
}

// cut tells that the receiver takes nothing more: what it had then is all.
func (d *stream) cut(s netflow.Segment) {
	switch {
	case s.ACK:
		d.end(d.capped(s.Acknowledged))
	case d.left:
		d.end(d.acked)
	}
}

// capped takes the place of FIN off, which is acknowledged as if it were a byte.
func (d *stream) capped(acked uint32) uint32 {
	if d.closed && int32(acked-d.last) > 0 {
		return d.last
	}
	return acked
}

// bytes returns how many bytes there were. Sequence numbers are 32 bits wide: about tells how often they have begun
// anew.
func (d *stream) bytes(about uint64) (uint64, bool) {
	if !d.began || !d.told {
		return 0, false
	}
	n := uint64(d.last - d.first)
	if about > n {
		const round = 1 << 32
		n += (about - n + round/2) / round * round
	}
	return n, true
}

// bytes returns what went in either direction. about is what is known otherwise.
func (c *count) bytes(aboutSent, aboutReceived uint64) (sent, received uint64) {
	sent, received = aboutSent, aboutReceived
	if n, known := c.sent.bytes(aboutSent); known {
		sent = n
	}
	if n, known := c.received.bytes(aboutReceived); known {
		received = n
	}
	return sent, received
}
