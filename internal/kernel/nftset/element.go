package nftset

import (
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/kernel/nft"
)

// destroySetElement is NFT_MSG_DESTROYSETELEM: a removal that does not mind what is not there
// (include/uapi/linux/netfilter/nf_tables.h, since Linux 6.3).
const destroySetElement = 30

// kind tells which of a pinhole's or a passage's sets an element belongs to.
type kind uint8

const (
	leadsTo kind = iota // ruleset.PinholeMap
	seenAs              // ruleset.SourceMap
	kinds               // of a pinhole

	passesTo kind = iota // ruleset.PassageMap
	passesAs             // ruleset.PassageSourceMap
)

// element is what a pinhole or a passage has in one of its sets.
type element struct {
	kind  kind
	hole  pinhole.Pinhole   // of a passage: its addresses, no ports
	ports forward.PortRange // of a passage: they are not in its elements, but choose the sets
}

func pinholeElement(k kind, h pinhole.Pinhole) element { return element{kind: k, hole: h} }

func passageElement(k kind, p pinhole.Passthrough) element {
	return element{k, pinhole.Pinhole{From: p.From, Listen: netip.AddrPortFrom(p.Listen, 0), Target: netip.AddrPortFrom(p.Target, 0), SourceIP: p.SourceIP}, p.Ports}
}

// change puts an element into its set or takes it out.
type change struct {
	verb    uint16 // NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM or destroySetElement
	element element
}

// setOf is which set an element belongs to.
type setOf struct {
	version int // of versions
	kind    kind
	ports   forward.PortRange
}

func (e element) set() setOf {
	s := setOf{0, e.kind, e.ports}
	if e.hole.From.Is6() {
		s.version = 1
	}
	return s
}

// message is netlink messages in the making. Those of pinholes and passages are written here and not by the
// library: they always have the same form, each file that is transferred needs some, and the library
// takes longer over them than the kernel (BenchmarkPinholeByLibrary).
type message []byte

// envelope appends the message that begins or ends a transaction.
func (m *message) envelope(typ uint16, sequence uint32) {
	defer m.closeMessage(m.openMessage(typ, 0, sequence, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES))
}

// elements appends a message with changes of one set, of one verb.
func (m *message) elements(sequence uint32, table, set string, timeout time.Duration, changes []change) {
	verb, flags := changes[0].verb, uint16(0)
	if verb == unix.NFT_MSG_NEWSETELEM {
		// Without EXCL an element that is there and says the same would stay: used, or about to expire.
		flags = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	}
	at := m.openMessage(unix.NFNL_SUBSYS_NFTABLES<<8|verb, flags, sequence, unix.NFPROTO_INET, 0)
	m.text(unix.NFTA_SET_ELEM_LIST_SET, set)
	m.text(unix.NFTA_SET_ELEM_LIST_TABLE, table)
	nest := m.open(unix.NFTA_SET_ELEM_LIST_ELEMENTS | unix.NLA_F_NESTED)
	for _, c := range changes {
		m.element(c.element, verb == unix.NFT_MSG_NEWSETELEM, timeout)
	}
	m.close(nest)
	m.closeMessage(at)
}

// element appends an element: its key, and with add its timeout and value.
func (m *message) element(e element, add bool, timeout time.Duration) {
	nest := m.open(unix.NFTA_LIST_ELEM | unix.NLA_F_NESTED)
	defer m.close(nest)
	m.value(unix.NFTA_SET_ELEM_KEY, func() {
		m.addr(e.hole.From)
		m.addr(e.hole.Listen.Addr())
		switch e.kind {
		case leadsTo:
			m.port(e.hole.Listen.Port())
		case seenAs:
			m.addr(e.hole.Target.Addr())
			m.port(e.hole.Target.Port())
		case passesAs:
			m.addr(e.hole.Target.Addr())
		}
	})
	if !add {
		return
	}
	at := m.open(unix.NFTA_SET_ELEM_TIMEOUT)
	*m = binary.BigEndian.AppendUint64(*m, uint64(timeout.Milliseconds()))
	m.close(at)
	switch e.kind {
	case leadsTo:
		m.value(unix.NFTA_SET_ELEM_DATA, func() {
			m.addr(e.hole.Target.Addr())
			m.port(e.hole.Target.Port())
		})
	case passesTo:
		m.value(unix.NFTA_SET_ELEM_DATA, func() { m.addr(e.hole.Target.Addr()) })
	case seenAs, passesAs:
		m.value(unix.NFTA_SET_ELEM_DATA, func() { m.addr(e.hole.SourceIP) })
	}
}

// value appends a key or a value, whose fields are written by fields.
func (m *message) value(typ uint16, fields func()) {
	nest := m.open(typ | unix.NLA_F_NESTED)
	at := m.open(unix.NFTA_DATA_VALUE)
	fields()
	m.close(at)
	m.close(nest)
}

// addr appends a field of four or sixteen bytes.
func (m *message) addr(a netip.Addr) {
	if a.Is4() {
		b := a.As4()
		*m = append(*m, b[:]...)
	} else {
		b := a.As16()
		*m = append(*m, b[:]...)
	}
}

// port appends a field of two bytes that takes four.
func (m *message) port(p uint16) { *m = append(*m, byte(p>>8), byte(p), 0, 0) }

func (m *message) text(typ uint16, s string) {
	at := m.open(typ)
	*m = append(append(*m, s...), 0)
	m.close(at)
}

// open begins an attribute and returns its place for close.
func (m *message) open(typ uint16) int {
	at := len(*m)
	*m = binary.NativeEndian.AppendUint16(append(*m, 0, 0), typ)
	return at
}

// close ends an attribute: its length, and the padding behind it.
func (m *message) close(at int) {
	binary.NativeEndian.PutUint16((*m)[at:], uint16(len(*m)-at))
	*m = nft.Pad(*m)
}

// openMessage begins a message with its struct nlmsghdr and struct nfgenmsg, and returns its place.
func (m *message) openMessage(typ, flags uint16, sequence uint32, family byte, resource uint16) int {
	at := len(*m)
	*m = append(*m, 0, 0, 0, 0) // the length
	*m = binary.NativeEndian.AppendUint16(*m, typ)
	*m = binary.NativeEndian.AppendUint16(*m, unix.NLM_F_REQUEST|flags)
	*m = binary.NativeEndian.AppendUint32(*m, sequence)
	*m = append(*m, 0, 0, 0, 0) // from whom: the kernel knows
	*m = append(*m, family, unix.NFNETLINK_V0)
	*m = binary.BigEndian.AppendUint16(*m, resource)
	return at
}

func (m *message) closeMessage(at int) {
	binary.NativeEndian.PutUint32((*m)[at:], uint32(len(*m)-at))
}

// acknowledge asks for an answer to the message at a place, whatever becomes of it.
func (m *message) acknowledge(at int) {
	flags := (*m)[at+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
}
