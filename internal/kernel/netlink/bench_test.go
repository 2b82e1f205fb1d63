package netlink

import (
	"net/netip"
	"testing"

	mdlayher "github.com/mdlayher/netlink"
)

var server = netip.MustParseAddr("203.0.113.21")

// writeSample writes what conntrack and nftset write: nested attributes with addresses and ports.
func writeSample(b *Buffer) {
	for typ := range uint16(2) {
		tuple := b.BeginNested(typ + 1)
		addresses := b.BeginNested(1)
		b.Addr(1, server)
		b.Addr(2, server)
		b.EndAttr(addresses)
		protocol := b.BeginNested(2)
		b.Uint8(1, 6)
		b.Uint16(2, 2121)
		b.Uint16(3, 21)
		b.EndAttr(protocol)
		b.EndAttr(tuple)
	}
	b.Uint64(3, 30000)
}

func BenchmarkWrite(b *testing.B) {
	var out Buffer
	b.ReportAllocs()
	for b.Loop() {
		out = out[:0]
		writeSample(&out)
	}
}

func BenchmarkWriteByLibrary(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		e := mdlayher.NewAttributeEncoder()
		for typ := range uint16(2) {
			e.Nested(typ+1, func(e *mdlayher.AttributeEncoder) error {
				e.Nested(1, func(e *mdlayher.AttributeEncoder) error {
					e.Bytes(1, server.AsSlice())
					e.Bytes(2, server.AsSlice())
					return nil
				})
				e.Nested(2, func(e *mdlayher.AttributeEncoder) error {
					e.Uint8(1, 6)
					e.Uint16(2, 2121)
					e.Uint16(3, 21)
					return nil
				})
				return nil
			})
		}
		e.Uint64(3, 30000)
		if _, err := e.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}

// count visits every attribute of the sample.
func count(list []byte, depth int) (n int) {
	for _, value := range Attributes(list) {
		if n++; depth > 0 {
			n += count(value, depth-1)
		}
	}
	return n
}

func countByLibrary(list []byte, depth int) (n int, err error) {
	d, err := mdlayher.NewAttributeDecoder(list)
	if err != nil {
		return 0, err
	}
	for d.Next() {
		if n++; depth > 0 && d.TypeFlags() != 0 {
			inner, err := countByLibrary(d.Bytes(), depth-1)
			if err != nil {
				return 0, err
			}
			n += inner
		}
	}
	return n, d.Err()
}

func BenchmarkRead(b *testing.B) {
	var sample Buffer
	writeSample(&sample)
	b.ReportAllocs()
	for b.Loop() {
		count(sample, 2)
	}
}

func BenchmarkReadByLibrary(b *testing.B) {
	var sample Buffer
	writeSample(&sample)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := countByLibrary(sample, 2); err != nil {
			b.Fatal(err)
		}
	}
}
