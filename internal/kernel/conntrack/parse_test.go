package conntrack

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/kernel/netlink"
)

var (
	tuple4 = netflow.Tuple{From: netip.MustParseAddrPort("192.168.5.1:40000"),
		To: netip.MustParseAddrPort("192.168.5.2:2121")}
	tuple6 = netflow.Tuple{From: netip.MustParseAddrPort("[2001:db8:5::1]:40001"),
		To: netip.MustParseAddrPort("[2001:db8:5::2]:2122")}
)

// attr returns an attribute.
func attr(typ uint16, value ...byte) []byte {
	var b netlink.Buffer
	b.Bytes(typ, value)
	return b
}

// tupleAttr returns a tuple as an attribute.
func tupleAttr(typ uint16, t netflow.Tuple) []byte {
	var b netlink.Buffer
	writeTuple(&b, typ, t)
	return b
}

func number64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// fullFlow returns the body of a message with every attribute that parseFlow reads, and with unknown ones.
func fullFlow() []byte {
	counters := func(typ uint16, packets, bytes uint64) []byte {
		return attr(typ|unix.NLA_F_NESTED, slices.Concat(attr(nl.CTA_COUNTERS_PACKETS, number64(packets)...),
			attr(nl.CTA_COUNTERS_BYTES, number64(bytes)...), attr(99, 1))...)
	}
	return slices.Concat(
		[]byte{unix.AF_INET, 0, 0, 0},
		tupleAttr(nl.CTA_TUPLE_ORIG, tuple4), tupleAttr(nl.CTA_TUPLE_REPLY, tuple6),
		attr(nl.CTA_STATUS, 0, 0, 1, statusSeenReply),
		attr(7, 0, 0, 0, 30),
		counters(nl.CTA_COUNTERS_ORIG, 4, 216), counters(nl.CTA_COUNTERS_REPLY, 5, 1<<40),
		attr(nl.CTA_PROTOINFO|unix.NLA_F_NESTED,
			attr(nl.CTA_PROTOINFO_TCP|unix.NLA_F_NESTED,
				slices.Concat(attr(nl.CTA_PROTOINFO_TCP_STATE, byte(netflow.TCPLastAck)),
					attr(nl.CTA_PROTOINFO_TCP_FLAGS_REPLY, 0x05, 0x37))...)...),
		attr(nl.CTA_ID, 0xde, 0xad, 0xbe, 0xef),
		tupleAttr(ctaTupleMaster, tuple6),
		attr(200, 1, 2, 3),
	)
}

func TestParseFlow(t *testing.T) {
	want := netflow.Flow{
		ID: 0xdeadbeef, Original: tuple4, Reply: tuple6, Master: tuple6,
		State: netflow.TCPLastAck, Replied: true, Closed: true,
		Sent: netflow.Counter{Packets: 4, Bytes: 216}, Received: netflow.Counter{Packets: 5, Bytes: 1 << 40},
	}
	got := netflow.Flow{ID: 7} // of another message
	if !parseFlow(fullFlow(), &got, nil) || got != want {
		t.Errorf("got %+v; want %+v", got, want)
	}
	tuples := slices.Concat([]byte{0, 0, 0, 0}, tupleAttr(nl.CTA_TUPLE_ORIG, tuple6),
		tupleAttr(nl.CTA_TUPLE_REPLY, tuple4))
	if !parseFlow(tuples, &got, nil) || got != (netflow.Flow{Original: tuple6, Reply: tuple4}) {
		t.Errorf("got %+v; want only the tuples", got)
	}
	parseFlow(fullFlow(), &got, func(original, master netflow.Tuple) bool {
		if original != want.Original || master != want.Master {
			t.Errorf("wanted? got %v, %v", original, master)
		}
		return true
	})
	if parseFlow(fullFlow(), &got, func(netflow.Tuple, netflow.Tuple) bool { return false }) {
		t.Error("got an unwanted flow")
	}
}

// A message that is not about TCP, or is incomplete, is no flow.
func TestParseNoFlow(t *testing.T) {
	generic := []byte{unix.AF_INET, 0, 0, 0}
	udp := tupleAttr(nl.CTA_TUPLE_ORIG, tuple4)
	udp[len(udp)-20] = unix.IPPROTO_UDP // after the addresses, before two ports
	protocol := udp[len(udp)-28:]
	reply := tupleAttr(nl.CTA_TUPLE_REPLY, tuple4)
	shortTuple := attr(nl.CTA_TUPLE_ORIG, slices.Concat(attr(nl.CTA_TUPLE_IP, attr(nl.CTA_IP_V4_SRC, 1,
		2)...), protocol)...)
	for name, body := range map[string][]byte{
		"nothing":       nil,
		"half a header": {unix.AF_INET, 0},
		"no attributes": generic,
		"no reply":      slices.Concat(generic, tupleAttr(nl.CTA_TUPLE_ORIG, tuple4)),
		"no original":   slices.Concat(generic, reply),
		"UDP":           slices.Concat(generic, udp, reply),
		"empty tuple":   slices.Concat(generic, attr(nl.CTA_TUPLE_ORIG), reply),
		"no addresses":  slices.Concat(generic, attr(nl.CTA_TUPLE_ORIG, protocol...), reply),
		"short address": slices.Concat(generic, shortTuple, reply),
	} {
		var f netflow.Flow
		if parseFlow(body, &f, nil) {
			t.Errorf("%s: got %+v; want no flow", name, f)
		}
	}
}

// A message may end anywhere: it is never read beyond its end.
func TestParseCut(t *testing.T) {
	all := fullFlow()
	for i := range all {
		var f netflow.Flow
		parseFlow(all[:i:i], &f, nil)
	}
}

// No message makes the parsers panic, and a flow that is found can be asked for.
func FuzzParse(f *testing.F) {
	f.Add(fullFlow())
	var request netlink.Buffer
	writeGet(&request, 1, tuple6)
	f.Add([]byte(request))
	request = nil
	writeDelete(&request, 1, tuple4, 7)
	f.Add([]byte(request))
	for _, cut := range []int{1, 3, 5, 17, 60} {
		f.Add(fullFlow()[:len(fullFlow())-cut])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, body := range netlink.Messages(b) {
			_ = errorOf(body)
		}
		var flow, again netflow.Flow
		if !parseFlow(b, &flow, nil) {
			return
		}
		if !valid(flow.Original) {
			t.Fatalf("%+v has no valid tuple", flow)
		}
		Payload(flow)
		asked := slices.Concat([]byte{0, 0, 0, 0},
			tupleAttr(nl.CTA_TUPLE_ORIG, flow.Original), tupleAttr(nl.CTA_TUPLE_REPLY, flow.Reply))
		if !parseFlow(asked, &again, nil) || again.Original != unmapped(flow.Original) {
			t.Errorf("got %+v; want %+v", again, flow)
		}
	})
}

// One event, without the system calls.
func BenchmarkParseFlow(b *testing.B) {
	body := fullFlow()
	var f netflow.Flow
	b.ReportAllocs()
	for b.Loop() {
		parseFlow(body, &f, nil)
	}
}

// A request for as many flows as one system call asks for.
func BenchmarkWriteGet(b *testing.B) {
	var out netlink.Buffer
	b.ReportAllocs()
	for b.Loop() {
		out = out[:0]
		for i := range uint32(perRound) {
			writeGet(&out, i, tuple4)
		}
	}
}
