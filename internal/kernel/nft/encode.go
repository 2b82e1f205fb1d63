package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"ftpgate/internal/core/ruleset"
)

// elementsPerMessage bounds a message of elements: the list's length is a 16-bit number, and the
// library loses what is beyond it without a word. An element is at most 128 bytes here.
const elementsPerMessage = 500

// Kernel constants that the libraries lack (include/uapi/linux/netfilter/nf_tables.h,
// nf_conntrack_common.h, rtnetlink.h).
const (
	flagFIN = 1 << 0 // RFC 9293 section 3.1
	flagSYN = 1 << 1
	flagRST = 1 << 2

	ctKeyDestinationIP  = 20     // NFT_CT_DST_IP
	ctKeyDestinationIP6 = 22     // NFT_CT_DST_IP6
	ctStatusDNAT        = 1 << 5 // IPS_DST_NAT
	directionOriginal   = 0      // IP_CT_DIR_ORIGINAL
	objectCtHelper      = 3      // NFT_OBJECT_CT_HELPER
	setExpression       = 17     // NFTA_SET_EXPR
	routeLocal          = 2      // RTN_LOCAL
	helperNameLength    = 16     // NF_CT_HELPER_NAME_LEN
	interfaceNameLength = unix.IFNAMSIZ
	registerFirst       = 1 // NFT_REG_1, sixteen bytes
	registerFirst32     = 8 // NFT_REG32_00, the same place in words of four
)

func libTable(name string) *nftables.Table {
	return &nftables.Table{Name: name, Family: nftables.TableFamilyINet}
}

// addTable queues a whole table.
func (b *batch) addTable(t ruleset.Table) {
	b.enc.AddTable(libTable(t.Name))
	b.did("add table %s", t.Name)
	if t.Helper {
		b.addHelper(t.Name)
	}
	for _, s := range t.Sets {
		b.addSet(t.Name, s)
	}
	for _, c := range t.Chains {
		b.addChain(t.Name, c)
		b.addRules(t.Name, c)
	}
}

// dropTable queues the removal of a table whether it is there or not.
func (b *batch) dropTable(name string) {
	b.enc.AddTable(libTable(name))
	b.did("add table %s", name)
	b.enc.DelTable(libTable(name))
	b.did("delete table %s", name)
}

// libHelper is: ct helper ftp { type "ftp" protocol tcp; l3proto inet }
func libHelper(table string) *nftables.NamedObj {
	return &nftables.NamedObj{
		Table: libTable(table),
		Name:  ruleset.HelperName,
		Type:  nftables.ObjTypeCtHelper,
		Obj:   &expr.CtHelper{Name: ruleset.HelperName, L3Proto: unix.NFPROTO_INET, L4Proto: unix.IPPROTO_TCP},
	}
}

func (b *batch) addHelper(table string) {
	b.enc.AddObj(libHelper(table))
	b.did("add ct helper %s to table %s", ruleset.HelperName, table)
}

func (b *batch) deleteHelper(table string) {
	b.enc.DeleteObject(libHelper(table))
	b.did("delete ct helper %s of table %s", ruleset.HelperName, table)
}

// libSet describes a set to the library; the key types are those of the set's columns.
func libSet(table string, s ruleset.Set) *nftables.Set {
	set := &nftables.Set{
		Table:         libTable(table),
		Name:          s.Name,
		KeyType:       concat(s.Version, s.Key),
		IsMap:         s.IsMap(),
		Interval:      s.Interval,
		HasTimeout:    s.Timeout,
		Counter:       s.Once, // onePacket makes it a limit
		Size:          uint32(s.Size),
		Concatenation: len(s.Key) > 1,
	}
	if set.IsMap {
		set.DataType = concat(s.Version, s.Value)
	}
	return set
}

func concat(v ruleset.Version, columns []ruleset.Column) nftables.SetDatatype {
	types := make([]nftables.SetDatatype, len(columns))
	for i, c := range columns {
		switch c {
		case ruleset.ColumnInterface:
			types[i] = nftables.TypeIFName
		case ruleset.ColumnPort, ruleset.ColumnToPort:
			types[i] = nftables.TypeInetService
		default:
			types[i] = nftables.TypeIP6Addr
			if v == ruleset.IPv4 {
				types[i] = nftables.TypeIPAddr
			}
		}
	}
	if len(types) == 1 {
		return types[0]
	}
	return nftables.MustConcatSetType(types...)
}

