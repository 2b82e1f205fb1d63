package flows

import (
	"net/netip"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/netflow"
	"ftpgate/internal/observe/sessions"
)

// The two ends of the tests' connections: the one that dials, and the far end.
var dialling, dialled = at("192.168.5.1:3000"), at("203.0.113.21:40000")

const (
	dialFirst = 1000      // the sequence number of the dialling end's first byte
	farFirst  = 1<<32 - 1 // that of the other one, whose next is 0
)

// testSegment is a segment of the end that dials, or of the far end.
type testSegment struct {
	back          bool
	kind          string
	seq, ack, len uint32
}

func (s testSegment) segment() netflow.Segment {
	out := netflow.Segment{From: dialling, To: dialled, Sequence: s.seq, Acknowledged: s.ack, Length: s.len}
	if s.back {
		out.From, out.To = out.To, out.From
	}
	for _, c := range s.kind {
		switch c {
		case 'S':
			out.SYN = true
		case 'A':
			out.ACK = true
		case 'F':
			out.FIN = true
		case 'R':
			out.RST = true
		}
	}
	return out
}

// farSeq returns a sequence number of the far end, counted from its first byte.
func farSeq(n uint32) uint32 { return farFirst + n }

func TestByteCount(t *testing.T) {
	for name, tt := range map[string]struct {
		segments       []testSegment
		sent, received uint64
		over           bool
	}{
		"nothing ends": {nil, 0, 0, false},
		"download": {[]testSegment{
			{true, "FA", farSeq(5000), dialFirst, 1000},
			{false, "FA", dialFirst, farSeq(6001), 0},
		}, 0, 6000, true},
		"upload": {[]testSegment{
			{false, "FA", dialFirst, farSeq(0), 77},
			{true, "FA", farSeq(0), dialFirst + 78, 0},
		}, 77, 0, true},
		"FIN sent twice": {[]testSegment{
			{true, "FA", farSeq(5000), dialFirst, 1000},
			{true, "FA", farSeq(4000), dialFirst, 2000},
			{false, "FA", dialFirst, farSeq(6001), 0},
		}, 0, 6000, true},
		"no bytes": {[]testSegment{
			{true, "FA", farSeq(0), dialFirst, 0},
			{false, "FA", dialFirst, farSeq(1), 0},
		}, 0, 0, true},
		"the receiver closes": {[]testSegment{
			{false, "FA", dialFirst, farSeq(3000), 0},
		}, 0, 3000, false},
		"and then takes no more": {[]testSegment{
			{false, "FA", dialFirst, farSeq(3000), 0},
			{true, "FA", farSeq(4000), dialFirst + 1, 0},
			{false, "R", dialFirst + 1, 0, 0},
		}, 0, 3000, true},
		"the receiver half closes": {[]testSegment{
			{false, "FA", dialFirst, farSeq(3000), 0},
			{true, "FA", farSeq(4000), dialFirst + 1, 500},
		}, 0, 4500, true},
		"the receiver resets": {[]testSegment{
			{false, "RA", dialFirst, farSeq(3000), 0},
		}, 0, 3000, true},
		"reset before all has arrived": {[]testSegment{
			{true, "FA", farSeq(9000), dialFirst, 1000},
			{false, "RA", dialFirst, farSeq(3000), 0},
		}, 0, 3000, true},
		"reset after the end": {[]testSegment{
			{true, "FA", farSeq(9000), dialFirst, 1000},
			{false, "RA", dialFirst, farSeq(10001), 0},
		}, 0, 10000, true},
		"the sender resets": {[]testSegment{
			{true, "RA", farSeq(7000), dialFirst, 0},
		}, 0, 7000, true},
		"nothing counts after a reset": {[]testSegment{
			{true, "RA", farSeq(7000), dialFirst, 0},
			{false, "R", dialFirst, 0, 0},
			{true, "FA", farSeq(9000), dialFirst, 0},
		}, 0, 7000, true},
		"both carry data": {[]testSegment{
			{false, "FA", dialFirst + 10, farSeq(0), 5},
			{true, "FA", farSeq(20), dialFirst + 16, 7},
		}, 15, 27, true},
		"a late SYN changes nothing": {[]testSegment{
			{true, "SA", farSeq(0) - 1, dialFirst, 0},
			{true, "FA", farSeq(50), dialFirst, 0},
		}, 0, 50, false},
	} {
		var c byteCount
		open := []testSegment{{false, "S", dialFirst - 1, 0, 0}, {true, "SA", farFirst - 1, dialFirst, 0}}
		for _, s := range append(open, tt.segments...) {
			c.add(s.segment(), s.back)
		}
		if s, r := c.bytes(0, 0); s != tt.sent || r != tt.received || c.closed != tt.over {
			t.Errorf(
				"%s: got %d and %d bytes, over %v; want %d and %d, %v",
				name,
				s,
				r,
				c.closed,
				tt.sent,
				tt.received,
				tt.over,
			)
		}
	}
}

