// Package netflow describes TCP connections as the kernel's conntrack and log report them. It has types only;
// package conntrack reads them from the kernel.
package netflow

import (
	"net/netip"
	"time"
)

// Tuple is one direction of a TCP connection: the sender and the receiver.
type Tuple struct {
	From, To netip.AddrPort
}

// IsZero reports whether there is no tuple.
func (t Tuple) IsZero() bool { return t == Tuple{} }

// Counter is conntrack's accounting of one direction. Bytes includes the headers of IP and TCP.
type Counter struct {
	Packets, Bytes uint64
}

// TCPState is conntrack's state of a TCP connection (enum tcp_conntrack in
// include/uapi/linux/netfilter/nf_conntrack_tcp.h).
type TCPState uint8

// The states of a connection. The numbers are the kernel's.
const (
	TCPNone TCPState = iota
	TCPSynSent
	TCPSynReceived
	TCPEstablished
	TCPFinWait
	TCPCloseWait
	TCPLastAck
	TCPTimeWait
	TCPClose // either end has sent a reset
	TCPSynSent2
)

// Completed reports whether the handshake is complete, and neither end has reset the connection since.
func (s TCPState) Completed() bool { return s >= TCPEstablished && s <= TCPTimeWait }

// Over reports whether no more data can follow: both ends have closed the connection, or one has reset it.
func (s TCPState) Over() bool { return s == TCPTimeWait || s == TCPClose }

// Flow is a TCP connection that the kernel tracks.
type Flow struct {
	ID       uint32 // conntrack's (CTA_ID); much later another flow may have it
	Original Tuple  // of the first packet, as the client sent it
	Reply    Tuple  // of the answers; it differs from the reverse of Original if addresses are translated
	Master   Tuple  // the original tuple of the control connection that announced this one; zero: none
	State    TCPState
	Replied  bool    // the server has answered
	Closed   bool    // the server (the end that accepted) has sent the first FIN
	Sent     Counter // in the direction of Original; zero without accounting
	Received Counter // in the direction of Reply
}

// Want reports whether the caller is interested in a flow, by its original tuple and its master's, which is
// zero if there is no master or the kernel does not report one.
type Want = func(original, master Tuple) bool

// FlowChange says how a flow has changed.
type FlowChange uint8

// The changes.
const (
	FlowNew FlowChange = iota
	FlowUpdated
	FlowGone
	FlowsMissed // events were lost: the state of all flows may be wrong until a new dump
)

// FlowEvent is a change of a flow. Flow is zero for FlowsMissed. It has counters for FlowGone only, and no
// master for FlowUpdated.
type FlowEvent struct {
	Change FlowChange
	Flow   Flow
	At     time.Time // when it was read
}

// Segment is a segment that begins or ends a TCP connection (RFC 9293 section 3.1). A forwarded segment has
// the addresses of both ends themselves. The first segment of a connection to the gateway has the gateway's
// address.
type Segment struct {
	From, To           netip.AddrPort
	SYN, ACK, FIN, RST bool
	Sequence           uint32    // of its first byte; of SYN itself
	Acknowledged       uint32    // the next byte that the sender expects, with ACK
	Length             uint32    // bytes of data
	At                 time.Time // when it was read
}
