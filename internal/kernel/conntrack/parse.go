package conntrack

import (
	"encoding/binary"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/kernel/netlink"
)

// Constants that the library lacks (include/uapi/linux/netfilter/nfnetlink_conntrack.h,
// nf_conntrack_common.h).
const (
	ctaTupleMaster  = 14     // CTA_TUPLE_MASTER
	ctaFilter       = 25     // CTA_FILTER
	ctaFilterOrig   = 1      // CTA_FILTER_ORIG_FLAGS, within CTA_FILTER
	statusSeenReply = 1 << 1 // IPS_SEEN_REPLY
	closeInit       = 1 << 2 // IP_CT_TCP_FLAG_CLOSE_INIT
)

// parseFlow reads a flow from the body of a message into f. It returns false, and f has no meaning, if the
// flow is not TCP, incomplete, or not wanted; want nil accepts all.
func parseFlow(body []byte, f *netflow.Flow, want netflow.Want) bool {
	if len(body) < netlink.NetfilterLen {
		return false
	}
	var a [ctaTupleMaster + 1][]byte
	netlink.ByType(body[netlink.NetfilterLen:], a[:])
	*f = netflow.Flow{ID: netlink.Uint32(a[nl.CTA_ID])}
	if !parseTuple(a[nl.CTA_TUPLE_ORIG], &f.Original) {
		return false
	}
	if !parseTuple(a[ctaTupleMaster], &f.Master) {
		f.Master = netflow.Tuple{}
	}
	if want != nil && !want(f.Original, f.Master) || !parseTuple(a[nl.CTA_TUPLE_REPLY], &f.Reply) {
		return false
	}
	f.Replied = netlink.Uint32(a[nl.CTA_STATUS])&statusSeenReply != 0
	var tcp [nl.CTA_PROTOINFO_TCP_FLAGS_REPLY + 1][]byte
	netlink.ByType(netlink.Find(a[nl.CTA_PROTOINFO], nl.CTA_PROTOINFO_TCP), tcp[:])
	if s := tcp[nl.CTA_PROTOINFO_TCP_STATE]; len(s) == 1 {
		f.State = netflow.TCPState(s[0])
	}
	if flags := tcp[nl.CTA_PROTOINFO_TCP_FLAGS_REPLY]; len(flags) > 0 { // struct nf_ct_tcp_flags
		f.Closed = flags[0]&closeInit != 0
	}
	f.Sent, f.Received = counterOf(a[nl.CTA_COUNTERS_ORIG]), counterOf(a[nl.CTA_COUNTERS_REPLY])
	return true
}

// parseTuple reads a TCP tuple. It returns false for other protocols, and for an incomplete tuple.
func parseTuple(list []byte, t *netflow.Tuple) bool {
	var tuple [nl.CTA_TUPLE_PROTO + 1][]byte
	var addrs [nl.CTA_IP_V6_DST + 1][]byte
	var protocol [nl.CTA_PROTO_DST_PORT + 1][]byte
	netlink.ByType(list, tuple[:])
	netlink.ByType(tuple[nl.CTA_TUPLE_IP], addrs[:])
	netlink.ByType(tuple[nl.CTA_TUPLE_PROTO], protocol[:])
	number, fromPort, toPort := protocol[nl.CTA_PROTO_NUM], protocol[nl.CTA_PROTO_SRC_PORT],
		protocol[nl.CTA_PROTO_DST_PORT]
	if len(number) != 1 || number[0] != unix.IPPROTO_TCP || len(fromPort) != 2 || len(toPort) != 2 {
		return false
	}
	source, destination := addrs[nl.CTA_IP_V4_SRC], addrs[nl.CTA_IP_V4_DST]
	if source == nil {
		source, destination = addrs[nl.CTA_IP_V6_SRC], addrs[nl.CTA_IP_V6_DST]
	}
	from, isFrom := netip.AddrFromSlice(source)
	to, isTo := netip.AddrFromSlice(destination)
	t.From = netip.AddrPortFrom(from, binary.BigEndian.Uint16(fromPort))
	t.To = netip.AddrPortFrom(to, binary.BigEndian.Uint16(toPort))
	return isFrom && isTo && from.BitLen() == to.BitLen()
}

func counterOf(list []byte) netflow.Counter {
	return netflow.Counter{
		Packets: netlink.Uint64(netlink.Find(list, nl.CTA_COUNTERS_PACKETS)),
		Bytes:   netlink.Uint64(netlink.Find(list, nl.CTA_COUNTERS_BYTES)),
	}
}
