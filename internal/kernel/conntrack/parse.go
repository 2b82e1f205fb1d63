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
	ctaHelp          = 5  // CTA_HELP
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

	ctaHelpName        = 1 // CTA_HELP_NAME
	ctaCountersPackets = 1 // CTA_COUNTERS_PACKETS
	ctaCountersBytes   = 2 // CTA_COUNTERS_BYTES

	statusSeenReply = 1 << 1 // IPS_SEEN_REPLY (nf_conntrack_common.h)
)

// Want reports whether the caller is interested in a flow, before the rest of the flow is read. It gets
// conntrack's ID, the original tuple, and the master's original tuple, which is zero if there is no master or
// the kernel does not say.
type Want func(id uint32, original, master netflow.Tuple) bool

// flowAttrs are the attributes of a flow that parseFlow reads, still encoded.
type flowAttrs struct {
	original, reply, status, protoinfo, help, sent, received, id, master []byte
}

func (a *flowAttrs) collect(list []byte) {
	for typ, value := range netlink.Attributes(list) {
		switch typ {
		case ctaTupleOrig:
			a.original = value
		case ctaTupleReply:
			a.reply = value
		case ctaStatus:
			a.status = value
		case ctaProtoinfo:
			a.protoinfo = value
		case ctaHelp:
			a.help = value
		case ctaCountersOrig:
			a.sent = value
		case ctaCountersReply:
			a.received = value
		case ctaID:
			a.id = value
		case ctaTupleMaster:
			a.master = value
		}
	}
}

// parseFlow reads a flow from the body of a message into f. It returns false, and f has no meaning, if the
// flow is not TCP, incomplete, or not wanted; want nil accepts all.
func parseFlow(body []byte, f *netflow.Flow, want Want) bool {
	if len(body) < netlink.NetfilterLen {
		return false
	}
	var a flowAttrs
	a.collect(body[netlink.NetfilterLen:])
	*f = netflow.Flow{ID: netlink.Uint32(a.id)}
	if !parseTuple(a.original, &f.Original) {
		return false
	}
	if a.master != nil && !parseTuple(a.master, &f.Master) {
		f.Master = netflow.Tuple{}
	}
	if want != nil && !want(f.ID, f.Original, f.Master) {
		return false
	}
	if !parseTuple(a.reply, &f.Reply) {
		return false
	}
	f.Replied = netlink.Uint32(a.status)&statusSeenReply != 0
	if s := netlink.Find(a.protoinfo, ctaProtoinfoTCP, ctaProtoinfoTCPState); len(s) == 1 {
		f.State = netflow.TCPState(s[0])
	}
	f.Helper = helperName(netlink.Find(a.help, ctaHelpName))
	f.Sent, f.Received = counterOf(a.sent), counterOf(a.received)
	return true
}

// parseTuple reads a TCP tuple. It returns false for other protocols, and for an incomplete tuple.
func parseTuple(list []byte, t *netflow.Tuple) bool {
	var from, to netip.Addr
	var ports [2]uint16
	var have int
	for typ, value := range netlink.Attributes(list) {
		switch typ {
		case ctaTupleIP:
			from, to = parseAddrs(value)
		case ctaTupleProto:
			if num := netlink.Find(value, ctaProtoNum); len(num) != 1 || num[0] != unix.IPPROTO_TCP {
				return false
			}
			ports, have = parsePorts(value)
		}
	}
	*t = netflow.Tuple{From: netip.AddrPortFrom(from, ports[0]), To: netip.AddrPortFrom(to, ports[1])}
	return have == 2 && from.IsValid() && from.BitLen() == to.BitLen()
}

func parseAddrs(list []byte) (from, to netip.Addr) {
	for typ, value := range netlink.Attributes(list) {
		switch {
		case typ == ctaIPv4Src && len(value) == 4:
			from = netip.AddrFrom4([4]byte(value))
		case typ == ctaIPv4Dst && len(value) == 4:
			to = netip.AddrFrom4([4]byte(value))
		case typ == ctaIPv6Src && len(value) == 16:
			from = netip.AddrFrom16([16]byte(value))
		case typ == ctaIPv6Dst && len(value) == 16:
			to = netip.AddrFrom16([16]byte(value))
		}
	}
	return from, to
}

func parsePorts(list []byte) (ports [2]uint16, have int) {
	for typ, value := range netlink.Attributes(list) {
		if (typ == ctaProtoSrcPort || typ == ctaProtoDstPort) && len(value) == 2 {
			ports[typ-ctaProtoSrcPort] = binary.BigEndian.Uint16(value)
			have++
		}
	}
	return ports, have
}

func counterOf(list []byte) (c netflow.Counter) {
	for typ, value := range netlink.Attributes(list) {
		switch typ {
		case ctaCountersPackets:
			c.Packets = netlink.Uint64(value)
		case ctaCountersBytes:
			c.Bytes = netlink.Uint64(value)
		}
	}
	return c
}

// helperName returns the name of a helper.
func helperName(value []byte) string {
	value = netlink.Text(value)
	if string(value) == "ftp" { // the usual one, without an allocation
		return "ftp"
	}
	return string(value)
}
