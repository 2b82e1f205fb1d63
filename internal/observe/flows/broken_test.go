package flows

import (
	"testing"
	"time"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
)

// A reset in the middle of a transfer names the end that has sent it, whichever has connected.
func TestReset(t *testing.T) {
	byDialler := testSegment{false, "RA", dialFirst, farSeq(3000), 0}
	byFar := testSegment{true, "RA", farSeq(3000), dialFirst, 0}
	for name, tt := range map[string]struct {
		active bool
		reset  testSegment
		want   string
	}{
		"passive, by the client": {false, byDialler, "the client broke it"},
		"passive, by the server": {false, byFar, "the server broke it"},
		"active, by the client":  {true, byFar, "the client broke it"},
		"active, by the server":  {true, byDialler, "the server broke it"},
	} {
		w, _, _ := newTestWatcher()
		p := testPinhole
		p.Active = tt.active
		x := w.Expect(p)
		handle(w, time.Now(), repeated, accepted, tt.reset)
		o := x.Outcome()
		if f := o.Fault(); f == nil || f.Code != verdict.CodeDataBroken || f.Reason != tt.want ||
			o.ServerReset != (tt.want == "the server broke it") {
			t.Errorf("%s: got %+v, fault %+v; want %s", name, o, f, tt.want)
		}
	}
}

// A first segment that comes behind the end of the pinhole is late. One that a filter has dropped comes again
// after a second, and may be read a moment behind the end.
func TestUnmatchedBehindTheEnd(t *testing.T) {
	for name, tt := range map[string]struct {
		packets          int
		opened, released time.Duration // before the segment was read
		want             verdict.Code
	}{
		"at once, behind the end": {1, 10 * time.Millisecond, time.Millisecond,
			verdict.CodeClientTooLate},
		"long after the end":                {1, 9 * time.Second, 3 * time.Second, verdict.CodeClientTooLate},
		"repeated, and read behind the end": {2, time.Second, time.Millisecond, verdict.CodeGatewayFilter},
		"repeated, while it is open":        {2, time.Second, -time.Hour, verdict.CodeGatewayFilter},
	} {
		w, _, _ := newTestWatcher()
		x := w.Expect(testPinhole)
		now := time.Now()
		x.opened = now.Add(-tt.opened)
		if tt.released > 0 {
			x.released = now.Add(-tt.released)
		}
		for range tt.packets {
			w.HandleSegment(untranslated("192.168.5.1:3000", now))
		}
		if f := x.Outcome().Fault(); codeOf(f) != tt.want || f.Waited != tt.opened {
			t.Errorf("%s: got %+v; want %s", name, f, tt.want)
		}
	}
}

// A connection that the gateway ends has failed; one that was over before has not.
func TestSeverFails(t *testing.T) {
	for name, tt := range map[string]struct {
		segments []testSegment
		want     bool
	}{
		"it runs": {nil, true},
		"over":    {ending, false},
	} {
		w, table, _ := newTestWatcher()
		x := w.Expect(testPinhole)
		f := pinholeFlow(1)
		f.State, f.Replied = netflow.TCPEstablished, true
		table.flows[f.Original] = f
		now := time.Now()
		handle(w, now, repeated, accepted)
		poll(t, w, now)
		handle(w, now, tt.segments...)
		if x.Sever(); (x.Outcome().Failure != nil) != tt.want {
			t.Errorf("%s: got %+v; want a failure %v", name, x.Outcome(), tt.want)
		}
		poll(t, w, now) // the flow is gone
		if (x.Outcome().Failure != nil) != tt.want {
			t.Errorf("%s, gone: got %+v; want a failure %v", name, x.Outcome(), tt.want)
		}
	}
}

// A transfer command after the end of a pinhole does not revive it: a peer that connected meanwhile was late.
func TestKeepTooLate(t *testing.T) {
	for late, want := range map[bool]verdict.Code{true: verdict.CodeClientTooLate,
		false: verdict.CodeGatewayFilter} {
		w, _, _ := newTestWatcher()
		x := w.Expect(testPinhole)
		now := time.Now()
		if !late {
			x.Keep(true)
		}
		x.opened = now.Add(-pinhole.Lifetime)
		x.Keep(late || x.kept)
		for range 2 {
			w.HandleSegment(untranslated("192.168.5.1:3000", now))
		}
		if f := x.Outcome().Fault(); codeOf(f) != want {
			t.Errorf("late %t: got %+v; want %s", late, f, want)
		}
	}
}
