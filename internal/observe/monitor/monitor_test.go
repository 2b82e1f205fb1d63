package monitor

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/netflow"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/observe/flows"
	"ftpgate/internal/observe/sessions"
)

var errKernel = errors.New("no such thing in this kernel")

// If the kernel carries nothing, none of its sources are opened, and transfers are finalized all the same.
func TestWithoutKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		finished := 0
		b.sessionLog.Hooks.Finished = func(sessions.Transfer) { finished++ }
		b.kernel.tableErr = errKernel
		b.Start(false)
		b.SetForwards([]forward.Resolved{plc()})
		if b.Watcher() != nil || b.kernel.events.called() != "" {
			t.Errorf("got watcher %v, event calls %q; want none", b.Watcher(), b.kernel.events.called())
		}
		r := b.sessionLog.Begin(sessions.Start{Forward: "archive"})
		r.Opened(sessions.Data{Path: "relay"}, time.Now())
		r.TransferStarted(time.Now(), "RETR", "a")
		r.TransferFinished(true, "226 done", nil)
		r.Ended("221 bye")
		time.Sleep(finalizeInterval + 1)
		synctest.Wait()
		if finished != 1 {
			t.Errorf("got %d transfers finalized; want 1", finished)
		}
		b.Close()
		b.log.want(t)
	})
}

// Each source that cannot be opened is logged with what will be missing, and the monitor continues without
// it.
func TestSourcesThatCannotBeOpened(t *testing.T) {
	for name, tt := range map[string]struct {
		breaks      func(k *fakeKernel)
		watches     bool
		want        string
		calls       string // of the events
		tableClosed bool
	}{
		"all are there": {func(*fakeKernel) {}, true, "", "", true},
		"accounting": {func(k *fakeKernel) { k.accountingErr = errKernel }, true,
			"WARN bytes of kernel-carried transfers will be missing", "", true},
		"table": {func(k *fakeKernel) { k.tableErr = errKernel }, false,
			"WARN bytes of kernel-carried transfers will be missing", "", false},
		"events": {func(k *fakeKernel) { k.subscribeErr = errKernel }, false,
			"WARN bytes of kernel-carried transfers will be missing", "", true},
		"log": {func(k *fakeKernel) { k.segmentsError = errKernel }, true,
			"WARN bytes of kernel-carried transfers are counted by packets: retransmissions count twice",
			"join", true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench()
			tt.breaks(b.kernel)
			b.Start(true)
			if got := b.Watcher() != nil; got != tt.watches {
				t.Errorf("got a watcher: %t; want %t", got, tt.watches)
			}
			b.SetForwards([]forward.Resolved{proxied()})
			if got := b.kernel.events.called(); got != tt.calls {
				t.Errorf("got event calls %q; want %q", got, tt.calls)
			}
			b.Close()
			if b.kernel.table.closed != tt.tableClosed {
				t.Errorf("got table closed %t; want %t", b.kernel.table.closed, tt.tableClosed)
			}
			if tt.want == "" {
				b.log.want(t)
			} else {
				b.log.want(t, tt.want)
			}
		})
	}
}

// What accounting switches on stays on, and is logged.
func TestAccounting(t *testing.T) {
	b := newBench()
	b.kernel.accounting = []string{"net.netfilter.nf_conntrack_acct=1"}
	b.Start(true)
	b.Close()
	b.log.want(t, "INFO conntrack accounting switched on; it stays on when ftpgate stops")
}

// The kernel sends events only while a forward needs them, and what began before is read from the table.
func TestSubscription(t *testing.T) {
	b := newBench()
	b.kernel.table.put(control())
	b.Start(true)
	defer b.Close()
	for _, step := range []struct {
		forward forward.Resolved
		calls   string
		dumps   int
	}{
		{proxied(), "", 0},
		{plc(), "join", 1},
		{plc(), "join", 1},
		{proxied(), "join leave", 1},
		{plc(), "join leave join", 2},
	} {
		b.SetForwards([]forward.Resolved{step.forward})
		if got, dumps := b.kernel.events.called(), b.kernel.table.dumped(); got != step.calls ||
			dumps != step.dumps {
			t.Errorf("tracking %s: got event calls %q, %d dumps; want %q, %d",
				step.forward.Tracking, got, dumps, step.calls, step.dumps)
		}
	}
	if got := b.sessionLog.Count(); got != 1 {
		t.Errorf("got %d sessions; want the one that was there before", got)
	}
	b.log.want(t)
}

// A subscription that fails is logged, and tried again with the next forwards.
func TestSubscriptionFails(t *testing.T) {
	b := newBench()
	b.kernel.events.joinErr = errKernel
	b.Start(true)
	defer b.Close()
	b.SetForwards([]forward.Resolved{plc()})
	b.SetForwards([]forward.Resolved{plc()})
	if got, dumps := b.kernel.events.called(), b.kernel.table.dumped(); got != "join join" || dumps != 0 {
		t.Errorf("got event calls %q, %d dumps; want two joins and none", got, dumps)
	}
	const missing = "WARN bytes of kernel-carried transfers will be missing"
	b.log.want(t, missing, missing)
}

