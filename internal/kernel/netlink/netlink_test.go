package netlink

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// native returns 16-bit numbers in the machine's byte order, which headers have.
func native(numbers ...uint16) (b []byte) {
	for _, n := range numbers {
		b = binary.NativeEndian.AppendUint16(b, n)
	}
	return b
}

func TestWriteAttribute(t *testing.T) {
	for _, tt := range []struct {
		name  string
		write func(*Buffer)
		want  []byte
	}{
		{"one byte", func(b *Buffer) { b.Uint8(7, 0xab) }, append(native(5, 7), 0xab, 0, 0, 0)},
		{"two bytes", func(b *Buffer) { b.Uint16(7, 0x0102) }, append(native(6, 7), 1, 2, 0, 0)},
		{"four bytes", func(b *Buffer) { b.Uint32(7, 0x01020304) }, append(native(8, 7), 1, 2, 3, 4)},
		{"eight bytes", func(b *Buffer) { b.Uint64(7, 0x0102030405060708) },
			append(native(12, 7), 1, 2, 3, 4, 5, 6, 7, 8)},
		{"string", func(b *Buffer) { b.Text(7, "ftp") }, append(native(8, 7), "ftp\x00"...)},
		{"string, padded", func(b *Buffer) { b.Text(7, "ftps") },
			append(native(9, 7), "ftps\x00\x00\x00\x00"...)},
		{"nothing", func(b *Buffer) { b.Bytes(7, nil) }, native(4, 7)},
		{"IPv4", func(b *Buffer) { b.Addr(7, netip.MustParseAddr("192.168.5.2")) },
			append(native(8, 7), 192, 168, 5, 2)},
		{"IPv6", func(b *Buffer) { b.Addr(7, netip.MustParseAddr("2001:db8::2")) },
			append(native(20, 7), 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2)},
		{"nested", func(b *Buffer) {
			start := b.BeginNested(1)
			b.Uint8(2, 6)
			inner := b.BeginNested(3)
			b.EndAttr(inner)
			b.EndAttr(start)
		}, slices.Concat(native(16, 1|unix.NLA_F_NESTED), append(native(5, 2), 6, 0, 0, 0), native(4,
			3|unix.NLA_F_NESTED))},
		{"address and port side by side", func(b *Buffer) {
			start := b.BeginAttr(1)
			b.AppendAddr(netip.MustParseAddr("192.168.5.2"))
			b.AppendPort(2121)
			b.EndAttr(start)
		}, append(native(12, 1), 192, 168, 5, 2, 8, 73, 0, 0)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			used := Buffer(bytes.Repeat([]byte{0xff}, 64))[:0] // what a buffer held before must not show
			if tt.write(&used); !bytes.Equal(used, tt.want) {
				t.Errorf("got %x; want %x", used, tt.want)
			}
			var empty Buffer
			if tt.write(&empty); !bytes.Equal(empty, tt.want) {
				t.Errorf("in an empty buffer: got %x; want %x", empty, tt.want)
			}
		})
	}
}

// A list or a value that does not fit into the 16-bit length must not be cut off without a word.
func TestWriteTooLong(t *testing.T) {
	for name, write := range map[string]func(*Buffer, []byte){
		"in one piece": func(b *Buffer, value []byte) { b.Bytes(1, value) },
		"in parts": func(b *Buffer, value []byte) {
			start := b.BeginAttr(1)
			*b = append(*b, value...)
			b.EndAttr(start)
		},
	} {
		var b Buffer
		write(&b, make([]byte, 1<<16-1-AttrLen))
		if len(b) != 1<<16 || len(find(b, 1)) != 1<<16-1-AttrLen {
			t.Errorf("%s: got %d bytes of the longest attribute; want %d", name, len(b), 1<<16)
		}
		panicked := func() (p any) {
			defer func() { p = recover() }()
			write(&b, make([]byte, 1<<16-AttrLen))
			return nil
		}()
		if panicked == nil {
			t.Errorf("%s: got no panic for a byte more", name)
		}
	}
}

func TestMessages(t *testing.T) {
	var b Buffer
	first := Header{Type: 0x0102, Flags: unix.NLM_F_REQUEST, Sequence: 7}
	start := b.BeginNetfilter(first, unix.AF_INET6, 2121)
	b.Uint8(1, 9)
	b.EndMessage(start)
	second := Header{Type: 3, Sequence: 8}
	start = b.BeginMessage(second)
	b = append(b, 0xee) // a message of odd length
	b.EndMessage(start)
	b.Acknowledge(start)
	second.Flags = unix.NLM_F_ACK
	b = Pad(b)
	whole := len(b)
	b = append(b, b[:HeaderLen]...) // the beginning of another

	var headers []Header
	var bodies [][]byte
	for h, body := range Messages(b) {
		headers, bodies = append(headers, h), append(bodies, body)
	}
	if want := []Header{first, second}; !slices.Equal(headers, want) {
		t.Fatalf("got headers %+v; want %+v", headers, want)
	}
	want := [][]byte{append([]byte{unix.AF_INET6, 0, 8, 73}, append(native(5, 1), 9, 0, 0, 0)...), {0xee}}
	if !slices.EqualFunc(bodies, want, bytes.Equal) {
		t.Errorf("got bodies %x; want %x", bodies, want)
	}
	for h := range Messages(b[:whole]) {
		if h != first {
			t.Errorf("got %+v; want the first message", h)
		}
		break
	}
	for _, length := range []uint32{0, HeaderLen - 1, HeaderLen + 1, 1<<32 - 1} {
		cut := slices.Clone(b[:HeaderLen])
		binary.NativeEndian.PutUint32(cut, length)
		for h := range Messages(cut) {
			t.Errorf("length %d of %d bytes: got message %+v; want none", length, len(cut), h)
		}
	}
}

