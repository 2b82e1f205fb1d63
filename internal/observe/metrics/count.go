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
	outcomeCount
)

const (
	download = iota
	upload
	unknownDirection // of what nobody could read
	directionCount
)

const (
	pathKernel = iota
	pathRelay
	pinholePathCount // what can have a pinhole
	pathNone         = pinholePathCount
	pathCount        = pathNone + 1 // what a transfer can have: that of one that failed before it had a data connection, too
)

const trackingCount = int(forward.TrackingNone) + 1

// What becomes of a pinhole.
const (
	pinholeOpened = iota
	pinholeUsed
	pinholeExpired
	pinholeEventCount
)

var (
	outcomeLabels     = [outcomeCount]string{complete: "complete", failed: "failed"}
	directionLabels   = [directionCount]string{download: string(sessions.Download), upload: string(sessions.Upload), unknownDirection: string(sessions.Unknown)}
	pinholePathLabels = [pinholePathCount]string{pathKernel: forward.DataKernel.String(), pathRelay: forward.DataRelay.String()}
	pathLabels        = [pathCount]string{pinholePathLabels[pathKernel], pinholePathLabels[pathRelay], "none"}
)

// forwardCounts is what has happened to a forward. It goes with it: nobody but those who still tell of events holds
// it, so that reloads leave nothing behind.
type forwardCounts struct {
	label         string
	sessions      [trackingCount]atomic.Uint64
	transfers     [directionCount][pathCount][outcomeCount]atomic.Uint64
	bytes         [directionCount][pathCount]atomic.Uint64
	pinholeEvents [pinholeEventCount][pinholePathCount]atomic.Uint64
	refused       []atomic.Uint64 // by the index of the reason
	dials         atomic.Pointer[dialHistogram]
}

// dialHistogram is a forward's dial times.
type dialHistogram struct{ prometheus.Histogram }

// countsOf returns a forward's counts; nil: it is not published.
func (m *Metrics) countsOf(name string) *forwardCounts {
	if m == nil {
		return nil
	}
	return m.forwards.Load().byName[name]
}

// SessionBegan counts a session. Whoever has the journal begin one calls it: the tracker's listener, and the
// watcher of kernel sessions.
func (m *Metrics) SessionBegan(forward string, tracking forward.Tracking) {
	if c := m.countsOf(forward); c != nil && int(tracking) < trackingCount {
		c.sessions[tracking].Add(1)
	}
}

// Finished counts a transfer that is over, with its bytes. It is made to be journal.Journal.Finished.
func (m *Metrics) Finished(t sessions.Transfer) {
	c := m.countsOf(t.Forward)
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
	return unknownDirection
}

func pathOf(word string) int {
	switch word {
	case pinholePathLabels[pathKernel]:
		return pathKernel
	case pinholePathLabels[pathRelay]:
		return pathRelay
	}
	return pathNone
}

// Refused counts something that was refused, put right or cut off. The tracker calls it, through the daemon,
// with the word of its Refusal; one that New was not told is OtherReason.
func (m *Metrics) Refused(forward, reason string) {
	c := m.countsOf(forward)
	if c == nil {
		return
	}
	i, known := m.reasonIndex[reason]
	if !known {
		i = len(m.reasons) - 1
	}
	c.refused[i].Add(1)
}

// Dialled counts a control connection to the server that stands, and how long that took from the beginning
// of dialling, names and TLS left out. The tracker calls it, through the daemon. A server that is not reached
// is a refusal.
func (m *Metrics) Dialled(forward string, took time.Duration) {
	if c := m.countsOf(forward); c != nil {
		c.dialTimes().Observe(took.Seconds())
	}
}

// dialTimes returns the forward's dial times, which are made when they are first needed.
func (c *forwardCounts) dialTimes() *dialHistogram {
	if d := c.dials.Load(); d != nil {
		return d
	}
	// A vector of its own for each forward goes with the forward; one for all would keep the series of a
	// forward that is told of once more after its end.
	f := catalogue[dialSeconds]
	alone := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: f.name, Help: f.help, Buckets: dialBuckets()}, f.labels)
	c.dials.CompareAndSwap(nil, &dialHistogram{alone.WithLabelValues(c.label).(prometheus.Histogram)})
	return c.dials.Load()
}

// PinholeOpened counts a pinhole that is in force, and how long that took. Whoever tells the journal of it
// calls it; path is "kernel" or "relay", as in journal.Data.
func (m *Metrics) PinholeOpened(forward, path string, took time.Duration) {
	if m.countPinhole(forward, pinholeOpened, path) {
		m.openSeconds[pathOf(path)].Observe(took.Seconds())
	}
}

// PinholeUsed counts a pinhole whose connection has come. The same calls it, once.
func (m *Metrics) PinholeUsed(forward, path string) { m.countPinhole(forward, pinholeUsed, path) }

// PinholeExpired counts a pinhole through which nobody came in time. The same calls it. One that was closed
// before, because another took its place or the session ended, is neither used nor expired.
func (m *Metrics) PinholeExpired(forward, path string) { m.countPinhole(forward, pinholeExpired, path) }

// countPinhole counts what became of one; false: its forward is not published, or nothing like that is counted.
func (m *Metrics) countPinhole(forward string, fate int, path string) bool {
	c, by := m.countsOf(forward), pathOf(path)
	if c == nil || by == pathNone {
		return false
	}
	c.pinholeEvents[fate][by].Add(1)
	return true
}

// dialBuckets are seconds: from a server beside the gateway to three SYNs that nobody answers.
func dialBuckets() []float64 {
	return []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}
}

// openBuckets are seconds: a batch of netlink messages takes some 25 µs, and the client waits for it.
func openBuckets() []float64 {
	return []float64{0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1}
}
