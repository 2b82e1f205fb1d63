package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/observe/sessions"
)

// The fixed words of labels, each with the index of its counter.
const (
	complete = iota
	failed
	outcomes
)

const (
	download = iota
	upload
	unread // of what nobody could read
	directions
)

const (
	byKernel = iota
	byRelay
	carriers // what can have a pinhole
	byNobody = carriers
	paths    = byNobody + 1 // what a transfer can have: that of one that failed before it had a data connection, too
)

const trackings = int(forward.TrackingNone) + 1

// What becomes of a pinhole.
const (
	opened = iota
	used
	expired
	fates
)

var (
	outcomeWords   = [outcomes]string{complete: "complete", failed: "failed"}
	directionWords = [directions]string{download: string(sessions.Download), upload: string(sessions.Upload), unread: string(sessions.Unknown)}
	carrierWords   = [carriers]string{byKernel: forward.DataKernel.String(), byRelay: forward.DataRelay.String()}
	pathWords      = [paths]string{carrierWords[byKernel], carrierWords[byRelay], "none"}
)

// counts is what has happened to a forward. It goes with it: nobody but those who still tell of events holds
// it, so that reloads leave nothing behind.
type counts struct {
	label     string
	sessions  [trackings]atomic.Uint64
	transfers [directions][paths][outcomes]atomic.Uint64
	bytes     [directions][paths]atomic.Uint64
	pinholes  [fates][carriers]atomic.Uint64
	refused   []atomic.Uint64 // by the index of the reason
	dialled   atomic.Pointer[dialling]
}

// dialling is a forward's dial times.
type dialling struct{ prometheus.Histogram }

// of returns a forward's counts; nil: it is not published.
func (m *Metrics) of(name string) *counts {
	if m == nil {
		return nil
	}
	return m.published.Load().byName[name]
}

// SessionBegan counts a session. Whoever has the journal begin one calls it: the tracker's listener, and the
// watcher of kernel sessions.
func (m *Metrics) SessionBegan(forward string, tracking forward.Tracking) {
	if c := m.of(forward); c != nil && int(tracking) < trackings {
		c.sessions[tracking].Add(1)
	}
}

// Finished counts a transfer that is over, with its bytes. It is made to be journal.Journal.Finished.
func (m *Metrics) Finished(t sessions.Transfer) {
	c := m.of(t.Forward)
	if c == nil {
		return
	}
	direction, path, outcome := directionOf(t.Direction), pathOf(t.Path), failed
	if t.Complete {
		outcome = complete
	}
	c.transfers[direction][path][outcome].Add(1)
	if t.Bytes > 0 {
		c.bytes[direction][path].Add(uint64(t.Bytes))
	}
}

func directionOf(d sessions.Direction) int {
	switch d {
	case sessions.Download:
		return download
	case sessions.Upload:
		return upload
	}
	return unread
}

func pathOf(word string) int {
	switch word {
	case carrierWords[byKernel]:
		return byKernel
	case carrierWords[byRelay]:
		return byRelay
	}
	return byNobody
}

// Refused counts something that was refused, put right or cut off. The tracker calls it, through the daemon,
// with the word of its Refusal; one that New was not told is OtherReason.
func (m *Metrics) Refused(forward, reason string) {
	c := m.of(forward)
	if c == nil {
		return
	}
	i, known := m.reason[reason]
	if !known {
		i = len(m.reasons) - 1
	}
	c.refused[i].Add(1)
}

// Dialled counts a control connection to the server that stands, and how long that took from the beginning
// of dialling, names and TLS left out. The tracker calls it, through the daemon. A server that is not reached
// is a refusal.
func (m *Metrics) Dialled(forward string, took time.Duration) {
	if c := m.of(forward); c != nil {
		c.dialling().Observe(took.Seconds())
	}
}

// dialling returns the forward's dial times, which are made when they are first needed.
func (c *counts) dialling() *dialling {
	if d := c.dialled.Load(); d != nil {
		return d
	}
	// A vector of its own for each forward goes with the forward; one for all would keep the series of a
	// forward that is told of once more after its end.
	f := catalogue[dialSeconds]
	alone := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: f.name, Help: f.help, Buckets: dialBuckets()}, f.labels)
	c.dialled.CompareAndSwap(nil, &dialling{alone.WithLabelValues(c.label).(prometheus.Histogram)})
	return c.dialled.Load()
}

// PinholeOpened counts a pinhole that is in force, and how long that took. Whoever tells the journal of it
// calls it; path is "kernel" or "relay", as in journal.Data.
func (m *Metrics) PinholeOpened(forward, path string, took time.Duration) {
	if m.pinhole(forward, opened, path) {
		m.opening[pathOf(path)].Observe(took.Seconds())
	}
}

// PinholeUsed counts a pinhole whose connection has come. The same calls it, once.
func (m *Metrics) PinholeUsed(forward, path string) { m.pinhole(forward, used, path) }

// PinholeExpired counts a pinhole through which nobody came in time. The same calls it. One that was closed
// before, because another took its place or the session ended, is neither used nor expired.
func (m *Metrics) PinholeExpired(forward, path string) { m.pinhole(forward, expired, path) }

// pinhole counts what became of one; false: its forward is not published, or nothing like that is counted.
func (m *Metrics) pinhole(forward string, fate int, path string) bool {
	c, by := m.of(forward), pathOf(path)
	if c == nil || by == byNobody {
		return false
	}
	c.pinholes[fate][by].Add(1)
	return true
}

// dialBuckets are seconds: from a server beside the gateway to three SYNs that nobody answers.
func dialBuckets() []float64 {
	return []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}
}

// openingBuckets are seconds: a batch of netlink messages takes some 25 µs, and the client waits for it.
func openingBuckets() []float64 {
	return []float64{0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1}
}
