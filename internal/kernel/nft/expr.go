package nft

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/kernel/netlink"
)

// Kernel constants that the library lacks (include/uapi/linux/netfilter/nf_tables.h, nf_conntrack_common.h,
// rtnetlink.h).
const (
	flagFIN = 1 << 0 // RFC 9293 section 3.1
	flagSYN = 1 << 1
	flagRST = 1 << 2

	ctStatusDNAT     = 1 << 5 // IPS_DST_NAT
	objectCtHelper   = 3      // NFT_OBJECT_CT_HELPER
	routeUnicast     = 1      // RTN_UNICAST
	routeLocal       = 2      // RTN_LOCAL
	natPortSpecified = 1 << 1 // NF_NAT_RANGE_PROTO_SPECIFIED
	helperNameLength = 16     // NF_CT_HELPER_NAME_LEN
	registerFirst    = 1      // NFT_REG_1, sixteen bytes
	registerFirst32  = 8      // NFT_REG32_00, the same place in words of four
)

// encoder writes the expressions of one rule as nft(8) does, with their dependencies: the family comes before
// the first address, the transport protocol before the first port.
type encoder struct {
	exprs         []expr.Any
	matchesFamily bool
	matchesTCP    bool
}

func encodeRule(r ruleset.Rule) []expr.Any {
	var e encoder
	for _, s := range r {
		e.statement(s)
	}
	return e.exprs
}

func (e *encoder) add(exprs ...expr.Any) { e.exprs = append(e.exprs, exprs...) }

