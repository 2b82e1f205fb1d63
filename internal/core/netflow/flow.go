package netflow

import (
	"net/netip"
	"time"
)

// Tuple is one direction of a TCP connection, as conntrack has it: who sends, and whereto.
type Tuple struct {
	From, To netip.AddrPort
}

// IsZero tells whether there is no tuple.
func (t Tuple) IsZero() bool { return t == Tuple{} }

// Counter is what conntrack's accounting says of one direction: whole packets, with the headers of IP and TCP.
type Counter struct {
	Packets, Bytes uint64
}

// TCPState is conntrack's state of a TCP connection (enum tcp_conntrack in
// include/uapi/linux/netfilter/nf_conntrack_tcp.h).
type TCPState uint8

// The states, with the kernel's numbers.
const (
	TCPNone TCPState = iota
	TCPSynSent
	TCPSynReceived
	TCPEstablished
	TCPFinWait
	TCPCloseWait
	TCPLastAck
	TCPTimeWait
	TCPClose // a reset, of either end
	TCPSynSent2
)

// Over tells whether no more data comes: both ends have closed, or one has reset the connection.
func (s TCPState) Over() bool { return s == TCPTimeWait || s == TCPClose }

// Flow is a TCP connection that the kernel tracks.
type Flow struct {
	ID       uint32 // conntrack's own (CTA_ID); one that is gone may come again much later
	Original Tuple  // as the end that began sent its first packet
	Reply    Tuple  // what comes back: where the two differ, addresses are translated
	Master   Tuple  // the original tuple of the control connection that announced this one; zero: none
	State    TCPState
	Replied  bool    // the other end has answered
	Helper   string  // the helper that reads the connection ("ftp"); empty: none, or not told
	Sent     Counter // in the direction of Original; zero without accounting
	Received Counter // in that of Reply
}

// FlowChange is what has become of a flow.
type FlowChange uint8

// The changes.
const (
	FlowNew FlowChange = iota
	FlowUpdated
	FlowGone
	FlowsMissed // events were lost: what is known of flows may be wrong, until they are read anew
)

// FlowEvent is a change of a flow. Flow is empty for FlowsMissed; counters come with FlowGone only, and the
// helper and the master not with FlowUpdated.
type FlowEvent struct {
	Change FlowChange
	Flow   Flow
	At     time.Time // when it was read
}

// Segment is one with which a TCP connection begins or ends (RFC 9293 section 3.1), as the gateway forwards it:
// both addresses are those that the two ends have themselves. Or it is the first one of a connection to the gateway itself.
type Segment struct {
	From, To           netip.AddrPort
	SYN, ACK, FIN, RST bool
	Sequence           uint32    // of its first byte; of SYN itself
	Acknowledged       uint32    // what the sender wants next, with ACK
	Length             uint32    // bytes of data
	At                 time.Time // when it was read
}
