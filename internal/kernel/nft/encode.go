package nft

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/kernel/netlink"
)

// elementsPerMessage bounds a message of elements. The length of their list is a 16-bit number, and the
// library silently loses what exceeds it. An element is at most 128 bytes long here.
const elementsPerMessage = 500

func libTable(name string) *nftables.Table {
	return &nftables.Table{Name: name, Family: nftables.TableFamilyINet}
}

// addTable queues everything that a table holds.
func (b *batch) addTable(t ruleset.Table) {
	b.enc.AddTable(libTable(t.Name))
	b.operation("add table %s", t.Name)
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

// dropTable queues the removal of a table. It is no error if there is none.
func (b *batch) dropTable(name string) {
	b.enc.AddTable(libTable(name))
	b.operation("add table %s", name)
	b.enc.DelTable(libTable(name))
	b.operation("delete table %s", name)
}

// libHelper describes to the library: ct helper ftp { type "ftp" protocol tcp; l3proto inet }
func libHelper(table string) *nftables.NamedObj {
	return &nftables.NamedObj{
		Table: libTable(table),
		Name:  ruleset.HelperName,
		Type:  nftables.ObjTypeCtHelper,
		Obj: &expr.CtHelper{
			Name: ruleset.HelperName, L3Proto: unix.NFPROTO_INET, L4Proto: unix.IPPROTO_TCP,
		},
	}
}

func (b *batch) addHelper(table string) {
	b.enc.AddObj(libHelper(table))
	b.operation("add ct helper %s to table %s", ruleset.HelperName, table)
}

func (b *batch) deleteHelper(table string) {
	b.enc.DeleteObject(libHelper(table))
	b.operation("delete ct helper %s of table %s", ruleset.HelperName, table)
}

// libSet describes a set to the library.
func libSet(table string, s ruleset.Set) *nftables.Set {
	set := &nftables.Set{
		Table:         libTable(table),
		Name:          s.Name,
		KeyType:       concat(s.Version, s.Key),
		IsMap:         s.IsMap(),
		Interval:      s.Interval,
		HasTimeout:    s.Timeout || s.Expires,
		Counter:       s.Limited, // counterToLimit replaces it
		Size:          uint32(s.Size),
		Concatenation: len(s.Key) > 1,
	}
	if set.IsMap {
		set.DataType = concat(s.Version, s.Value)
	}
	return set
}

// concat returns the type of a key or a value with these columns.
func concat(v ruleset.Version, columns []ruleset.Column) nftables.SetDatatype {
	types := make([]nftables.SetDatatype, len(columns))
	for i, c := range columns {
		switch c {
		case ruleset.ColumnInterface:
			types[i] = nftables.TypeIFName
		case ruleset.ColumnSourcePort, ruleset.ColumnPort, ruleset.ColumnToPort:
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
	b.operation("add set %s", s.Name)
	b.addElements(set, s, s.Elements)
}

func (b *batch) addElements(set *nftables.Set, s ruleset.Set, elements []ruleset.Element) {
	b.inChunks(s, elements, "add", func(chunk []nftables.SetElement) error {
		return b.enc.SetAddElements(set, chunk)
	})
}

// expiryDelay is how much later than its time the kernel deletes an element that expires. Until then the
// gateway has deleted it: the kernel refuses to delete what has expired, and the whole transaction with it.
const expiryDelay = 5 * time.Second

func (b *batch) deleteElements(set *nftables.Set, s ruleset.Set, elements []ruleset.Element) {
	b.inChunks(s, elements, "delete", func(chunk []nftables.SetElement) error {
		return b.enc.SetDeleteElements(set, chunk)
	})
}

// inChunks queues elements in messages of elementsPerMessage.
func (b *batch) inChunks(s ruleset.Set, elements []ruleset.Element, verb string,
	queue func([]nftables.SetElement) error) {
	for chunk := range slices.Chunk(elements, elementsPerMessage/2) { // an element may be two of the kernel's
		lib := make([]nftables.SetElement, 0, len(chunk))
		for _, e := range chunk {
			lib = append(lib, libElements(s, e)...)
		}
		b.check(queue(lib))
		if first := s.ElementText(chunk[0]); len(chunk) == 1 {
			b.operation("%s element %s of set %s", verb, first, s.Name)
		} else {
			b.operation("%s %d elements of set %s, from %s", verb, len(chunk), s.Name, first)
		}
	}
}

// libElements encodes an element. In an interval set the key has an end, field by field. In one with a
// single field the end is an element of its own: the first key after the interval, unless there is none.
func libElements(s ruleset.Set, e ruleset.Element) []nftables.SetElement {
	key, end := fields(s.Key, e)
	value, _ := fields(s.Value, e)
	element := nftables.SetElement{Key: key, Val: value}
	switch {
	case s.Interval && len(s.Key) == 1:
		if !e.Banned.Until.IsZero() {
			element.Timeout = max(time.Until(e.Banned.Until)+expiryDelay, time.Millisecond)
		}
		if next := e.Banned.Last.Next(); next.IsValid() {
			return []nftables.SetElement{element, {Key: next.AsSlice(), IntervalEnd: true}}
		}
	case s.Interval:
		element.KeyEnd = end
	}
	return []nftables.SetElement{element}
}

// fields encodes columns of an element: the first values that they match, and the last. Fields that stand
// side by side are padded to a multiple of four bytes each.
func fields(columns []ruleset.Column, e ruleset.Element) (first, last []byte) {
	if len(columns) == 1 {
		return field(columns[0], e)
	}
	for _, c := range columns {
		f, l := field(c, e)
		first, last = netlink.Pad(append(first, f...)), netlink.Pad(append(last, l...))
	}
	return first, last
}

// field encodes one column of an element: the first value that it matches, and the last.
func field(c ruleset.Column, e ruleset.Element) (first, last []byte) {
	switch c {
	case ruleset.ColumnInterface:
		name := make([]byte, unix.IFNAMSIZ)
		copy(name, e.Interface)
		return name, name
	case ruleset.ColumnBanned:
		return e.Banned.First.AsSlice(), e.Banned.Last.AsSlice()
	case ruleset.ColumnClient:
		return e.Client.Addr().AsSlice(), forward.LastAddr(e.Client).AsSlice()
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

// hooks are the library's numbers of hooks, by nft's names.
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
	b.operation("add chain %s (%s hook %s priority %s)", c.Name, c.Type, c.Hook, c.Priority.Name)
}

func (b *batch) addRules(table string, c ruleset.Chain) {
	for _, r := range c.Rules {
		b.enc.AddRule(&nftables.Rule{Table: libTable(table), Chain: libChain(table, c), Exprs: encodeRule(r)})
		b.operation("add rule %q to chain %s", r, c.Name)
	}
}