func (e *encoder) statement(s ruleset.Statement) {
	switch s := s.(type) {
	case ruleset.StateIs, ruleset.Translated, ruleset.FromClient, ruleset.HelperIs, ruleset.NotFirst,
		ruleset.DialledFrom:
		e.conntrack(s)
	case ruleset.TCP: // meta l4proto tcp
		e.tcp()
	case ruleset.PortBelow: // tcp dport < 1024
		e.tcp()
		e.add(destinationPort(registerFirst),
			&expr.Cmp{Op: expr.CmpOpLt, Register: registerFirst, Data: port(s.Port)})
	case ruleset.PortIn: // tcp dport 50000-50100
		e.tcp()
		e.add(destinationPort(registerFirst))
		e.add(portIn(s)...)
	case ruleset.FamilyIs: // meta nfproto ipv4
		e.family(s.Version)
	case ruleset.ToGateway: // fib daddr type local
		e.destinationType(routeLocal)
	case ruleset.ToOtherHost: // fib daddr type unicast
		e.destinationType(routeUnicast)
	case ruleset.Redirect: // redirect to :8021
		e.add(&expr.Immediate{Register: registerFirst, Data: port(s.Port)},
			&expr.Redir{RegisterProtoMin: registerFirst, Flags: natPortSpecified})
	case ruleset.In: // ip daddr . tcp dport @set
		e.key(s.Version, s.Key)
		e.add(&expr.Lookup{SourceRegister: registerFirst, SetName: s.Set})
	case ruleset.Translate: // dnat ip to ip daddr . tcp dport map @map
		e.key(s.Version, s.Key)
		e.add(mapLookup(s.Map))
		e.add(destinationNAT(s))
	case ruleset.TranslateSource: // snat ip to ip saddr . tcp dport map @map
		e.key(s.Version, s.Key)
		e.add(mapLookup(s.Map))
		e.add(addressNAT(expr.NATTypeSourceNAT, s.Version))
	case ruleset.AttachHelper: // ct helper set "ftp"
		e.add(&expr.Objref{Type: objectCtHelper, Name: ruleset.HelperName})
	case ruleset.Masquerade: // masquerade
		e.add(&expr.Masq{})
	case ruleset.Reset: // reject with tcp reset
		e.tcp()
		e.add(&expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
	case ruleset.AtEnds: // tcp flags fin,syn,rst
		e.tcpFlags(flagFIN | flagSYN | flagRST)
	case ruleset.UpTo: // limit rate 1000/second burst 1000 packets
		e.add(&expr.Limit{Type: expr.LimitTypePkts, Rate: uint64(s.PerSecond), Unit: expr.LimitTimeSecond,
			Burst: uint32(s.PerSecond)})
	case ruleset.Log: // log group 2121
		e.add(&expr.Log{Key: 1 << unix.NFTA_LOG_GROUP, Group: s.Group})
	default:
		panic(fmt.Sprintf("nft: statement %T", s))
	}
}

// destinationType matches destinations of one type (rtnetlink(7), rtm_type).
func (e *encoder) destinationType(routeType uint32) {
	e.add(&expr.Fib{Register: registerFirst, FlagDADDR: true, ResultADDRTYPE: true},
		equal(binaryutil.NativeEndian.PutUint32(routeType)))
}

// conntrack writes a match of what conntrack knows.
func (e *encoder) conntrack(s ruleset.Statement) {
	switch s := s.(type) {
	case ruleset.StateIs: // ct state new
		states := map[string]uint32{"new": expr.CtStateBitNEW, "related": expr.CtStateBitRELATED}
		e.bits(expr.CtKeySTATE, states[s.State])
	case ruleset.Translated: // ct status dnat
		e.bits(expr.CtKeySTATUS, ctStatusDNAT)
	case ruleset.FromClient: // ct direction original
		e.add(&expr.Ct{Key: expr.CtKeyDIRECTION, Register: registerFirst}, equal([]byte{directionOriginal}))
	case ruleset.HelperIs: // ct helper "ftp"
		name := make([]byte, helperNameLength)
		copy(name, ruleset.HelperName)
		e.add(&expr.Ct{Key: expr.CtKeyHELPER, Register: registerFirst}, equal(name))
	case ruleset.NotFirst: // ct packets != 1
		e.add(&expr.Ct{Key: expr.CtKeyPKTS, Register: registerFirst},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: registerFirst,
				Data: binary.NativeEndian.AppendUint64(nil, 1)})
	case ruleset.DialledFrom: // ct original proto-dst >= 1024
		e.add(&expr.Ct{Key: expr.CtKeyPROTODST, Register: registerFirst, Direction: directionOriginal},
			&expr.Cmp{Op: expr.CmpOpGte, Register: registerFirst, Data: port(s.Port)})
	}
}

// mapLookup replaces the key in the registers by the value that a map has for it.
func mapLookup(name string) *expr.Lookup {
	return &expr.Lookup{SourceRegister: registerFirst, SetName: name, DestRegister: registerFirst,
		IsDestRegSet: true}
}

func equal(data []byte) *expr.Cmp {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: registerFirst, Data: data}
}

func portIn(s ruleset.PortIn) []expr.Any {
	if s.Ports.First == s.Ports.Last {
		return []expr.Any{equal(port(s.Ports.First))}
	}
	return []expr.Any{
		&expr.Cmp{Op: expr.CmpOpGte, Register: registerFirst, Data: port(s.Ports.First)},
		&expr.Cmp{Op: expr.CmpOpLte, Register: registerFirst, Data: port(s.Ports.Last)},
	}
}

// bits matches if any bit of the mask is set.
func (e *encoder) bits(key expr.CtKey, mask uint32) {
	e.add(&expr.Ct{Key: key, Register: registerFirst},
		&expr.Bitwise{SourceRegister: registerFirst, DestRegister: registerFirst, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: registerFirst, Data: make([]byte, 4)})
}

// tcpFlags matches if any of the flags is set.
func (e *encoder) tcpFlags(flags byte) {
	const offset = 13 // RFC 9293 section 3.1
	e.tcp()
	e.add(transportField(registerFirst, offset, 1),
		&expr.Bitwise{SourceRegister: registerFirst, DestRegister: registerFirst, Len: 1,
			Mask: []byte{flags}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: registerFirst, Data: []byte{0}})
}

