package conntrack

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/netflow"
)

// packet returns a TCP segment with this many bytes of options and data. The data itself is left out.
func packet(from, to netip.AddrPort, flags byte, seq, ack uint32, options, data int) []byte {
	var b []byte
	tcp := headerTCP + options + data
	if from.Addr().Is4() {
		b = append(b, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(headerIPv4+tcp))
		b = append(b, 0, 0, 0, 0, 64, unix.IPPROTO_TCP, 0, 0)
	} else {
		b = append(b, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(tcp))
		b = append(b, unix.IPPROTO_TCP, 64)
	}
	b = append(append(b, from.Addr().AsSlice()...), to.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, from.Port()), to.Port())
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, seq), ack)
	b = append(b, byte((headerTCP+options)/4)<<4, flags, 0, 0, 0, 0, 0, 0)
	return append(b, make([]byte, options)...)
}

func TestParseSegment(t *testing.T) {
	for _, tuple := range []netflow.Tuple{tuple4, tuple6} {
		want := netflow.Segment{From: tuple.From, To: tuple.To,
			SYN: true, ACK: true, Sequence: 1 << 31, Acknowledged: 7, Length: 0}
		if got, ok := parseSegment(packet(tuple.From, tuple.To, 0x12, 1<<31, 7, 20, 0)); !ok || got != want {
			t.Errorf("got %+v; want %+v", got, want)
		}
		want = netflow.Segment{From: tuple.From, To: tuple.To,
			FIN: true, RST: true, Sequence: 1, Length: 1448}
		whole := packet(tuple.From, tuple.To, 0x5, 1, 0, 12, 1448)
		if got, ok := parseSegment(whole); !ok || got != want {
			t.Errorf("got %+v; want %+v", got, want)
		}
		for i := range len(whole) - 12 {
			if got, ok := parseSegment(whole[:i]); ok {
				t.Errorf("got %+v of %d bytes; want nothing", got, i)
			}
		}
	}
	other := packet(tuple4.From, tuple4.To, 0x2, 1, 0, 0, 0)
	other[9] = unix.IPPROTO_UDP
	long := packet(tuple4.From, tuple4.To, 0x1, 1, 0, 0, 0)
	long[2], long[3] = 0, 0 // RFC 2675 for IPv6; Linux does it in IPv4 as well
	invalid := map[string][]byte{"UDP": other, "a packet without a length": long, "version 5": {0x50}}
	for what, b := range invalid {
		if got, ok := parseSegment(b); ok {
			t.Errorf("%s: got %+v; want nothing", what, got)
		}
	}
}

func FuzzParseSegment(f *testing.F) {
	for _, tuple := range []netflow.Tuple{tuple4, tuple6} {
		f.Add(packet(tuple.From, tuple.To, 0x1, 1, 2, 12, 100))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, ok := parseSegment(b); ok && (!s.From.IsValid() || !s.To.IsValid() || s.Length > 1<<16) {
			t.Errorf("got %+v", s)
		}
	})
}
