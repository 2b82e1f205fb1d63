package flows

import (
	"encoding/binary"
	"net/netip"
	"time"

	"ftpgate/internal/core/netflow"
)

// endpoints are the two ends of a connection, the dialling one first. It is small because it is the key of a
// map that is read for each segment.
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

// reversed returns the two ends in the other order.
func (e endpoints) reversed() (r endpoints) {
	copy(r[:endpointLen], e[endpointLen:])
	copy(r[endpointLen:], e[:endpointLen])
	return r
}

// byteCount computes the payload of a connection from the sequence numbers of its first and last segments
// (RFC 9293 section 3.4). Bytes that were sent twice count once.
type byteCount struct {
	sent, received stream
	begun          time.Time // when its SYN was read
	closed         bool      // both ends have sent FIN, or one has sent RST
	reset          bool      // one has sent RST
	resetByFar     bool      // that was the dialled end
	cutShort       bool      // the RST cut off data
}

// stream is one direction of a connection.
type stream struct {
	first, last         uint32 // sequence numbers of the first byte, and of the byte after the last one
	haveFirst, haveLast bool   // first and last are known
	sentFIN             bool   // the sender has closed, after last
	receiverSentFIN     bool
	ackedAtFIN          uint32 // what the receiver expected next when it sent FIN
}

// add adds a segment. fromFar: the dialled end sent it.
func (c *byteCount) add(s netflow.Segment, fromFar bool) {
	if c.reset {
		return
	}
	own, other := &c.sent, &c.received
	if fromFar {
		own, other = other, own
	}
	switch {
	case s.SYN:
		own.setFirst(s.Sequence + 1)
		if s.ACK && !other.haveFirst { // the first SYN arrived before the log was open
			other.setFirst(s.Acknowledged)
		}
	case s.RST:
		c.cutShort, c.resetByFar = cutsShort(s, own, other), fromFar
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

// cutsShort reports whether an RST cuts data short: its sender has sent data and no FIN, or had more to
// receive than it has acknowledged. own is the direction of its sender. An RST that refuses the connection
// cuts nothing.
func cutsShort(s netflow.Segment, own, other *stream) bool {
	acked, known := other.ackedAtFIN, other.receiverSentFIN
	if s.ACK {
		acked, known = other.withoutFIN(s.Acknowledged), true
	}
	switch {
	case !own.haveFirst || !other.haveFirst:
		return false
	case !own.sentFIN && (!other.sentFIN || s.Sequence != own.first):
		return true
	case other.sentFIN:
		return known && int32(other.last-acked) > 0
	}
	return known && acked != other.first
}

// isUnknown reports whether the dialling end sent a reset for a connection that it does not know (RFC 9293
// section 3.10.7.1): without ACK, in the place of its first byte.
func (c *byteCount) isUnknown(reset netflow.Segment) bool {
	return !reset.ACK && !c.closed && !c.sent.sentFIN && !c.received.sentFIN && c.sent.haveFirst &&
		reset.Sequence == c.sent.first
}

func (d *stream) setFirst(first uint32) { d.first, d.haveFirst = first, true }

func (d *stream) setLast(last uint32) { d.last, d.haveLast = last, true }

// receiverClosed handles the receiver's FIN. Its acknowledgement is the end of the data, unless the sender
// continues and closes later.
func (d *stream) receiverClosed(acknowledged uint32) {
	d.ackedAtFIN, d.receiverSentFIN = d.withoutFIN(acknowledged), true
	if !d.sentFIN {
		d.setLast(d.ackedAtFIN)
	}
}

// receiverReset handles the receiver's RST. It accepts no more data: its acknowledgement is the end.
func (d *stream) receiverReset(s netflow.Segment) {
	switch {
	case s.ACK:
		d.setLast(d.withoutFIN(s.Acknowledged))
	case d.receiverSentFIN:
		d.setLast(d.ackedAtFIN)
	}
}

// withoutFIN returns an acknowledgement without the sequence number of FIN, which counts like a byte.
func (d *stream) withoutFIN(acknowledged uint32) uint32 {
	if d.sentFIN && int32(acknowledged-d.last) > 0 {
		return d.last
	}
	return acknowledged
}

// bytes returns the number of bytes. Sequence numbers have 32 bits; approximate, the kernel's count, says how
// often they have wrapped. It returns false if the segments do not show it.
func (d *stream) bytes(approximate uint64) (uint64, bool) {
	if !d.haveFirst || !d.haveLast {
		return 0, false
	}
	n := uint64(d.last - d.first)
	if approximate > n {
		const wrap = 1 << 32
		n += (approximate - n + wrap/2) / wrap * wrap
	}
	return n, true
}

// bytes returns the payload of both directions. The arguments are the kernel's approximate counts.
func (c *byteCount) bytes(approximateSent, approximateReceived uint64) (sent, received uint64) {
	sent, received = approximateSent, approximateReceived
	if n, known := c.sent.bytes(approximateSent); known {
		sent = n
	}
	if n, known := c.received.bytes(approximateReceived); known {
		received = n
	}
	return sent, received
}
