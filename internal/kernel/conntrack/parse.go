package conntrack

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/kernel/netlink"
)

// Attributes (include/uapi/linux/netfilter/nfnetlink_conntrack.h), each group one level.
const (
	ctaTupleOrig     = 1  // CTA_TUPLE_ORIG
	ctaTupleReply    = 2  // CTA_TUPLE_REPLY
	ctaStatus        = 3  // CTA_STATUS: IPS_ bits
	ctaProtoinfo     = 4  // CTA_PROTOINFO
	ctaCountersOrig  = 9  // CTA_COUNTERS_ORIG
	ctaCountersReply = 10 // CTA_COUNTERS_REPLY
	ctaID            = 12 // CTA_ID
	ctaTupleMaster   = 14 // CTA_TUPLE_MASTER
	ctaFilter        = 25 // CTA_FILTER

	ctaTupleIP    = 1 // CTA_TUPLE_IP
	ctaTupleProto = 2 // CTA_TUPLE_PROTO

	ctaIPv4Src = 1 // CTA_IP_V4_SRC
	ctaIPv4Dst = 2 // CTA_IP_V4_DST
	ctaIPv6Src = 3 // CTA_IP_V6_SRC
	ctaIPv6Dst = 4 // CTA_IP_V6_DST

	ctaProtoNum     = 1 // CTA_PROTO_NUM
	ctaProtoSrcPort = 2 // CTA_PROTO_SRC_PORT
	ctaProtoDstPort = 3 // CTA_PROTO_DST_PORT

	ctaFilterOrig = 1 // CTA_FILTER_ORIG_FLAGS

	ctaProtoinfoTCP      = 1 // CTA_PROTOINFO_TCP
	ctaProtoinfoTCPState = 1 // CTA_PROTOINFO_TCP_STATE

	ctaCountersPackets = 1 // CTA_COUNTERS_PACKETS
	ctaCountersBytes   = 2 // CTA_COUNTERS_BYTES

	statusSeenReply = 1 << 1 // IPS_SEEN_REPLY (nf_conntrack_common.h)
)

// parseFlow reads a flow from the body of a message into f. It returns false, and f has no meaning, if the
// flow is not TCP, incomplete, or not wanted; want nil accepts all.
func parseFlow(body []byte, f *netflow.Flow, want netflow.Want) bool {
	if len(body) < netlink.NetfilterLen {
		return false
	}
	var a [ctaTupleMaster + 1][]byte
	netlink.ByType(body[netlink.NetfilterLen:], a[:])
	*f = netflow.Flow{ID: netlink.Uint32(a[ctaID])}
	if !parseTuple(a[ctaTupleOrig], &f.Original) {
		return false
	}
	if !parseTuple(a[ctaTupleMaster], &f.Master) {
		f.Master = netflow.Tuple{}
	}
	if want != nil && !want(f.Original, f.Master) || !parseTuple(a[ctaTupleReply], &f.Reply) {
		return false
	}
	f.Replied = netlink.Uint32(a[ctaStatus])&statusSeenReply != 0
	if s := netlink.Find(a[ctaProtoinfo], ctaProtoinfoTCP, ctaProtoinfoTCPState); len(s) == 1 {
		f.State = netflow.TCPState(s[0])
	}
	f.Sent, f.Received = counterOf(a[ctaCountersOrig]), counterOf(a[ctaCountersReply])
	return true
}

// parseTuple reads a TCP tuple. It returns false for other protocols, and for an incomplete tuple.
func parseTuple(list []byte, t *netflow.Tuple) bool {
	var tuple [ctaTupleProto + 1][]byte
	var addrs [ctaIPv6Dst + 1][]byte
	var protocol [ctaProtoDstPort + 1][]byte
	netlink.ByType(list, tuple[:])
	netlink.ByType(tuple[ctaTupleIP], addrs[:])
	netlink.ByType(tuple[ctaTupleProto], protocol[:])
	number, fromPort, toPort := protocol[ctaProtoNum], protocol[ctaProtoSrcPort], protocol[ctaProtoDstPort]
	if len(number) != 1 || number[0] != unix.IPPROTO_TCP || len(fromPort) != 2 || len(toPort) != 2 {
		return false
	}
	source, destination := addrs[ctaIPv4Src], addrs[ctaIPv4Dst]
	if source == nil {
		source, destination = addrs[ctaIPv6Src], addrs[ctaIPv6Dst]
	}
	from, isFrom := netip.AddrFromSlice(source)
	to, isTo := netip.AddrFromSlice(destination)
	t.From = netip.AddrPortFrom(from, binary.BigEndian.Uint16(fromPort))
	t.To = netip.AddrPortFrom(to, binary.BigEndian.Uint16(toPort))
	return isFrom && isTo && from.BitLen() == to.BitLen()
}

func counterOf(list []byte) netflow.Counter {
	return netflow.Counter{
		Packets: netlink.Uint64(netlink.Find(list, ctaCountersPackets)),
		Bytes:   netlink.Uint64(netlink.Find(list, ctaCountersBytes)),
	}
}
