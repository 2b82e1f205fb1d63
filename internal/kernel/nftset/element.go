// Package nftset adds and deletes elements in the sets of ftpgate's tables while the tables stand: pinholes,
// each for one data connection, and passthrough ranges, each for the encrypted sessions of a client.
//
// It never adds or deletes a table, a set or a rule; package nft does. Elements expire in the kernel by
// themselves, so that a crash leaves nothing behind.
//
// Locks: PinholeSet.txLock, held during a transaction: only callers that change pinholes wait for it; then
// PinholeSet.mu, and what the functions of Keep and Restore take. A caller that changes a passthrough waits
// for the running transaction without a lock.
package nftset

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/kernel/netlink"
)

// destroySetElement is NFT_MSG_DESTROYSETELEM: a deletion that succeeds if there is no such element
// (include/uapi/linux/netfilter/nf_tables.h, since Linux 6.3).
const destroySetElement = 30

// role says what the map is for that holds an element.
type role uint8

const (
	dnatMap     role = iota // ruleset.PinholeMap
	snatMap                 // ruleset.SourceMap
	pinholeMaps             // how many maps a pinhole has

	passthroughDNATMap role = iota // ruleset.PassthroughMap
	passthroughSNATMap             // ruleset.PassthroughSourceMap
	ownSourceMap                   // ruleset.OwnSourceMap
)

// element is the element of a pinhole or a passthrough range in one of its maps.
type element struct {
	role    role
	pinhole *pinhole.Pinhole  // of a passthrough range: its addresses, without ports; not changed
	ports   forward.PortRange // of a passthrough range: they select the map, and are not part of the element
}

func pinholeElement(r role, h *pinhole.Pinhole) element { return element{role: r, pinhole: h} }

func pinholeElements(h *pinhole.Pinhole) []element {
	return []element{pinholeElement(dnatMap, h), pinholeElement(snatMap, h)}
}

// passthroughElements returns all elements of passthrough ranges. Those of one map are consecutive.
func passthroughElements(passthroughs ...pinhole.Passthrough) (elements []element) {
	for _, r := range []role{passthroughDNATMap, passthroughSNATMap} {
		for _, p := range passthroughs {
			elements = append(elements, passthroughElement(r, p))
		}
	}
	return elements
}

func passthroughElement(r role, p pinhole.Passthrough) element {
	at, to := netip.AddrPortFrom(p.Listen, 0), netip.AddrPortFrom(p.Target, 0)
	addresses := pinhole.Pinhole{From: p.From, Listen: at, Target: to, SourceIP: p.SourceIP}
	return element{r, &addresses, p.Ports}
}

type change struct {
	operation uint16 // NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM or destroySetElement
	element   element
}

func changesOf(operation uint16, elements []element) []change {
	changes := make([]change, len(elements))
	for i, e := range elements {
		changes[i] = change{operation, e}
	}
	return changes
}

// setID identifies the map of an element.
type setID struct {
	version int // index into versions
	role    role
	ports   forward.PortRange
}

func (e element) set() setID {
	s := setID{0, e.role, e.ports}
	if e.pinhole.From.Is6() {
		s.version = 1
	}
	return s
}

// The library could write these messages, but it takes longer than the kernel needs to process them
// (BenchmarkPinholeEncodeByLibrary), and every transfer needs some. They always have the same form.

// writeBatchMessage writes the message that begins or ends a transaction.
func writeBatchMessage(b *netlink.Buffer, typ uint16, sequence uint32) {
	h := netlink.Header{Type: typ, Flags: unix.NLM_F_REQUEST, Sequence: sequence}
	b.EndMessage(b.BeginNetfilter(h, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES))
}

// writeChanges writes a message with changes of one set. All have the same operation.
func writeChanges(b *netlink.Buffer, sequence uint32, table, set string, timeout time.Duration,
	changes []change) {
	operation, flags := changes[0].operation, uint16(unix.NLM_F_REQUEST)
	if operation == unix.NFT_MSG_NEWSETELEM {
		// Without EXCL the kernel would keep an equal element, which may be used up or about to expire.
		flags |= unix.NLM_F_CREATE | unix.NLM_F_EXCL
	}
	h := netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | operation, Flags: flags, Sequence: sequence}
	message := b.BeginNetfilter(h, unix.NFPROTO_INET, 0)
	b.Text(unix.NFTA_SET_ELEM_LIST_SET, set)
	b.Text(unix.NFTA_SET_ELEM_LIST_TABLE, table)
	list := b.BeginNested(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
	for _, c := range changes {
		item := b.BeginNested(unix.NFTA_LIST_ELEM)
		c.element.writeKey(b)
		if operation == unix.NFT_MSG_NEWSETELEM {
			b.Uint64(unix.NFTA_SET_ELEM_TIMEOUT, uint64(timeout.Milliseconds()))
			c.element.writeValue(b)
		}
		b.EndAttr(item)
	}
	b.EndAttr(list)
	b.EndMessage(message)
}

func (e *element) writeKey(b *netlink.Buffer) {
	nest := b.BeginNested(unix.NFTA_SET_ELEM_KEY)
	key := b.BeginAttr(unix.NFTA_DATA_VALUE)
	b.AppendAddr(e.pinhole.From)
	if e.role != ownSourceMap {
		b.AppendAddr(e.pinhole.Listen.Addr())
	}
	switch e.role {
	case ownSourceMap:
		b.AppendPort(e.pinhole.Listen.Port())
		b.AppendAddr(e.pinhole.Target.Addr())
		b.AppendPort(e.pinhole.Target.Port())
	case dnatMap:
		b.AppendPort(e.pinhole.Listen.Port())
	case snatMap:
		b.AppendAddr(e.pinhole.Target.Addr())
		b.AppendPort(e.pinhole.Target.Port())
	case passthroughSNATMap:
		b.AppendAddr(e.pinhole.Target.Addr())
	}
	b.EndAttr(key)
	b.EndAttr(nest)
}

func (e *element) writeValue(b *netlink.Buffer) {
	nest := b.BeginNested(unix.NFTA_SET_ELEM_DATA)
	value := b.BeginAttr(unix.NFTA_DATA_VALUE)
	switch e.role {
	case dnatMap:
		b.AppendAddr(e.pinhole.Target.Addr())
		b.AppendPort(e.pinhole.Target.Port())
	case passthroughDNATMap:
		b.AppendAddr(e.pinhole.Target.Addr())
	case snatMap, passthroughSNATMap, ownSourceMap:
		b.AppendAddr(e.pinhole.SourceIP)
	}
	b.EndAttr(value)
	b.EndAttr(nest)
}
