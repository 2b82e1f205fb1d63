package metrics

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/observe/sessions"
)

// Indexes of counters, in the order of the label values below.
const (
	complete = iota
	failed
	outcomeCount
)

const (
	download = iota
	upload
	unknownDirection // of an encrypted dialogue
	directionCount
)

const (
	pathKernel = iota
	pathRelay
	pinholePathCount // number of paths with pinholes
	// pathNone is the path of a transfer that failed before it had a data connection.
	pathNone  = pinholePathCount
	pathCount = pathNone + 1
)

const trackingCount = int(forward.TrackingNone) + 1

// Events of a pinhole.
const (
	pinholeOpened = iota
	pinholeUsed
	pinholeExpired
	pinholeEventCount
)

var (
	outcomeLabels   = [outcomeCount]string{complete: "complete", failed: "failed"}
	directionLabels = [directionCount]string{
		download:         string(sessions.Download),
		upload:           string(sessions.Upload),
		unknownDirection: string(sessions.Unknown),
	}
	pinholePathLabels = [pinholePathCount]string{
		pathKernel: forward.DataKernel.String(),
		pathRelay:  forward.DataRelay.String(),
	}
	pathLabels = [pathCount]string{pinholePathLabels[pathKernel], pinholePathLabels[pathRelay], "none"}
)

// forwardCounts has the counters of a forward. They become garbage when the forward is removed and the last
// caller that reports one of its events has returned, so that reloads leave nothing behind.
type forwardCounts struct {
	label         string
	sessions      [trackingCount]atomic.Uint64
	transfers     [directionCount][pathCount][outcomeCount]atomic.Uint64
	bytes         [directionCount][pathCount]atomic.Uint64
	pinholeEvents [pinholeEventCount][pinholePathCount]atomic.Uint64
	refused       []atomic.Uint64 // by the index of the reason
	dials         atomic.Pointer[dialHistogram]
}

// dialHistogram is the histogram of a forward's dial times.
type dialHistogram struct{ prometheus.Histogram }

// countsOf returns the counters of a forward; nil: it is not published.
func (m *Metrics) countsOf(name string) *forwardCounts {
	if m == nil {
		return nil
	}
	return m.forwards.Load().byName[name]
}

// SessionBegan counts a session. The proxy calls it, and the monitor of kernel sessions.
func (m *Metrics) SessionBegan(forward string, tracking forward.Tracking) {
	if c := m.countsOf(forward); c != nil && int(tracking) < trackingCount {
		c.sessions[tracking].Add(1)
	}
}

// Finished counts a finished transfer and its bytes. Package sessions calls it.
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

// DataFailed counts a data connection that failed before a transfer used it, as a transfer that failed.
// Package sessions calls it.
func (m *Metrics) DataFailed(forward, path string) {
	if c := m.countsOf(forward); c != nil {
		c.transfers[unknownDirection][pathOf(path)][failed].Add(1)
	}
}

func directionOf(d sessions.Direction) int {
	if i := slices.Index(directionLabels[:], string(d)); i >= 0 {
		return i
	}
	return unknownDirection
}

func pathOf(word string) int {
	if i := slices.Index(pinholePathLabels[:], word); i >= 0 {
		return i
	}
	return pathNone
}

// Refused counts a refusal, correction or cut-off. The proxy calls it, through the daemon, with the reason of
// its refusal. An unknown reason counts as OtherReason.
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

// Dialled counts an established control connection to the server, and the time it took to connect, without
// name resolution and TLS. The proxy calls it, through the daemon. A failed connection counts as a refusal.
func (m *Metrics) Dialled(forward string, took time.Duration) {
	if c := m.countsOf(forward); c != nil {
		c.dialTimes().Observe(took.Seconds())
	}
}

// dialTimes returns the forward's histogram of dial times. It makes the histogram at the first call.
func (c *forwardCounts) dialTimes() *dialHistogram {
	if d := c.dials.Load(); d != nil {
		return d
	}
	// Each forward has a vector of its own, which is removed with it. A shared vector would keep the series
	// of a forward that gets an event after its removal.
	f := catalogue[dialSeconds]
	vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: f.name, Help: f.help,
		Buckets: dialBuckets()}, f.labels)
	c.dials.CompareAndSwap(nil, &dialHistogram{vec.WithLabelValues(c.label).(prometheus.Histogram)})
	return c.dials.Load()
}

// PinholeOpened counts a pinhole in effect, and how long it took to open. The caller is the one that records
// the data connection in package sessions; path is "kernel" or "relay", as there.
func (m *Metrics) PinholeOpened(forward, path string, took time.Duration) {
	if m.countPinhole(forward, pinholeOpened, path) {
		m.openSeconds[pathOf(path)].Observe(took.Seconds())
	}
}

// PinholeUsed counts a pinhole whose peer connected. The same caller calls it, once per pinhole.
func (m *Metrics) PinholeUsed(forward, path string) { m.countPinhole(forward, pinholeUsed, path) }

// PinholeUnused counts a pinhole that expired before a connection came. The same caller calls it. A pinhole
// that was closed before, because it was replaced or the session ended, is neither used nor expired.
func (m *Metrics) PinholeUnused(forward, path string) { m.countPinhole(forward, pinholeExpired, path) }

// countPinhole counts an event of a pinhole. It returns false if the forward is not published, or the path
// has no pinholes.
func (m *Metrics) countPinhole(forward string, event int, path string) bool {
	c, by := m.countsOf(forward), pathOf(path)
	if c == nil || by == pathNone {
		return false
	}
	c.pinholeEvents[event][by].Add(1)
	return true
}

// dialBuckets are seconds: from a server in the same network to three unanswered SYNs.
func dialBuckets() []float64 {
	return []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}
}

// openBuckets are seconds: a batch of netlink messages takes some 25 µs, while the client waits.
func openBuckets() []float64 {
	return []float64{0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
		0.05, 0.1, 1}
}
