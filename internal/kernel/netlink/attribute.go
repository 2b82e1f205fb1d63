package netlink

import (
	"bytes"
	"encoding/binary"
	"iter"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// typeFlags are the bits of an attribute's type that say how its value is encoded.
const typeFlags = unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER

// next splits the first attribute off a list; typ still has its flags. It returns false at the end of the
// list, and if the length of the attribute is impossible.
func next(list []byte) (typ uint16, value, rest []byte, ok bool) {
	if len(list) < AttrLen {
		return 0, nil, nil, false
	}
	length := int(binary.NativeEndian.Uint16(list))
	if length < AttrLen || length > len(list) {
		return 0, nil, nil, false
	}
	typ, rest = binary.NativeEndian.Uint16(list[2:]), list[min(Align(length), len(list)):]
	return typ, list[AttrLen:length], rest, true
}

// Attributes iterates over a list of attributes: the type of each, without flags, and its value, which is
// itself a list for a nested attribute.
func Attributes(list []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for typ, value, rest, ok := next(list); ok; typ, value, rest, ok = next(rest) {
			if !yield(typ&^typeFlags, value) {
				return
			}
		}
	}
}

// Find returns the value of the first attribute of a type, or nil. With several types it goes into nested
// attributes, one level for each type.
func Find(list []byte, types ...uint16) []byte {
	for _, want := range types {
		list = find(list, want)
	}
	return list
}

func find(list []byte, want uint16) []byte {
	for typ, value, rest, ok := next(list); ok; typ, value, rest, ok = next(rest) {
		if typ&^typeFlags == want {
			return value
		}
	}
	return nil
}

// ByType stores the value of each attribute of a list in values, at the index of its type. It leaves out
// types that values has no place for. Of several attributes of a type the last one counts.
func ByType(list []byte, values [][]byte) {
	for typ, value, rest, ok := next(list); ok; typ, value, rest, ok = next(rest) {
		if i := int(typ &^ typeFlags); i < len(values) {
			values[i] = value
		}
	}
}

// Uint32 reads a big-endian number of four bytes. It returns 0 if the value has another length.
func Uint32(value []byte) uint32 {
	if len(value) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(value)
}

// Uint64 reads a big-endian number of eight bytes. It returns 0 if the value has another length.
func Uint64(value []byte) uint64 {
	if len(value) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(value)
}

// Text returns a value up to its first zero byte, which ends the kernel's strings.
func Text(value []byte) []byte {
	text, _, _ := bytes.Cut(value, []byte{0})
	return text
}

// Rewrite returns a copy of a list of attributes in which rewrite has replaced the value of every attribute
// of one type. An incomplete attribute at the end is left out.
func Rewrite(list []byte, want uint16, rewrite func(value []byte) []byte) []byte {
	var out Buffer
	for typ, value, rest, ok := next(list); ok; typ, value, rest, ok = next(rest) {
		if typ&^typeFlags == want {
			value = rewrite(value)
		}
		out.Bytes(typ, value)
	}
	return out
}

// Buffer is a sequence of messages or attributes that is being written; its zero value is empty and ready.
// Numbers are big-endian.
type Buffer []byte

// BeginMessage appends a header and returns its place for EndMessage.
func (b *Buffer) BeginMessage(h Header) (start int) {
	start = len(*b)
	out := append(*b, 0, 0, 0, 0) // the length
	out = binary.NativeEndian.AppendUint16(out, h.Type)
	out = binary.NativeEndian.AppendUint16(out, h.Flags)
	out = binary.NativeEndian.AppendUint32(out, h.Sequence)
	*b = append(out, 0, 0, 0, 0) // the sender's port, which the kernel knows
	return start
}

// BeginNetfilter is BeginMessage for a message to netfilter: it appends struct nfgenmsg as well. What
// resource means depends on the type of the message.
func (b *Buffer) BeginNetfilter(h Header, family byte, resource uint16) (start int) {
	start = b.BeginMessage(h)
	*b = binary.BigEndian.AppendUint16(append(*b, family, unix.NFNETLINK_V0), resource)
	return start
}

