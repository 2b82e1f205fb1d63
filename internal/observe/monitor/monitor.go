package monitor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/netflow"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/kernel/conntrack"
	"ftpgate/internal/kernel/system"
	"ftpgate/internal/observe/flows"
	"ftpgate/internal/observe/sessions"
)

// Monitor sees to it that the journal learns of what the kernel carries, and looks after what is being
// counted.
type Monitor struct {
	name    string // of the table
	log     *slog.Logger
	journal *sessions.Journal
	Watcher *flows.Watcher // nil: nothing is carried by the kernel
	table   *conntrack.Conn
	events  *conntrack.Watcher
	ends    *conntrack.Segments // nil: none are to be had
	stop    context.CancelFunc
	run     sync.WaitGroup

	missed atomic.Bool // segments, since the last look

	mu      sync.Mutex
	tracked bool // by the kernel: a forward is
	silent  bool // nothing is logged
	joined  bool // events come
}

func New(table string, log *slog.Logger, book *sessions.Journal) *Monitor {
	return &Monitor{name: table, log: log, journal: book, stop: func() {}}
}

// connections is the kernel's table, for flows.
type connections struct{ *conntrack.Conn }

// Dump yields the flows that are wanted.
func (c connections) Dump(want func(id uint32, original, master netflow.Tuple) bool) iter.Seq2[netflow.Flow, error] {
	return c.Conn.Dump(want)
}

// Payload tells what TCP carried.
func (connections) Payload(f netflow.Flow) (sent, received uint64) {
	sent, received, _ = conntrack.Payload(f)
	return sent, received
}

// Start begins to watch; tables tells whether the kernel may carry anything. What is not to be had of the
// kernel is told, and serving goes on without it.
func (o *Monitor) Start(tables bool) {
	ctx, stop := context.WithCancel(context.Background())
	o.stop = stop
	if tables {
		if err := o.open(); err != nil {
			o.log.Warn("what the kernel carries is not counted", "err", err)
		}
	}
	if o.Watcher != nil {
		o.run.Go(func() { o.receive(ctx) })
	}
	if o.ends != nil {
		o.run.Go(func() {
			if err := o.ends.Run(ctx, o.Watcher.HandleSegment, func() { o.missed.Store(true) }); err != nil {
				o.log.Warn("bytes that the kernel carries are counted by packets from now on", "err", err)
				o.subscribe(func() { o.silent = true })
			}
		})
	}
	o.run.Go(func() { o.look(ctx) })
}

// open has conntrack count, and listens to the log.
func (o *Monitor) open() (err error) {
	changed, errSwitch := system.EnableAccounting()
	for _, c := range changed {
		o.log.Info("connection tracking counts bytes and tells of connections; it stays so when ftpgate stops", "sysctl", c)
	}
	if o.table, err = conntrack.Open(); err != nil {
		return err
	}
	if o.events, err = conntrack.Subscribe(); err != nil {
		return errors.Join(err, o.table.Close())
	}
	o.Watcher = flows.New(connections{o.table}, o.journal)
	if o.ends, err = conntrack.Listen(ruleset.LogGroup(o.name)); err != nil {
		o.silent = true
		o.log.Warn("bytes that the kernel carries are counted by packets: those that are sent twice count twice", "err", err,
			"remedy", fmt.Sprintf("have no other program use log group %d, and use a kernel with CONFIG_NFT_LOG and CONFIG_NETFILTER_NETLINK_LOG", ruleset.LogGroup(o.name)))
	}
	return errSwitch
}

// subscribe has the kernel tell of the connections that begin, where change makes that needed, or no longer. The log
// tells of what comes for pinholes, and costs less; of sessions that the kernel tracks only events tell.
func (o *Monitor) subscribe(change func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change()
	needed := o.tracked || o.silent
	if needed == o.joined {
		return
	}
	act := o.events.Leave
	if needed {
		act = o.events.Join
	}
	if err := act(netflow.FlowNew); err != nil {
		o.log.Warn("what the kernel carries is not counted", "err", err)
		return
	}
	if o.joined = needed; needed {
		o.adopt()
	}
}

// adopt has the table read, for what there was before anybody told of it.
func (o *Monitor) adopt() {
	if err := o.Watcher.Resync(); err != nil {
		o.log.Warn("the kernel's connections cannot be read", "err", err)
	}
}

// receive hands events on until ctx is done.
func (o *Monitor) receive(ctx context.Context) {
	err := o.events.Run(ctx, o.Watcher.Wants, func(e netflow.FlowEvent) {
		if err := o.Watcher.HandleEvent(e); err != nil {
			o.log.Warn("the kernel's connections cannot be read", "err", err)
		}
	})
	if err != nil {
		o.log.Warn("what the kernel carries is no longer counted", "err", err)
	}
}

// settleEvery is how often the journal concludes what has been counted. Most of it is within a few milliseconds, and
// until then it lives: a garbage collector would carry on with it.
const settleEvery = 100 * time.Millisecond

// look looks after what is being counted, until ctx is done.
func (o *Monitor) look(ctx context.Context) {
	ticker := time.NewTicker(settleEvery)
	defer ticker.Stop()
	failing := false
	var looked time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			o.journal.Settle(now)
			if o.Watcher == nil || now.Sub(looked) < flows.PollInterval {
				continue
			}
			looked = now
			if o.missed.Swap(false) { // no more often than this: a flood must not have the table read over and over
				o.adopt()
			}
			err := o.Watcher.Poll(now)
			if err != nil && !failing { // once, and not twice a second
				o.log.Warn("the kernel's connections cannot be read", "err", err)
			}
			failing = err != nil
		}
	}
}

// SetForwards tells it of the forwards that are published now.
func (o *Monitor) SetForwards(forwards []forward.Resolved) {
	if o.Watcher == nil {
		return
	}
	o.Watcher.SetForwards(forwards)
	tracked := slices.ContainsFunc(forwards, func(f forward.Resolved) bool { return f.Tracking == forward.TrackingKernel })
	o.subscribe(func() { o.tracked = tracked })
}

// Close ends the watch. What is not counted by now never is.
func (o *Monitor) Close() {
	o.stop()
	o.run.Wait()
	if o.Watcher != nil {
		for range 2 { // the second time says that what is over is all there is
			if err := o.Watcher.Poll(time.Now()); err != nil {
				o.log.Warn("the kernel's connections cannot be read", "err", err)
			}
		}
		o.events.Close()
		if o.ends != nil {
			o.ends.Close()
		}
		o.table.Close()
	}
	o.journal.Settle(time.Now().Add(time.Hour))
}
