// Package monitor reports the connections that the kernel carries to the session log: it opens the
// kernel's sources (the conntrack table, its events, the log of first and last segments), runs a
// flows.Watcher on them, and polls.
//
// A missing source costs exactness, not service: the monitor logs what will be missing, and continues without
// it.
//
// Locks: Monitor.mu is a leaf. It is held during a setsockopt(2), which does not wait.
package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/netflow"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/observe/flows"
	"ftpgate/internal/observe/sessions"
)

// Monitor watches the kernel's connections. Start it, set the forwards, and Close it, which ends its
// goroutines.
type Monitor struct {
	tableName  string
	log        *slog.Logger
	sessionLog *sessions.Log
	kernel     kernel

	// Set by Start, and not changed after it.
	watcher  *flows.Watcher // nil: the kernel carries nothing, or nothing of it can be counted
	table    table
	events   events
	segments segments // nil: the kernel has no log

	stop       context.CancelFunc
	close      sync.Once
	goroutines sync.WaitGroup
	lost       atomic.Bool // segments were lost since the last resync

	mu         sync.Mutex // guards the subscription; not held during a wait
	needEvents needEvents
	subscribed bool // to events of new flows
}

// needEvents says why the kernel must send an event for each new flow.
type needEvents struct {
	tracked bool // a forward has tracking kernel: only events show its sessions
	noLog   bool // no segments are logged
}

// New returns a monitor for the connections of a table of nftables.
func New(tableName string, log *slog.Logger, sessionLog *sessions.Log) *Monitor {
	return newMonitor(tableName, log, sessionLog, linux{})
}

func newMonitor(tableName string, log *slog.Logger, sessionLog *sessions.Log, k kernel) *Monitor {
	return &Monitor{tableName: tableName, log: log, sessionLog: sessionLog, kernel: k, stop: func() {}}
}

// Log messages that more than one place writes.
const (
	bytesMissing     = "bytes of kernel-carried transfers will be missing"
	countedByPackets = "bytes of kernel-carried transfers are counted by packets"
	cannotReadTable  = "cannot read the conntrack table"
)

// Start opens the kernel's sources, if the kernel may carry connections, and starts to finalize sessions. It
// logs what it cannot open.
func (m *Monitor) Start(kernelCarries bool) {
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	if kernelCarries {
		if err := m.open(); err != nil {
			m.log.Warn(bytesMissing, "err", err)
		}
	}
	if m.watcher != nil {
		m.goroutines.Go(func() { m.receiveEvents(ctx) })
	}
	if m.segments != nil {
		m.goroutines.Go(func() { m.receiveSegments(ctx) })
	}
	m.goroutines.Go(func() { m.poll(ctx) })
}

// open switches accounting on and opens the kernel's sources. After an error with a watcher some bytes are
// missing; without one, all are.
func (m *Monitor) open() (err error) {
	changed, accountingErr := m.kernel.EnableAccounting()
	for _, sysctl := range changed {
		m.log.Info("conntrack accounting switched on; it stays on when ftpgate stops", "sysctl", sysctl)
	}
	table, err := m.kernel.OpenTable()
	if err != nil {
		return err
	}
	events, err := m.kernel.Subscribe()
	if err != nil {
		return errors.Join(err, table.Close())
	}
	m.table, m.events = table, events
	m.watcher = flows.New(table, m.sessionLog)
	group := ruleset.LogGroup(m.tableName)
	if m.segments, err = m.kernel.OpenLog(group); err != nil {
		m.segments, m.needEvents.noLog = nil, true
		m.log.Warn(countedByPackets+": retransmissions count twice", "err", err,
			"remedy", fmt.Sprintf("let no other program use log group %d, "+
				"and use a kernel with CONFIG_NFT_LOG and CONFIG_NETFILTER_NETLINK_LOG", group))
	}
	return accountingErr
}

// Watcher returns the watcher of pinholes, or nil if connections cannot be counted. Call it after Start.
func (m *Monitor) Watcher() *flows.Watcher { return m.watcher }

