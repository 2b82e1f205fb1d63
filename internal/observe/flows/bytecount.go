package flows

import (
	"encoding/binary"
	"net/netip"
	"time"

	"ftpgate/internal/core/netflow"
)

// endpoints are both ends of a connection as they know themselves, the one that began first: short, as a map is asked for
// them with every segment.
type endpoints [2 * endpointLen]byte

const endpointLen = 16 + 2

func endpointsOf(from, to netip.AddrPort) (e endpoints) {
	e.put(0, from)
	e.put(endpointLen, to)
	return e
}

func (e *endpoints) put(i int, end netip.AddrPort) {
	addr := end.Addr().As16()
	copy(e[i:], addr[:])
	binary.BigEndian.PutUint16(e[i+len(addr):], end.Port())
}

// reversed are the ends as the one that was dialled has them.
func (e endpoints) reversed() (t endpoints) {
	copy(t[:endpointLen], e[endpointLen:])
	copy(t[endpointLen:], e[:endpointLen])
	return t
}

// byteCount is what the first and the last segments of a connection say of the bytes that it has carried (RFC 9293
// section 3.4): those that were sent twice count once.
type byteCount struct {
	sent, received stream
	begun          time.Time // when its SYN was read
	closed         bool      // both ends have closed, or one has reset it
	reset          bool
}

// stream is one direction.
type stream struct {
	first, last         uint32 // sequence numbers of the first byte, and of the one behind the last
	haveFirst, haveLast bool   // first and last are known
	sentFIN             bool   // its sender has sent FIN, behind last
	ackedAtFIN          uint32 // what its receiver wanted next when it closed
	receiverSentFIN     bool   // its receiver has closed
}

// add reads a segment. back: of the end that was dialled.
func (c *byteCount) add(s netflow.Segment, back bool) {
	if c.reset {
		return
	}
	own, other := &c.sent, &c.received
	if back {
		own, other = other, own
	}
	switch {
	case s.SYN:
		own.setFirst(s.Sequence + 1)
		if s.ACK && !other.haveFirst { // the first SYN was before our time
			other.setFirst(s.Acknowledged)
		}
	case s.RST:
		other.receiverReset(s)
		if !own.haveLast {
			own.setLast(s.Sequence)
		}
		c.closed, c.reset = true, true
	case s.FIN:
		own.setLast(s.Sequence + s.Length)
		own.sentFIN = true
		if s.ACK {
			other.receiverClosed(s.Acknowledged)
		}
		c.closed = c.closed || own.sentFIN && other.sentFIN
	}
}

func (d *stream) setFirst(first uint32) { d.first, d.haveFirst = first, true }

func (d *stream) setLast(last uint32) { d.last, d.haveLast = last, true }

// receiverClosed tells what the receiver had when it closed: that is all, unless the sender goes on and says more.
func (d *stream) receiverClosed(acked uint32) {
	if d.ackedAtFIN, d.receiverSentFIN = d.withoutFIN(acked), true; !d.sentFIN {
		d.setLast(d.ackedAtFIN)
	}
}

// receiverReset tells that the receiver takes nothing more: what it had then is all.
func (d *stream) receiverReset(s netflow.Segment) {
	switch {
	case s.ACK:
		d.setLast(d.withoutFIN(s.Acknowledged))
	case d.receiverSentFIN:
		d.setLast(d.ackedAtFIN)
	}
}

// withoutFIN takes the place of FIN off, which is acknowledged as if it were a byte.
func (d *stream) withoutFIN(acked uint32) uint32 {
	if d.sentFIN && int32(acked-d.last) > 0 {
		return d.last
	}
	return acked
}

// bytes returns how many bytes there were. Sequence numbers are 32 bits wide: about tells how often they have begun
// anew.
func (d *stream) bytes(about uint64) (uint64, bool) {
	if !d.haveFirst || !d.haveLast {
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
func (c *byteCount) bytes(aboutSent, aboutReceived uint64) (sent, received uint64) {
	sent, received = aboutSent, aboutReceived
	if n, known := c.sent.bytes(aboutSent); known {
		sent = n
	}
	if n, known := c.received.bytes(aboutReceived); known {
		received = n
	}
	return sent, received
}
