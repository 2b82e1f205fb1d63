package conntrack

import "ftpgate/internal/core/netflow"

// Lengths of the headers that conntrack counts, in bytes (RFC 791, RFC 8200, RFC 9293, RFC 7323).
const (
	headerIPv4 = 20
	headerIPv6 = 40
	headerTCP  = 20

	// Options of every segment but the first one of each end: two NOPs and timestamps, or nothing.
	optionTimestamps = 12
	// Options of SYN and SYN+ACK: MSS, SACK permitted, window scale, with or without timestamps.
	synTimestamps = 20
	synPlain      = 12
)

// handshake is one way in which the two ends may have agreed on options: how many bytes of options SYN,
// SYN+ACK, and each later segment have.
type handshake struct{ syn, synAck, each uint64 }

// Payload returns how many bytes of data TCP carried in the direction of f.Original and in that of f.Reply,
// also while the flow runs: conntrack's byte counts minus the headers. GRO and GSO join segments into one
// packet with one header.
//
// The table does not say which options the ends agreed on. But with FTP one direction carries no data, and
// its byte count shows the options. exact reports that this worked: both counts are right if no segment was
// lost, and if the ends send the SYN that Linux and Windows send. exact is false
//   - if both directions carry data (TLS, a control connection), and without accounting;
//   - after a loss or a window probe that the receiver reported (SACK blocks): segments that were sent again
//     through this gateway were counted twice;
//   - for a flow without timestamps whose data goes in the direction of f.Original: its SYN has 12 bytes of
//     options, which Payload subtracts, or 20, if only the other end has timestamps switched off. Then the
//     count is 8 too high.
//
// One thing leaves no trace: a last segment with data and FIN that was lost after the gateway and sent
// again.
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
	// Both directions carry data, or there are SACK blocks. Assume timestamps, unless there are too few bytes
	// for them.
	sent, sOK := payload(f.Sent, ip+headerTCP, timestamps.syn, timestamps.each)
	received, rOK := payload(f.Received, ip+headerTCP, timestamps.synAck, timestamps.each)
	if !sOK || !rOK {
		sent, _ = payload(f.Sent, ip+headerTCP, plain.syn, plain.each)
		received, _ = payload(f.Received, ip+headerTCP, plain.synAck, plain.each)
	}
	return sent, received, false
}

// payload subtracts the headers from the count of one direction. ok is false if the headers alone are longer.
func payload(c netflow.Counter, header, first, each uint64) (bytes uint64, ok bool) {
	if c.Packets == 0 {
		return 0, true
	}
	headers := header + first + (c.Packets-1)*(header+each)
	if headers > c.Bytes {
		return 0, false
	}
	return c.Bytes - headers, true
}
