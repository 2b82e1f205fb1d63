package conntrack

import (
	"ftpgate/internal/core/netflow"
)

// The headers that conntrack counts, in bytes (RFC 791, RFC 8200, RFC 9293, RFC 7323).
const (
	headerIPv4 = 20
	headerIPv6 = 40
	headerTCP  = 20

	// Options on every segment but the first of each end: two NOPs and timestamps, or nothing.
	optionTimestamps = 12
	// Options of SYN and SYN+ACK, with timestamps: MSS, SACK permitted, window scale; and without.
	synTimestamps = 20
	synPlain      = 12
)

// handshake is what two ends may have agreed on: the options of SYN, of SYN+ACK, and of each segment after.
type handshake struct{ syn, synAck, each uint64 }

// Payload tells how many bytes TCP carried in the direction of f.Original and in that of f.Reply, also while
// the flow runs: conntrack's counts less the headers. GRO and GSO join segments to one packet with one header.
//
// What the ends agreed on is not in the table, but with FTP one direction carries no data, and its bytes say
// it. exact means that they do: both counts are right for ends that make a SYN as Linux and Windows do, if no
// segment was lost. exact is false
//   - where both directions carry data (TLS, a control connection), and without accounting;
//   - after a loss or a window probe of which the receiver told (SACK blocks): what was sent again through this
//     gateway was counted twice;
//   - for a flow without timestamps whose data goes in the direction of f.Original: its SYN has 12 bytes of
//     options, which is what is taken off, or had 20, because only the other end has timestamps switched off.
//     Then the count is 8 too high.
//
// What is sent again behind the gateway without a trace is not seen: a last segment with data and FIN in it.
func Payload(f netflow.Flow) (sent, received uint64, exact bool) {
	if f.Sent.Packets == 0 {
		return 0, 0, false
	}
	ip := uint64(headerIPv4)
	if f.Original.From.Addr().Is6() {
		ip = headerIPv6
	}
	timestamps := handshake{synTimestamps, synTimestamps, optionTimestamps}
	plain := handshake{synPlain, synPlain, 0}
	fits := 0
	for _, h := range [...]handshake{timestamps, plain, {synTimestamps, synPlain, 0}} {
		s, sOK := payload(f.Sent, ip+headerTCP, h.syn, h.each)
		r, rOK := payload(f.Received, ip+headerTCP, h.synAck, h.each)
		if !sOK || !rOK || s != 0 && r != 0 {
			continue
		}
		if fits++; fits == 1 {
			sent, received, exact = s, r, true
		}
		exact = exact && s == sent && r == received
	}
	if fits > 0 {
		return sent, received, exact
	}
	// Both carry data, or SACK blocks: with timestamps, unless there are too few bytes for that.
	sent, sOK := payload(f.Sent, ip+headerTCP, timestamps.syn, timestamps.each)
	received, rOK := payload(f.Received, ip+headerTCP, timestamps.synAck, timestamps.each)
	if !sOK || !rOK {
		sent, _ = payload(f.Sent, ip+headerTCP, plain.syn, plain.each)
		received, _ = payload(f.Received, ip+headerTCP, plain.synAck, plain.each)
	}
	return sent, received, false
}

// payload takes the headers off one direction's count. It is false where there are more headers than bytes.
func payload(c netflow.Counter, header, first, each uint64) (uint64, bool) {
	if c.Packets == 0 {
		return 0, true
	}
	headers := header + first + (c.Packets-1)*(header+each)
	if headers > c.Bytes {
		return 0, false
	}
	return c.Bytes - headers, true
}