func TestErrorNumber(t *testing.T) {
	for _, tt := range []struct {
		body []byte
		want unix.Errno
		ok   bool
	}{
		{native(0, 0), 0, true},
		{binary.NativeEndian.AppendUint32(nil, uint32(1<<32-int(unix.ENOENT))), unix.ENOENT, true},
		{[]byte{0, 0, 0}, 0, false},
	} {
		if got, ok := ErrorNumber(tt.body); got != tt.want || ok != tt.ok {
			t.Errorf("%x: got %d, %t; want %d, %t", tt.body, got, ok, tt.want, tt.ok)
		}
	}
	if got := Errno(fmt.Errorf("netlink receive: %w", unix.EPERM)); got != unix.EPERM {
		t.Errorf("got %v; want %v alone", got, unix.EPERM)
	}
	if got := Errno(io.EOF); !errors.Is(got, io.EOF) {
		t.Errorf("got %v; want %v", got, io.EOF)
	}
}

func TestRead(t *testing.T) {
	var b Buffer
	b.Uint32(1, 11)
	outer := b.BeginNested(2)
	inner := b.BeginNested(3)
	b.Uint64(4|unix.NLA_F_NET_BYTEORDER, 44)
	b.Uint64(4, 45)
	b.EndAttr(inner)
	b.EndAttr(outer)
	b.Text(5, "ftp")

	var types []uint16
	for typ := range Attributes(b) {
		types = append(types, typ)
	}
	if want := []uint16{1, 2, 5}; !slices.Equal(types, want) {
		t.Errorf("got types %d; want %d", types, want)
	}
	if got := Uint32(Find(b, 1)); got != 11 {
		t.Errorf("got %d; want 11", got)
	}
	if got := Uint64(Find(b, 2, 3, 4)); got != 44 {
		t.Errorf("got %d; want the first of the two, 44", got)
	}
	if got := Text(Find(b, 5)); string(got) != "ftp" {
		t.Errorf("got %q; want ftp", got)
	}
	if got := Text([]byte("ends here")); string(got) != "ends here" {
		t.Errorf("without a zero byte: got %q; want all", got)
	}
	for _, types := range [][]uint16{{6}, {2, 4}, {2, 3, 4, 4}, {6, 1}} {
		if got := Find(b, types...); got != nil {
			t.Errorf("%d: got %x; want nothing", types, got)
		}
	}
	if got := Uint32(Find(b, 5)[:3]); got != 0 {
		t.Errorf("a number of three bytes: got %d; want 0", got)
	}
	if got := Uint64(Find(b, 1)); got != 0 {
		t.Errorf("a number of four bytes as one of eight: got %d; want 0", got)
	}
}

func TestRewrite(t *testing.T) {
	var b, want Buffer
	for range 2 {
		b.Bytes(1|unix.NLA_F_NESTED, []byte{1})
		b.Bytes(2, []byte{2, 2})
		want.Bytes(1|unix.NLA_F_NESTED, []byte{1, 9, 9, 9, 9})
		want.Bytes(2, []byte{2, 2})
	}
	before := slices.Clone(b)
	got := Rewrite(append(b, 1, 2), 1,
		func(value []byte) []byte { return append(slices.Clip(value), 9, 9, 9, 9) })
	if !bytes.Equal(got, want) {
		t.Errorf("got %x; want %x", got, want)
	}
	if !bytes.Equal(b, before) {
		t.Errorf("the list itself: got %x; want it unchanged, %x", b, before)
	}
}

// A reader may stop anywhere, and an attribute with an impossible length ends the list.
func TestReadHostile(t *testing.T) {
	for name, list := range map[string][]byte{
		"nothing":               nil,
		"half a header":         native(8),
		"length 0":              native(0, 1, 5, 1),
		"shorter than a header": native(3, 1, 5, 1),
		"longer than the list":  native(9, 1, 0, 0),
		"longest":               native(65535, 1, 0, 0),
	} {
		for typ, value := range Attributes(list) {
			t.Errorf("%s: got attribute %d, %x; want none", name, typ, value)
		}
		if got := Find(list, 1); got != nil {
			t.Errorf("%s: found %x; want nothing", name, got)
		}
	}
	unpadded := append(native(5, 1), 7) // the last attribute of a message may lack its padding
	if got := Find(unpadded, 1); !bytes.Equal(got, []byte{7}) {
		t.Errorf("got %x; want 07", got)
	}
}