// An RST cuts a transfer short if its sender has data to send or to receive; not if it has refused the
// connection, nor behind the end of its own data or of what it has received.
func TestCutShort(t *testing.T) {
	for name, tt := range map[string]struct {
		segments []testSegment
		want     bool
	}{
		"nothing": {nil, false},
		"both close": {[]testSegment{
			{true, "FA", farSeq(5000), dialFirst, 1000},
			{false, "FA", dialFirst, farSeq(6001), 0},
		}, false},
		"the sender resets": {[]testSegment{{true, "RA", farSeq(7000), dialFirst, 0}},
			true},
		"the receiver resets": {[]testSegment{{false, "RA", dialFirst, farSeq(3000), 0}},
			true},
		"the receiver resets, with a bare RST": {[]testSegment{{false, "R", dialFirst, 0, 0}}, true},
		"an upload is reset": {[]testSegment{{false, "RA", dialFirst + 900, farSeq(0), 0}},
			true},
		"an upload is reset behind its FIN": {[]testSegment{
			{false, "FA", dialFirst, farSeq(0), 77},
			{false, "R", dialFirst + 78, 0, 0},
		}, false},
		"the server resets an upload that it has": {[]testSegment{
			{false, "FA", dialFirst, farSeq(0), 77},
			{true, "RA", farSeq(0), dialFirst + 78, 0},
		}, false},
		"the server resets an upload that it does not have": {[]testSegment{
			{false, "FA", dialFirst + 1000, farSeq(0), 77},
			{true, "RA", farSeq(0), dialFirst + 500, 0},
		}, true},
		"the receiver closes early, and resets what comes": {[]testSegment{
			{false, "FA", dialFirst, farSeq(3000), 0},
			{false, "R", dialFirst + 1, 0, 0},
		}, true},
		"and the sender's FIN comes first": {[]testSegment{
			{false, "FA", dialFirst, farSeq(3000), 0},
			{true, "FA", farSeq(4000), dialFirst + 1, 0},
			{false, "R", dialFirst + 1, 0, 0},
		}, true},
		"the receiver resets behind the last byte": {[]testSegment{
			{true, "FA", farSeq(9000), dialFirst, 1000},
			{false, "RA", dialFirst, farSeq(10001), 0},
		}, false},
		"the receiver resets before the last byte": {[]testSegment{
			{true, "FA", farSeq(9000), dialFirst, 1000},
			{false, "RA", dialFirst, farSeq(3000), 0},
		}, true},
	} {
		var c byteCount
		open := []testSegment{{false, "S", dialFirst - 1, 0, 0}, {true, "SA", farFirst - 1, dialFirst, 0}}
		for _, s := range append(open, tt.segments...) {
			c.add(s.segment(), s.back)
		}
		if c.cutShort != tt.want {
			t.Errorf("%s: got cut short %v; want %v", name, c.cutShort, tt.want)
		}
	}
}

// A connection that is refused is not cut short.
func TestRefusedIsNotCutShort(t *testing.T) {
	var c byteCount
	c.add(testSegment{false, "S", dialFirst - 1, 0, 0}.segment(), false)
	if c.add(testSegment{true, "RA", 0, dialFirst, 0}.segment(), true); c.cutShort {
		t.Error("a connection that is refused counts as cut short")
	}
}