// tcp restricts the rule to TCP: meta l4proto tcp
func (e *encoder) tcp() {
	if !e.matchesTCP {
		e.matchesTCP = true
		e.add(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: registerFirst}, equal([]byte{unix.IPPROTO_TCP}))
	}
}

// family restricts the rule to one version of IP: meta nfproto ipv4
func (e *encoder) family(v ruleset.Version) {
	if !e.matchesFamily {
		e.matchesFamily = true
		e.add(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: registerFirst}, equal([]byte{protocolFamily(v)}))
	}
}

func protocolFamily(v ruleset.Version) byte {
	if v == ruleset.IPv4 {
		return unix.NFPROTO_IPV4
	}
	return unix.NFPROTO_IPV6
}

// key loads fields of the packet side by side into registers, after their dependencies.
func (e *encoder) key(v ruleset.Version, columns []ruleset.Column) {
	for _, c := range columns {
		switch c {
		case ruleset.ColumnSourcePort, ruleset.ColumnPort:
			e.tcp()
		case ruleset.ColumnInterface:
		default:
			e.family(v)
		}
	}
	offset := 0
	for _, c := range columns {
		load, size := loadField(v, c, register(offset))
		e.add(load)
		offset += netlink.Align(size)
	}
}

// register returns the number of the register at an offset in bytes. Like nft it prefers registers of sixteen
// bytes.
func register(offset int) uint32 {
	if offset%16 == 0 {
		return uint32(registerFirst + offset/16)
	}
	return uint32(registerFirst32 + offset/4)
}

// loadField returns the expression that loads a field of the packet into a register, and the size of the
// field in bytes.
func loadField(v ruleset.Version, c ruleset.Column, reg uint32) (expr.Any, int) {
	size, source, destination := 16, uint32(8), uint32(24) // RFC 8200 section 3
	dialled := expr.CtKey(ctKeyDestinationIP6)
	if v == ruleset.IPv4 {
		size, source, destination = 4, 12, 16 // RFC 791 section 3.1
		dialled = ctKeyDestinationIP
	}
	address := func(offset uint32) expr.Any {
		return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader,
			Offset: offset, Len: uint32(size)}
	}
	switch c {
	case ruleset.ColumnInterface:
		return &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg}, unix.IFNAMSIZ
	case ruleset.ColumnBanned, ruleset.ColumnClient, ruleset.ColumnSource:
		return address(source), size
	case ruleset.ColumnListen, ruleset.ColumnServer:
		return address(destination), size
	case ruleset.ColumnDialled:
		return &expr.Ct{Key: dialled, Register: reg}, size
	case ruleset.ColumnSourcePort:
		return transportField(reg, 0, 2), 2
	case ruleset.ColumnPort:
		return destinationPort(reg), 2
	}
	panic(fmt.Sprintf("nft: column %d in a key", c))
}

// destinationPort loads the destination port (RFC 9293 section 3.1).
func destinationPort(reg uint32) expr.Any { return transportField(reg, 2, 2) }

func transportField(reg, offset, length uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: offset,
		Len: length}
}

// destinationNAT translates to the address and port that the map left in the registers.
func destinationNAT(s ruleset.Translate) *expr.NAT {
	nat := addressNAT(expr.NATTypeDestNAT, s.Version)
	if s.WithPort {
		port := register(4)
		if s.Version == ruleset.IPv6 {
			port = register(16)
		}
		nat.RegProtoMin, nat.RegProtoMax = port, port
		nat.Specified = true
	}
	return nat
}

// addressNAT translates to the address that the map left in the first register.
func addressNAT(typ expr.NATType, v ruleset.Version) *expr.NAT {
	return &expr.NAT{Type: typ, Family: uint32(protocolFamily(v)),
		RegAddrMin: registerFirst, RegAddrMax: registerFirst}
}
