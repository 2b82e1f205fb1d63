package conntrack

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/netflow"
)

var (
	tuple4 = netflow.Tuple{From: netip.MustParseAddrPort("192.168.5.1:40000"), To: netip.MustParseAddrPort("192.168.5.2:2121")}
	tuple6 = netflow.Tuple{From: netip.MustParseAddrPort("[2001:db8:5::1]:40001"), To: netip.MustParseAddrPort("[2001:db8:5::2]:2122")}
)

// attr is a whole attribute.
func attr(typ uint16, value ...byte) []byte {
	b := append(appendAttr(nil, typ, len(value)), value...)
	return append(b, make([]byte, align(len(b))-len(b))...)
}

func number64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// whole is the message of a flow that has everything, with attributes that nobody knows.
func whole() []byte {
	counters := func(typ uint16, packets, bytes uint64) []byte {
		return attr(typ|unix.NLA_F_NESTED, slices.Concat(
			attr(ctaCountersPackets, number64(packets)...), attr(ctaCountersBytes, number64(bytes)...), attr(99, 1))...)
	}
	return slices.Concat(
		[]byte{unix.AF_INET, 0, 0, 0},
		appendTuple(nil, ctaTupleOrig, tuple4), appendTuple(nil, ctaTupleReply, tuple6),
		attr(ctaStatus, 0, 0, 1, statusSeenReply),
		attr(7, 0, 0, 0, 30),
		counters(ctaCountersOrig, 4, 216), counters(ctaCountersReply, 5, 1<<40),
		attr(ctaProtoinfo|unix.NLA_F_NESTED, attr(ctaProtoinfoTCP|unix.NLA_F_NESTED, attr(ctaProtoinfoTCPState, byte(netflow.TCPLastAck))...)...),
		attr(ctaHelp|unix.NLA_F_NESTED, attr(ctaHelpName, []byte("ftp-20000\x00")...)...),
		attr(ctaID, 0xde, 0xad, 0xbe, 0xef),
		appendTuple(nil, ctaTupleMaster, tuple6),
		attr(200, 1, 2, 3),
	)
}

func TestParseFlow(t *testing.T) {
	want := netflow.Flow{
		ID: 0xdeadbeef, Original: tuple4, Reply: tuple6, Master: tuple6, State: netflow.TCPLastAck, Replied: true, Helper: "ftp-20000",
		Sent: netflow.Counter{Packets: 4, Bytes: 216}, Received: netflow.Counter{Packets: 5, Bytes: 1 << 40},
	}
	got := netflow.Flow{Helper: "of another message"}
	if !parseFlow(whole(), &got, nil) || got != want {
		t.Errorf("got %+v; want %+v", got, want)
	}
	if !parseFlow(slices.Concat([]byte{0, 0, 0, 0}, appendTuple(nil, ctaTupleOrig, tuple6), appendTuple(nil, ctaTupleReply, tuple4)), &got, nil) ||
		got != (netflow.Flow{Original: tuple6, Reply: tuple4}) {
		t.Errorf("got %+v; want nothing but tuples", got)
	}
	parseFlow(whole(), &got, func(id uint32, original, master netflow.Tuple) bool {
		if id != want.ID || original != want.Original || master != want.Master {
			t.Errorf("wanted? got %x, %v, %v", id, original, master)
		}
		return true
	})
	if parseFlow(whole(), &got, func(uint32, netflow.Tuple, netflow.Tuple) bool { return false }) {
		t.Error("an unwanted flow came")
	}
}

// What is not TCP, or not whole, is no flow.
func TestParseNoFlow(t *testing.T) {
	generic := []byte{unix.AF_INET, 0, 0, 0}
	udp := appendTuple(nil, ctaTupleOrig, tuple4)
	udp[len(udp)-20] = unix.IPPROTO_UDP // behind the addresses, before two ports
	for name, body := range map[string][]byte{
		"nothing":       nil,
		"half a header": {unix.AF_INET, 0},
		"no attributes": generic,
		"no reply":      slices.Concat(generic, appendTuple(nil, ctaTupleOrig, tuple4)),
		"no original":   slices.Concat(generic, appendTuple(nil, ctaTupleReply, tuple4)),
		"UDP":           slices.Concat(generic, udp, appendTuple(nil, ctaTupleReply, tuple4)),
		"empty tuple":   slices.Concat(generic, attr(ctaTupleOrig), appendTuple(nil, ctaTupleReply, tuple4)),
		"no addresses":  slices.Concat(generic, attr(ctaTupleOrig, udp[len(udp)-28:]...), appendTuple(nil, ctaTupleReply, tuple4)),
		"short address": slices.Concat(generic, attr(ctaTupleOrig, slices.Concat(attr(ctaTupleIP, attr(ctaIPv4Src, 1, 2)...), udp[len(udp)-28:])...), appendTuple(nil, ctaTupleReply, tuple4)),
	} {
		var f netflow.Flow
		if parseFlow(body, &f, nil) {
			t.Errorf("%s: got %+v; want no flow", name, f)
		}
	}
}

// A message that ends anywhere is not read beyond its end.
func TestParseCut(t *testing.T) {
	all := whole()
	for i := range all {
		var f netflow.Flow
		parseFlow(all[:i:i], &f, nil)
		parseExpectation(all[:i:i])
		if typ, value, rest, ok := next(all[nfgenLen:max(i, nfgenLen):max(i, nfgenLen)]); ok && len(value)+len(rest) > i {
			t.Errorf("attribute %d of %d bytes: got %d and %d more", typ, i, len(value), len(rest))
		}
	}
}

func TestParseExpectation(t *testing.T) {
	body := slices.Concat([]byte{unix.AF_INET, 0, 0, 0}, appendTuple(nil, ctaExpectMaster, tuple4), appendTuple(nil, ctaExpectTuple, tuple6),
		attr(ctaExpectTimeout, 0, 0, 1, 44), attr(ctaExpectHelpName, []byte("ftp\x00")...))
	want := Expectation{Master: tuple4, Expected: tuple6, Helper: "ftp", Left: 300 * time.Second}
	if got, ok := parseExpectation(body); !ok || got != want {
		t.Errorf("got %+v, %v; want %+v", got, ok, want)
	}
	if got, ok := parseExpectation(body[:80]); ok {
		t.Errorf("got %+v of half a message; want none", got)
	}
}

// Whatever a message holds, nothing panics, and a flow that is found can be asked for.
func FuzzParse(f *testing.F) {
	f.Add(whole())
	f.Add(appendFlowRequest(nil, ctNew, 0, 1, tuple6))
	f.Add(appendDelete(nil, 1, tuple4, 7))
	for _, cut := range []int{1, 3, 5, 17, 60} {
		f.Add(whole()[:len(whole())-cut])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, body := range messages(b) {
			_ = errorOf(body)
		}
		parseExpectation(b)
		var flow, again netflow.Flow
		if !parseFlow(b, &flow, nil) {
			return
		}
		if !valid(flow.Original) {
			t.Fatalf("%+v has no valid tuple", flow)
		}
		Payload(flow)
		asked := slices.Concat([]byte{0, 0, 0, 0}, appendTuple(nil, ctaTupleOrig, flow.Original), appendTuple(nil, ctaTupleReply, flow.Reply))
		if !parseFlow(asked, &again, nil) || again.Original != unmapped(flow.Original) {
			t.Errorf("got %+v; want %+v", again, flow)
		}
	})
}