// EndMessage sets the length of the message that begins at start.
func (b *Buffer) EndMessage(start int) {
	binary.NativeEndian.PutUint32((*b)[start:], uint32(len(*b)-start))
}

// Acknowledge asks the kernel to answer the message that begins at start even if it succeeds.
func (b *Buffer) Acknowledge(start int) {
	flags := (*b)[start+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
}

// BeginAttr begins an attribute and returns its place for EndAttr. The value is what is appended in between.
func (b *Buffer) BeginAttr(typ uint16) (start int) {
	start = len(*b)
	*b = binary.NativeEndian.AppendUint16(append(*b, 0, 0), typ)
	return start
}

// BeginNested is BeginAttr for an attribute that holds attributes.
func (b *Buffer) BeginNested(typ uint16) (start int) { return b.BeginAttr(typ | unix.NLA_F_NESTED) }

// EndAttr sets the length of the attribute that begins at start, and pads it. It panics if the attribute is
// longer than its 16-bit length can say: the caller has to write less.
func (b *Buffer) EndAttr(start int) {
	binary.NativeEndian.PutUint16((*b)[start:], attrLength(len(*b)-start))
	*b = Pad(*b)
}

func attrLength(length int) uint16 {
	if length >= 1<<16 {
		panic("netlink: attribute longer than 65535 bytes")
	}
	return uint16(length)
}

// attr appends an attribute whose value has a known length in bytes, and returns the value to be filled in.
func (b *Buffer) attr(typ uint16, length int) (value []byte) {
	start, size := len(*b), Align(AttrLen+length)
	*b = slices.Grow(*b, size)[:start+size]
	attr := (*b)[start:]
	binary.NativeEndian.PutUint32(attr[size-unix.NLA_ALIGNTO:], 0) // the padding
	binary.NativeEndian.PutUint16(attr, attrLength(AttrLen+length))
	binary.NativeEndian.PutUint16(attr[2:], typ)
	return attr[AttrLen : AttrLen+length]
}

// Bytes appends an attribute.
func (b *Buffer) Bytes(typ uint16, value []byte) { copy(b.attr(typ, len(value)), value) }

// Text appends an attribute with a string and the zero byte that ends it.
func (b *Buffer) Text(typ uint16, s string) {
	value := b.attr(typ, len(s)+1)
	value[copy(value, s)] = 0
}

// Uint8 appends an attribute with a number of one byte.
func (b *Buffer) Uint8(typ uint16, n uint8) { b.attr(typ, 1)[0] = n }

// Uint16 appends an attribute with a number of two bytes.
func (b *Buffer) Uint16(typ uint16, n uint16) { binary.BigEndian.PutUint16(b.attr(typ, 2), n) }

// Uint32 appends an attribute with a number of four bytes.
func (b *Buffer) Uint32(typ uint16, n uint32) { binary.BigEndian.PutUint32(b.attr(typ, 4), n) }

// Uint64 appends an attribute with a number of eight bytes.
func (b *Buffer) Uint64(typ uint16, n uint64) { binary.BigEndian.PutUint64(b.attr(typ, 8), n) }

// Addr appends an attribute with an address of four or sixteen bytes.
func (b *Buffer) Addr(typ uint16, a netip.Addr) {
	start := b.BeginAttr(typ)
	b.AppendAddr(a)
	b.EndAttr(start)
}

// AppendAddr appends an address of four or sixteen bytes to the value of the attribute that was begun last.
func (b *Buffer) AppendAddr(a netip.Addr) {
	if a.Is4() {
		v4 := a.As4()
		*b = append(*b, v4[:]...)
	} else {
		v6 := a.As16()
		*b = append(*b, v6[:]...)
	}
}

// AppendPort appends a port, padded to four bytes, to the value of the attribute that was begun last.
func (b *Buffer) AppendPort(port uint16) { *b = append(*b, byte(port>>8), byte(port), 0, 0) }