// Sequence numbers wrap after 4 GiB. The kernel's count, which may be a little wrong, says how often; without
// segments it is the result.
func TestByteCountWraps(t *testing.T) {
	var c byteCount
	if s, r := c.bytes(5, 6); s != 5 || r != 6 {
		t.Errorf("got %d and %d without segments; want the counts given", s, r)
	}
	for _, s := range []testSegment{
		{true, "SA", farFirst - 1, dialFirst, 0},
		{true, "FA", farSeq(123), dialFirst, 0},
		{false, "FA", dialFirst, farSeq(124), 0},
	} {
		c.add(s.segment(), s.back)
	}
	const round = 1 << 32
	for about, want := range map[uint64]uint64{
		0: 123, 200: 123, 100 << 20: 123,
		round - 5: round + 123, round + 5<<20: round + 123,
		10*round + 400: 10*round + 123,
	} {
		if _, r := c.bytes(0, about); r != want {
			t.Errorf("approximately %d: got %d; want %d", about, r, want)
		}
	}
}

// handshakeAnd gives the watcher a handshake and segments.
func handshakeAnd(w *Watcher, when time.Time, segments ...testSegment) {
	open := []testSegment{{false, "S", dialFirst - 1, 0, 0}, {true, "SA", farFirst - 1, dialFirst, 0}}
	for _, s := range append(open, segments...) {
		one := s.segment()
		one.At = when
		w.HandleSegment(one)
	}
}

var ending = []testSegment{{true, "FA", farSeq(700), dialFirst, 0}, {false, "FA", dialFirst, farSeq(701), 0}}

// Segments may arrive before the event of their connection or after it. If they say everything, the watcher
// does not ask the kernel.
func TestSegments(t *testing.T) {
	for _, first := range []bool{true, false} {
		w, table, sessionLog := newTestWatcher()
		fwd, control := kernelTracked()
		w.SetForwards([]forward.Resolved{fwd})
		now := time.Now()
		newFlow(t, w, table, control, now)
		poll(t, w, now)
		if first {
			handshakeAnd(w, now, ending...)
		}
		f := pinholeFlow(8)
		f.Master, f.State, f.Received.Bytes = control.Original, netflow.TCPTimeWait, 900
		newFlow(t, w, table, f, now)
		if !first {
			handshakeAnd(w, now, ending...)
		}
		table.asked = 0
		poll(t, w, now)
		for s := range sessionLog.Running() {
			if s.Totals.Down != 700 || s.Totals.Transfers != 1 || table.asked != 0 {
				t.Errorf(
					"segments first %v: got %+v, %d flows asked for; want 700 bytes, and none",
					first,
					s.Totals,
					table.asked,
				)
			}
		}
		if len(w.unassigned)+len(w.active) != 0 || sessionLog.Count() != 1 {
			t.Error("got something kept; want nothing")
		}
	}
}

// Segments of connections that belong to no session are bounded, and forgotten.
func TestSegmentsOfOthers(t *testing.T) {
	w, _, _ := newTestWatcher()
	now := time.Now()
	for i := range maxUnassigned + 10 {
		s := testSegment{kind: "SA"}.segment()
		s.To, s.At = at("192.168.5.1:1"), now
		s.From = addrPort(i)
		w.HandleSegment(s)
	}
	if len(w.unassigned) != maxUnassigned {
		t.Errorf("got %d kept; want %d", len(w.unassigned), maxUnassigned)
	}
	poll(t, w, now.Add(unassignedLifetime+1))
	if len(w.unassigned) != 0 {
		t.Errorf("got %d kept; want none", len(w.unassigned))
	}
}

// A session with tracking kernel has one transfer after the other, also without a poll between them.
func TestSessionTransfers(t *testing.T) {
	w, table, sessionLog := newTestWatcher()
	fwd, control := kernelTracked()
	w.SetForwards([]forward.Resolved{fwd})
	now := time.Now()
	newFlow(t, w, table, control, now)
	for i := range 2 {
		data := netflow.Flow{
			ID:      uint32(8 + i),
			Master:  control.Original,
			State:   netflow.TCPEstablished,
			Replied: true,
			Original: tuple(
				"192.168.5.1:3000",
				"192.168.5.2:40000",
			),
			Reply: tuple("203.0.113.21:40000", "203.0.113.1:3001"),
		}
		data.Original.To, data.Reply.From = addrPort(i), addrPort(i)
		newFlow(t, w, table, data, now)
	}
	poll(t, w, now)
	for s := range sessionLog.Running() {
		if s.State != sessions.StateTransfer || s.Transfer == nil {
			t.Errorf("got %+v; want the second transfer to run", s)
		}
	}
}

func addrPort(i int) netip.AddrPort {
	return netip.AddrPortFrom(dialled.Addr(), uint16(40000+i))
}