// Events and segments reach the watcher, and the transfer's bytes the session log.
func TestDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.Start(true)
		b.SetForwards([]forward.Resolved{plc()})
		b.kernel.table.put(control())
		b.kernel.events.deliver <- netflow.FlowEvent{Change: netflow.FlowNew, Flow: control(), At: time.Now()}
		p := pinhole.Pinhole{From: netip.MustParseAddr("192.168.5.1"), Listen: at("192.168.5.2:50000"),
			Target: at("203.0.113.21:40000"), SourceIP: netip.MustParseAddr("203.0.113.1")}
		x := b.Watcher().Expect(p)
		b.kernel.segments.deliver <- netflow.Segment{
			At: time.Now(), From: p.Target, To: at("192.168.5.1:4000"), SYN: true, ACK: true,
			Acknowledged: 1}
		synctest.Wait()
		if got := b.sessionLog.Count(); got != 1 {
			t.Errorf("got %d sessions; want the one of the event", got)
		}
		if x.Outcome().Connected.IsZero() {
			t.Error("got no connection; want the one of the segment")
		}
		data := netflow.Flow{ID: 8, Master: control().Original, Replied: true, State: netflow.TCPEstablished,
			Original: netflow.Tuple{From: at("192.168.5.1:3001"), To: at("192.168.5.2:40000")},
			Reply:    netflow.Tuple{From: at("203.0.113.21:40000"), To: at("203.0.113.1:3001")}}
		b.kernel.table.put(data)
		b.kernel.events.deliver <- netflow.FlowEvent{Change: netflow.FlowNew, Flow: data, At: time.Now()}
		data.State, data.Received.Bytes = netflow.TCPTimeWait, 1000
		b.kernel.table.put(data)
		b.Close()
		running := slices.Collect(b.sessionLog.Running())
		if len(running) != 1 || running[0].Totals != (sessions.Totals{Transfers: 1, Down: 1000}) {
			t.Errorf("got %+v; want one transfer of 1000 bytes at Close", running)
		}
		b.log.want(t)
	})
}

// After lost segments the table is read at the next poll, and not for each loss.
func TestLostSegments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.Start(true)
		defer b.Close()
		time.Sleep(flows.PollInterval / 2) // between the first poll and the second
		for range 10 {
			b.kernel.segments.lost <- struct{}{}
		}
		synctest.Wait()
		if got := b.kernel.table.dumped(); got != 0 {
			t.Errorf("got %d dumps at once; want none before the poll", got)
		}
		time.Sleep(2 * flows.PollInterval)
		synctest.Wait()
		if got := b.kernel.table.dumped(); got != 1 {
			t.Errorf("got %d dumps for ten losses; want 1", got)
		}
	})
}

// A log that fails is replaced by events; events that fail are logged.
func TestSourceFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.Start(true)
		defer b.Close()
		b.SetForwards([]forward.Resolved{proxied()})
		b.kernel.segments.fails <- errKernel
		synctest.Wait()
		if got := b.kernel.events.called(); got != "join" {
			t.Errorf("got event calls %q after the log has failed; want a join", got)
		}
		b.log.want(t, "WARN bytes of kernel-carried transfers are counted by packets from now on")
		b.SetForwards([]forward.Resolved{proxied()})
		if got := b.kernel.events.called(); got != "join" {
			t.Errorf("got event calls %q; want the subscription to stay", got)
		}
		b.kernel.events.fails <- errKernel
		synctest.Wait()
		b.log.want(t, "WARN bytes of kernel-carried transfers will be missing from now on")
	})
}

// A table that cannot be read is logged once, and once more when it fails again after it could be read.
func TestTableFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.kernel.table.put(control())
		b.Start(true)
		b.SetForwards([]forward.Resolved{plc()})
		for range 2 {
			b.kernel.table.fail(errKernel)
			time.Sleep(time.Minute)
			synctest.Wait()
			b.log.want(t, "WARN cannot read the conntrack table")
			b.kernel.table.fail(nil)
			time.Sleep(2 * errorQuietTime)
			synctest.Wait()
		}
		b.log.want(t)
		b.kernel.table.fail(errKernel)
		b.kernel.events.deliver <- netflow.FlowEvent{Change: netflow.FlowsMissed}
		synctest.Wait()
		b.log.want(t, "WARN cannot read the conntrack table")
		b.kernel.table.fail(nil)
		b.Close()
	})
}

// While one caller reads the table, which may take long, others change the subscription.
func TestResyncHoldsNoLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.Start(true)
		defer b.Close()
		b.kernel.table.block = make(chan struct{})
		resynced := false
		go func() {
			b.SetForwards([]forward.Resolved{plc()}) // joins, and reads the table
			resynced = true
		}()
		synctest.Wait()
		b.SetForwards([]forward.Resolved{proxied()})
		if got := b.kernel.events.called(); got != "join leave" || resynced {
			t.Errorf(
				"got event calls %q, table read %t; want both calls while the table is read",
				got,
				resynced,
			)
		}
		close(b.kernel.table.block)
		synctest.Wait()
		if !resynced {
			t.Error("the table was not read to the end")
		}
	})
}

// Close waits for the goroutines, and closes what was opened.
func TestClose(t *testing.T) {
	b := newBench()
	b.Start(true)
	b.Close()
	k := b.kernel
	if !k.events.ended || !k.segments.ended {
		t.Errorf(
			"got events ended %t, segments ended %t; want both to have ended",
			k.events.ended,
			k.segments.ended,
		)
	}
	if !k.events.closed || !k.segments.closed || !k.table.closed {
		t.Errorf("got closed %t, %t, %t; want events, segments and table closed",
			k.events.closed, k.segments.closed, k.table.closed)
	}
	newBench().Close() // before Start
}