func (b *batch) addSet(table string, s ruleset.Set) {
	set := libSet(table, s)
	b.sets++
	set.ID = b.sets
	b.check(b.enc.AddSet(set, nil))
	b.did("add set %s", s.Name)
	b.addElements(set, s, s.Elements)
}

func (b *batch) addElements(set *nftables.Set, s ruleset.Set, elements []ruleset.Element) {
	b.inChunks(s, elements, "add", func(es []nftables.SetElement) error { return b.enc.SetAddElements(set, es) })
}

func (b *batch) deleteElements(set *nftables.Set, s ruleset.Set, elements []ruleset.Element) {
	b.inChunks(s, elements, "delete", func(es []nftables.SetElement) error { return b.enc.SetDeleteElements(set, es) })
}

func (b *batch) inChunks(s ruleset.Set, elements []ruleset.Element, verb string, queue func([]nftables.SetElement) error) {
	for len(elements) > 0 {
		n := min(len(elements), elementsPerMessage)
		es := make([]nftables.SetElement, n)
		for i, e := range elements[:n] {
			es[i] = libElement(s, e)
		}
		b.check(queue(es))
		if n == 1 {
			b.did("%s element %s of set %s", verb, s.ElementText(elements[0]), s.Name)
		} else {
			b.did("%s %d elements of set %s, from %s", verb, n, s.Name, s.ElementText(elements[0]))
		}
		elements = elements[n:]
	}
}

// libElement encodes a row. In an interval set a key has an end, field by field.
func libElement(s ruleset.Set, e ruleset.Element) nftables.SetElement {
	key, end := fields(s.Key, e)
	value, _ := fields(s.Value, e)
	element := nftables.SetElement{Key: key, Val: value}
	if s.Interval {
		element.KeyEnd = end
	}
	return element
}

// fields encodes columns of a row, the first values that they match and the last. Side by side
// each takes a multiple of four bytes.
func fields(columns []ruleset.Column, e ruleset.Element) (first, last []byte) {
	if len(columns) == 1 {
		return field(columns[0], e)
	}
	for _, c := range columns {
		f, l := field(c, e)
		first, last = Pad(append(first, f...)), Pad(append(last, l...))
	}
	return first, last
}

func Pad(b []byte) []byte { return append(b, make([]byte, align(len(b))-len(b))...) }

// field encodes one column of a row: the first value that it matches and the last.
func field(c ruleset.Column, e ruleset.Element) (first, last []byte) {
	switch c {
	case ruleset.ColumnInterface:
		name := make([]byte, interfaceNameLength)
		copy(name, e.Interface)
		return name, name
	case ruleset.ColumnClient:
		return e.Client.Addr().AsSlice(), lastAddr(e.Client).AsSlice()
	case ruleset.ColumnListen, ruleset.ColumnDialled:
		return e.Listen.AsSlice(), e.Listen.AsSlice()
	case ruleset.ColumnServer, ruleset.ColumnSource:
		return e.Server.AsSlice(), e.Server.AsSlice()
	case ruleset.ColumnPort:
		return port(e.Ports.First), port(e.Ports.Last)
	case ruleset.ColumnTo:
		return e.To.AsSlice(), nil
	case ruleset.ColumnToPort:
		return port(e.ToPort), nil
	}
	panic(fmt.Sprintf("nft: column %d", c))
}

func port(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }

// lastAddr returns the highest address of a prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

var hooks = map[string]*nftables.ChainHook{
	"prerouting":  nftables.ChainHookPrerouting,
	"forward":     nftables.ChainHookForward,
	"postrouting": nftables.ChainHookPostrouting,
}

func libChain(table string, c ruleset.Chain) *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	return &nftables.Chain{
		Name:     c.Name,
		Table:    libTable(table),
		Type:     nftables.ChainType(c.Type),
		Hooknum:  hooks[c.Hook],
		Priority: nftables.ChainPriorityRef(nftables.ChainPriority(c.Priority.Value)),
		Policy:   &accept,
	}
}

