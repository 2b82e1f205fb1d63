package conntrack

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/netflow"
)

// Message types (enum cntl_msg_types and ctnl_exp_msg_types in
// include/uapi/linux/netfilter/nfnetlink_conntrack.h), with their subsystem.
const (
	ctNew     = unix.NFNL_SUBSYS_CTNETLINK << 8
	ctGet     = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1
	ctDelete  = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2
	expectNew = unix.NFNL_SUBSYS_CTNETLINK_EXP << 8
	expectGet = unix.NFNL_SUBSYS_CTNETLINK_EXP<<8 | 1
)

// nfgenLen is the length of struct nfgenmsg, which stands between netlink's header and the attributes.
const nfgenLen = 4

// valid tells whether a flow can have the tuple.
func valid(t netflow.Tuple) bool {
	t = unmapped(t)
	return t.From.IsValid() && t.To.IsValid() && t.From.Addr().BitLen() == t.To.Addr().BitLen()
}

// unmapped is the tuple as the kernel has it: IPv4 is IPv4, and an address has no zone.
func unmapped(t netflow.Tuple) netflow.Tuple {
	plain := func(a netip.AddrPort) netip.AddrPort {
		return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
	}
	return netflow.Tuple{From: plain(t.From), To: plain(t.To)}
}

// appendFlowRequest appends a whole message that names a flow by its original tuple.
func appendFlowRequest(b []byte, typ, flags uint16, seq uint32, t netflow.Tuple) []byte {
	start := len(b)
	b = appendHeader(b, typ, flags, seq, family(t))
	return finish(appendTuple(b, ctaTupleOrig, t), start)
}

func appendDelete(b []byte, seq uint32, t netflow.Tuple, id uint32) []byte {
	start := len(b)
	b = appendHeader(b, ctDelete, unix.NLM_F_REQUEST|unix.NLM_F_ACK, seq, family(t))
	b = appendTuple(b, ctaTupleOrig, t)
	b = appendAttr(b, ctaID, 4)
	return finish(binary.BigEndian.AppendUint32(b, id), start)
}

// What a dump's filter compares of a tuple (CTA_FILTER_F_CTA_* in net/netfilter/nf_internals.h).
const (
	filterSource      = 1 << 0
	filterDestination = 1 << 1
	filterProtocol    = 1 << 3
	filterPort        = 1 << 5 // of the destination
)

// appendFilter appends what lets the flows through whose original tuple is t, from any port. IPv6 addresses are left to
// the caller: with them Linux 6.18 leaves out just those flows that have them.
func appendFilter(b []byte, t netflow.Tuple) []byte {
	compared := uint32(filterProtocol | filterPort)
	if family(t) == unix.AF_INET {
		compared |= filterSource | filterDestination
	}
	b = appendTuple(b, ctaTupleOrig, t)
	b = appendAttr(b, ctaFilter|unix.NLA_F_NESTED, unix.SizeofNlAttr+4)
	b = appendAttr(b, ctaFilterOrig, 4)
	return binary.NativeEndian.AppendUint32(b, compared)
}

func family(t netflow.Tuple) uint8 {
	if t.From.Addr().Unmap().Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// appendHeader appends the headers of netlink and netfilter. The length is set by finish.
func appendHeader(b []byte, typ, flags uint16, seq uint32, family uint8) []byte {
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0) // the port of this end, which the kernel knows
	return append(b, family, unix.NFNETLINK_V0, 0, 0)
}

func finish(b []byte, start int) []byte {
	binary.NativeEndian.PutUint32(b[start:], uint32(len(b)-start))
	return b
}

// appendAttr appends the header of an attribute with so many bytes behind it.
func appendAttr(b []byte, typ uint16, size int) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofNlAttr+size))
	return binary.NativeEndian.AppendUint16(b, typ)
}

// appendTuple appends a TCP tuple as an attribute of type typ, in either family.
func appendTuple(b []byte, typ uint16, t netflow.Tuple) []byte {
	const portAttr = unix.SizeofNlAttr + 4 // two bytes of port and two of padding
	const protoSize = 3 * portAttr
	from, to := t.From.Addr().Unmap(), t.To.Addr().Unmap()
	source, size := uint16(ctaIPv4Src), 4
	if !from.Is4() {
		source, size = ctaIPv6Src, 16
	}
	ipSize := 2 * (unix.SizeofNlAttr + size)
	b = appendAttr(b, typ|unix.NLA_F_NESTED, 2*unix.SizeofNlAttr+ipSize+protoSize)
	b = appendAttr(b, ctaTupleIP|unix.NLA_F_NESTED, ipSize)
	b = appendAddr(appendAttr(b, source, size), from)
	b = appendAddr(appendAttr(b, source+1, size), to)
	b = appendAttr(b, ctaTupleProto|unix.NLA_F_NESTED, protoSize)
	b = append(appendAttr(b, ctaProtoNum, 1), unix.IPPROTO_TCP, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(appendAttr(b, ctaProtoSrcPort, 2), t.From.Port())
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint16(appendAttr(b, ctaProtoDstPort, 2), t.To.Port())
	return append(b, 0, 0)
}

func appendAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		v4 := a.As4()
		return append(b, v4[:]...)
	}
	v6 := a.As16()
	return append(b, v6[:]...)
}