// SetForwards replaces the published forwards.
func (m *Monitor) SetForwards(forwards []forward.Resolved) {
	if m.watcher == nil {
		return
	}
	m.watcher.SetForwards(forwards)
	tracked := slices.ContainsFunc(forwards, func(f forward.Resolved) bool {
		return f.Tracking == forward.TrackingKernel
	})
	m.subscribe(func(need *needEvents) { need.tracked = tracked })
}

// subscribe subscribes to events of new flows, or unsubscribes, if change makes that necessary. The log
// shows the connections of pinholes at less cost; only events show sessions with tracking kernel.
func (m *Monitor) subscribe(change func(*needEvents)) {
	m.mu.Lock()
	change(&m.needEvents)
	needed := m.needEvents.tracked || m.needEvents.noLog
	if needed == m.subscribed {
		m.mu.Unlock()
		return
	}
	act := m.events.Leave
	if needed {
		act = m.events.Join
	}
	err := act(netflow.FlowNew) // setsockopt(2), which does not wait
	if err == nil {
		m.subscribed = needed
	}
	m.mu.Unlock()
	switch {
	case err != nil:
		m.log.Warn(bytesMissing, "err", err)
	case needed:
		m.resync() // flows that began before the subscription
	}
}

func (m *Monitor) resync() {
	if err := m.watcher.Resync(); err != nil {
		m.log.Warn(cannotReadTable, "err", err)
	}
}

// receiveEvents hands events to the watcher until ctx is done.
func (m *Monitor) receiveEvents(ctx context.Context) {
	err := m.events.Run(ctx, m.watcher.Wants, func(e netflow.FlowEvent) {
		if err := m.watcher.HandleEvent(e); err != nil {
			m.log.Warn(cannotReadTable, "err", err)
		}
	})
	if err != nil {
		m.log.Warn(bytesMissing+" from now on", "err", err)
	}
}

// receiveSegments hands logged segments to the watcher until ctx is done. If the log fails, events replace
// it.
func (m *Monitor) receiveSegments(ctx context.Context) {
	err := m.segments.Run(ctx, m.watcher.HandleSegment, func() { m.lost.Store(true) })
	if err != nil {
		m.log.Warn(countedByPackets+" from now on", "err", err)
		m.subscribe(func(need *needEvents) { need.noLog = true })
	}
}

// finalizeInterval is how often the session log finalizes transfers that are over. Most of them are within a
// few milliseconds; until then they live, and a garbage collection would copy them along.
const finalizeInterval = 100 * time.Millisecond

// errorQuietTime is how long the table must have been read without an error before another error is logged.
// Not every poll asks the kernel.
const errorQuietTime = time.Minute

// poll finalizes transfers and polls the watcher until ctx is done.
func (m *Monitor) poll(ctx context.Context) {
	ticker := time.NewTicker(finalizeInterval)
	defer ticker.Stop()
	var polled, failed time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			m.sessionLog.Finalize(now)
			if m.watcher == nil || now.Sub(polled) < flows.PollInterval {
				continue
			}
			polled = now
			if m.lost.Swap(false) { // here, so that a flood does not cause one dump after the other
				m.resync()
			}
			if err := m.watcher.Poll(now); err != nil {
				if now.Sub(failed) > errorQuietTime {
					m.log.Warn(cannotReadTable, "err", err)
				}
				failed = now
			}
		}
	}
}

// Close ends the goroutines, closes the sources, and finalizes all transfers with the bytes known by then.
// The second Close does nothing.
func (m *Monitor) Close() { m.close.Do(m.closeOnce) }

func (m *Monitor) closeOnce() {
	m.stop()
	m.goroutines.Wait()
	if m.watcher != nil {
		for range 2 { // the second poll shows that a connection that was over at the first has no more bytes
			if err := m.watcher.Poll(time.Now()); err != nil {
				m.log.Warn(cannotReadTable, "err", err)
			}
		}
		m.events.Close()
		if m.segments != nil {
			m.segments.Close()
		}
		m.table.Close()
	}
	m.sessionLog.Finalize(time.Now().Add(time.Hour))
}