func (b *batch) addChain(table string, c ruleset.Chain) {
	b.enc.AddChain(libChain(table, c))
	b.did("add chain %s (%s hook %s priority %s)", c.Name, c.Type, c.Hook, c.Priority.Name)
}

func (b *batch) addRules(table string, c ruleset.Chain) {
	for _, r := range c.Rules {
		b.enc.AddRule(&nftables.Rule{Table: libTable(table), Chain: libChain(table, c), Exprs: encodeRule(r)})
		b.did("add rule %q to chain %s", r, c.Name)
	}
}

// encoder writes the expressions of one rule as nft(8) does, dependencies included: the family
// before the first address, the transport protocol before the first port.
type encoder struct {
	exprs       []expr.Any
	knowsFamily bool
	knowsTCP    bool
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
	case ruleset.StateIs: // ct state new
		states := map[string]uint32{"new": expr.CtStateBitNEW, "related": expr.CtStateBitRELATED}
		e.bits(expr.CtKeySTATE, states[s.State])
	case ruleset.Translated: // ct status dnat
		e.bits(expr.CtKeySTATUS, ctStatusDNAT)
	case ruleset.HelperIs: // ct helper "ftp"
		name := make([]byte, helperNameLength)
		copy(name, ruleset.HelperName)
		e.add(&expr.Ct{Key: expr.CtKeyHELPER, Register: registerFirst}, equal(name))
	case ruleset.PortBelow: // tcp dport < 1024
		e.tcp()
		e.add(destinationPort(registerFirst), &expr.Cmp{Op: expr.CmpOpLt, Register: registerFirst, Data: port(s.Port)})
	case ruleset.PortIn: // tcp dport 50000-50100
		e.tcp()
		e.add(destinationPort(registerFirst))
		e.add(portIn(s)...)
	case ruleset.FamilyIs: // meta nfproto ipv4
		e.family(s.Version)
	case ruleset.ToGateway: // fib daddr type local
		e.add(&expr.Fib{Register: registerFirst, FlagDADDR: true, ResultADDRTYPE: true}, equal(binaryutil.NativeEndian.PutUint32(routeLocal)))
	case ruleset.In: // ip daddr . tcp dport @set
		e.key(s.Version, s.Key)
		e.add(&expr.Lookup{SourceRegister: registerFirst, SetName: s.Set})
	case ruleset.Translate: // dnat ip to ip daddr . tcp dport map @map
		e.key(s.Version, s.Key)
		e.add(&expr.Lookup{SourceRegister: registerFirst, SetName: s.Map, DestRegister: registerFirst, IsDestRegSet: true})
		e.add(destinationNAT(s))
	case ruleset.TranslateSource: // snat ip to ip saddr . tcp dport map @map
		e.key(s.Version, s.Key)
		e.add(&expr.Lookup{SourceRegister: registerFirst, SetName: s.Map, DestRegister: registerFirst, IsDestRegSet: true})
		e.add(addressNAT(expr.NATTypeSourceNAT, s.Version))
	case ruleset.AttachHelper: // ct helper set "ftp"
		e.add(&expr.Objref{Type: objectCtHelper, Name: ruleset.HelperName})
	case ruleset.Masquerade: // masquerade
		e.add(&expr.Masq{})
	case ruleset.Reset: // reject with tcp reset
		e.tcp()
		e.add(&expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
	case ruleset.AtEnds: // tcp flags fin,syn,rst
		e.tcp()
		e.add(&expr.Payload{DestRegister: registerFirst, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1}, // RFC 9293 section 3.1
			&expr.Bitwise{SourceRegister: registerFirst, DestRegister: registerFirst, Len: 1, Mask: []byte{flagFIN | flagSYN | flagRST}, Xor: []byte{0}},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: registerFirst, Data: []byte{0}})
	case ruleset.NotFirst: // ct packets != 1
		e.add(&expr.Ct{Key: expr.CtKeyPKTS, Register: registerFirst},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: registerFirst, Data: binary.NativeEndian.AppendUint64(nil, 1)})
	case ruleset.DialledFrom: // ct original proto-dst >= 1024
		e.add(&expr.Ct{Key: expr.CtKeyPROTODST, Register: registerFirst, Direction: directionOriginal},
			&expr.Cmp{Op: expr.CmpOpGte, Register: registerFirst, Data: port(s.Port)})
	case ruleset.Log: // log group 2121
		e.add(&expr.Log{Key: 1 << unix.NFTA_LOG_GROUP, Group: s.Group})
	default:
		panic(fmt.Sprintf("nft: statement %T", s))
	}
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

