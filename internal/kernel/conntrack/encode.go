package conntrack

import (
	"encoding/binary"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/kernel/netlink"
)

// Message types with their subsystem (enum cntl_msg_types in
// include/uapi/linux/netfilter/nfnetlink_conntrack.h).
const (
	ctNew    = unix.NFNL_SUBSYS_CTNETLINK << 8
	ctGet    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1
	ctDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2
)

func valid(t netflow.Tuple) bool {
	t = unmapped(t)
	return t.From.IsValid() && t.To.IsValid() && t.From.Addr().BitLen() == t.To.Addr().BitLen()
}

// unmapped returns the tuple as the kernel has it: IPv4 is IPv4, and an address has no zone.
func unmapped(t netflow.Tuple) netflow.Tuple {
	plain := func(a netip.AddrPort) netip.AddrPort {
		return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
	}
	return netflow.Tuple{From: plain(t.From), To: plain(t.To)}
}

// writeGet writes a message that asks for a flow by its original tuple.
func writeGet(b *netlink.Buffer, sequence uint32, t netflow.Tuple) {
	h := netlink.Header{Type: ctGet, Flags: unix.NLM_F_REQUEST, Sequence: sequence}
	start := b.BeginNetfilter(h, family(t), 0)
	writeTuple(b, nl.CTA_TUPLE_ORIG, t)
	b.EndMessage(start)
}

// writeDelete writes a message that removes a flow, unless the tuple belongs to a flow with another ID by
// now.
func writeDelete(b *netlink.Buffer, sequence uint32, t netflow.Tuple, id uint32) {
	h := netlink.Header{Type: ctDelete, Flags: unix.NLM_F_REQUEST | unix.NLM_F_ACK, Sequence: sequence}
	start := b.BeginNetfilter(h, family(t), 0)
	writeTuple(b, nl.CTA_TUPLE_ORIG, t)
	b.Uint32(nl.CTA_ID, id)
	b.EndMessage(start)
}

// What a dump's filter compares of a tuple (CTA_FILTER_F_CTA_* in net/netfilter/nf_internals.h).
const (
	filterSource      = 1 << 0
	filterDestination = 1 << 1
	filterProtocol    = 1 << 3
	filterPort        = 1 << 5 // of the destination
)

// writeFilter writes the attributes that restrict a dump to flows whose original tuple is t, from any port.
// It leaves IPv6 addresses to the caller: when asked to compare those, Linux 6.18 omits exactly the flows
// that have them.
func writeFilter(b *netlink.Buffer, t netflow.Tuple) {
	compared := uint32(filterProtocol | filterPort)
	if family(t) == unix.AF_INET {
		compared |= filterSource | filterDestination
	}
	writeTuple(b, nl.CTA_TUPLE_ORIG, t)
	filter := b.BeginNested(ctaFilter)
	b.Bytes(ctaFilterOrig, binary.NativeEndian.AppendUint32(nil, compared))
	b.EndAttr(filter)
}

func family(t netflow.Tuple) uint8 {
	if t.From.Addr().Unmap().Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// writeTuple writes a TCP tuple of either family as an attribute.
func writeTuple(b *netlink.Buffer, typ uint16, t netflow.Tuple) {
	source, destination := uint16(nl.CTA_IP_V4_SRC), uint16(nl.CTA_IP_V4_DST)
	from, to := t.From.Addr().Unmap(), t.To.Addr().Unmap()
	if !from.Is4() {
		source, destination = nl.CTA_IP_V6_SRC, nl.CTA_IP_V6_DST
	}
	tuple := b.BeginNested(typ)
	addresses := b.BeginNested(nl.CTA_TUPLE_IP)
	b.Addr(source, from)
	b.Addr(destination, to)
	b.EndAttr(addresses)
	protocol := b.BeginNested(nl.CTA_TUPLE_PROTO)
	b.Uint8(nl.CTA_PROTO_NUM, unix.IPPROTO_TCP)
	b.Uint16(nl.CTA_PROTO_SRC_PORT, t.From.Port())
	b.Uint16(nl.CTA_PROTO_DST_PORT, t.To.Port())
	b.EndAttr(protocol)
	b.EndAttr(tuple)
}