// bits matches where any of the bits is set.
func (e *encoder) bits(key expr.CtKey, mask uint32) {
	e.add(&expr.Ct{Key: key, Register: registerFirst},
		&expr.Bitwise{SourceRegister: registerFirst, DestRegister: registerFirst, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: registerFirst, Data: make([]byte, 4)})
}

// tcp has the rule match TCP only, once: meta l4proto tcp
func (e *encoder) tcp() {
	if !e.knowsTCP {
		e.knowsTCP = true
		e.add(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: registerFirst}, equal([]byte{unix.IPPROTO_TCP}))
	}
}

// family has the rule match one version of IP only, once: meta nfproto ipv4
func (e *encoder) family(v ruleset.Version) {
	if !e.knowsFamily {
		e.knowsFamily = true
		e.add(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: registerFirst}, equal([]byte{protocolFamily(v)}))
	}
}

func protocolFamily(v ruleset.Version) byte {
	if v == ruleset.IPv4 {
		return unix.NFPROTO_IPV4
	}
	return unix.NFPROTO_IPV6
}

// key loads the packet's fields side by side into registers, after their dependencies.
func (e *encoder) key(v ruleset.Version, columns []ruleset.Column) {
	for _, c := range columns {
		switch c {
		case ruleset.ColumnPort:
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
		offset += align(size)
	}
}

// register names the register at an offset in bytes as nft does: by sixteen bytes where it can.
func register(offset int) uint32 {
	if offset%16 == 0 {
		return uint32(registerFirst + offset/16)
	}
	return uint32(registerFirst32 + offset/4)
}

// loadField loads one of the packet's fields, and says how many bytes it takes.
func loadField(v ruleset.Version, c ruleset.Column, reg uint32) (expr.Any, int) {
	size, source, destination := 16, uint32(8), uint32(24) // RFC 8200 section 3
	dialled := expr.CtKey(ctKeyDestinationIP6)
	if v == ruleset.IPv4 {
		size, source, destination = 4, 12, 16 // RFC 791 section 3.1
		dialled = ctKeyDestinationIP
	}
	address := func(offset uint32) expr.Any {
		return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(size)}
	}
	switch c {
	case ruleset.ColumnInterface:
		return &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg}, interfaceNameLength
	case ruleset.ColumnClient, ruleset.ColumnSource:
		return address(source), size
	case ruleset.ColumnListen, ruleset.ColumnServer:
		return address(destination), size
	case ruleset.ColumnDialled:
		return &expr.Ct{Key: dialled, Register: reg}, size
	case ruleset.ColumnPort:
		return destinationPort(reg), 2
	}
	panic(fmt.Sprintf("nft: column %d in a key", c))
}

func destinationPort(reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2} // RFC 9293 section 3.1
}

// destinationNAT translates to what the map left in the registers.
func destinationNAT(s ruleset.Translate) *expr.NAT {
	nat := addressNAT(expr.NATTypeDestNAT, s.Version)
	if s.WithPort {
		behind := register(4)
		if s.Version == ruleset.IPv6 {
			behind = register(16)
		}
		nat.RegProtoMin, nat.RegProtoMax = behind, behind
		nat.Specified = true
	}
	return nat
}

// addressNAT translates to the address that the map left in the first register.
func addressNAT(typ expr.NATType, v ruleset.Version) *expr.NAT {
	return &expr.NAT{Type: typ, Family: uint32(protocolFamily(v)), RegAddrMin: registerFirst, RegAddrMax: registerFirst}
}
