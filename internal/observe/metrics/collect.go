package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/observe/sessions"
)

// The metric families that collector shows.
const (
	sessionsRunning = iota
	sessionsMax
	sessionsTotal
	transfersTotal
	transferBytes
	refusalsTotal
	dialSeconds
	pinholes
	pinholesOpened
	pinholesUsed
	pinholesExpired
	serverUp
	banned
	certificateNotAfter
	conntrackEntries
	conntrackMax
	familyCount
)

// family is a metric family: its name, help, type and labels.
type family struct {
	name, help string
	kind       prometheus.ValueType
	labels     []string
}

var catalogue = [familyCount]family{
	sessionsRunning: {"ftpgate_sessions", "Sessions that run.", prometheus.GaugeValue,
		[]string{"forward", "tracking"}},
	sessionsMax: {"ftpgate_sessions_max", "How many sessions the forward takes at once.",
		prometheus.GaugeValue, []string{"forward"}},
	sessionsTotal: {"ftpgate_sessions_total", "Sessions that began.", prometheus.CounterValue,
		[]string{"forward", "tracking"}},
	transfersTotal: {"ftpgate_transfers_total", "Files and listings whose transfer is over.",
		prometheus.CounterValue, []string{"forward", "direction", "path", "result"}},
	transferBytes: {"ftpgate_transfer_bytes_total", "Bytes of files and listings whose transfer is " +
		"over.", prometheus.CounterValue, []string{"forward", "direction", "path"}},
	refusalsTotal: {"ftpgate_refusals_total", "What was refused, put right or cut off.",
		prometheus.CounterValue, []string{"forward", "reason"}},
	dialSeconds: {"ftpgate_dial_seconds", "Time from the beginning of dialling the server until " +
		"it took the connection.", prometheus.UntypedValue, []string{"forward"}},
	pinholes: {"ftpgate_pinholes", "Pinholes that are open.", prometheus.GaugeValue,
		[]string{"path"}},
	pinholesOpened: {"ftpgate_pinholes_opened_total", "Pinholes that were opened.",
		prometheus.CounterValue, []string{"forward", "path"}},
	pinholesUsed: {"ftpgate_pinholes_used_total", "Pinholes that were used.",
		prometheus.CounterValue, []string{"forward", "path"}},
	pinholesExpired: {"ftpgate_pinholes_expired_total", "Pinholes that no peer used in time.",
		prometheus.CounterValue, []string{"forward", "path"}},
	serverUp: {"ftpgate_server_up", "Whether the server answered the last checks.",
		prometheus.GaugeValue, []string{"forward"}},
	banned: {"ftpgate_banned", "Addresses and prefixes that are refused.", prometheus.GaugeValue,
		[]string{"by"}},
	certificateNotAfter: {"ftpgate_certificate_not_after_timestamp_seconds", "When a certificate of the " +
		"configuration expires.", prometheus.GaugeValue, []string{"forward", "file"}},
	conntrackEntries: {"ftpgate_conntrack_entries",
		"Connections that the kernel tracks in ftpgate's network namespace.", prometheus.GaugeValue, nil},
	conntrackMax: {"ftpgate_conntrack_max", "How many connections the kernel can track.",
		prometheus.GaugeValue, nil},
}

// collector implements prometheus.Collector for Metrics.
type collector struct{ *Metrics }

// Describe implements prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	now := c.forwards.Load()
	few := len(now.all) <= maxForwardsWithZeroes
	var running map[sessions.ForwardKey]int
	if c.sources.Sessions != nil {
		running = c.sources.Sessions()
	}
	for _, f := range now.all {
		s := forwardCollector{c.Metrics, out, f, few && f.tracking == forward.TrackingProxy}
		s.showSessions(running)
		s.showRefusals()
		s.showPinholes()
		s.zeroes = few && f.tracking != forward.TrackingNone // without tracking transfers are invisible
		s.showTransfers()
	}
	if c.sources.Pinholes != nil {
		kernel, relay := c.sources.Pinholes()
		c.put(out, pinholes, float64(kernel), pinholePathLabels[pathKernel])
		c.put(out, pinholes, float64(relay), pinholePathLabels[pathRelay])
	}
	if c.sources.Conntrack != nil {
		if entries, limit, known := c.sources.Conntrack(); known {
			c.put(out, conntrackEntries, float64(entries))
			c.put(out, conntrackMax, float64(limit))
		}
	}
	if c.sources.Banned != nil {
		bans, denied := c.sources.Banned()
		c.put(out, banned, float64(bans), "ban")
		c.put(out, banned, float64(denied), "deny")
	}
	c.showServers(out, now)
	c.showCertificates(out, now)
}

// showServers sends which servers answer, of those that were asked.
func (m *Metrics) showServers(out chan<- prometheus.Metric, now *forwardSet) {
	if m.sources.Answers == nil {
		return
	}
	answers := m.sources.Answers()
	for _, f := range now.all {
		if up, asked := answers[f.name]; asked {
			value := 0.0
			if up {
				value = 1
			}
			m.put(out, serverUp, value, f.label)
		}
	}
}

// put sends one value. Only an invalid value fails, and the handler counts it.
func (m *Metrics) put(out chan<- prometheus.Metric, family int, value float64, labels ...string) {
	metric, err := prometheus.NewConstMetric(m.descs[family], catalogue[family].kind, value, labels...)
	if err != nil {
		metric = prometheus.NewInvalidMetric(m.descs[family], err)
	}
	out <- metric
}

// showCertificates sends when certificates expire: for each forward and role the earliest.
func (m *Metrics) showCertificates(out chan<- prometheus.Metric, now *forwardSet) {
	if m.sources.Certificates == nil {
		return
	}
	type file struct {
		*forwardCounts
		role Role
	}
	first := map[file]float64{}
	for _, c := range m.sources.Certificates() {
		f := file{now.byName[c.Forward], c.Role}
		if f.forwardCounts == nil || f.role >= roleCount || c.NotAfter.IsZero() {
			continue
		}
		at := float64(c.NotAfter.Unix())
		if sooner, there := first[f]; !there || at < sooner {
			first[f] = at
		}
	}
	for f, at := range first {
		m.put(out, certificateNotAfter, at, f.label, roleLabels[f.role])
	}
}

// forwardCollector sends the metrics of one forward.
type forwardCollector struct {
	*Metrics
	out chan<- prometheus.Metric
	forwardMetrics
	zeroes bool // also send counters that are zero
}

func (s *forwardCollector) count(family int, n uint64, zeroes bool, labels ...string) {
	if n > 0 || zeroes {
		s.put(s.out, family, float64(n), append([]string{s.label}, labels...)...)
	}
}

// showSessions sends the forward's session counts, also if zero, so that scrapers see that the forward
// exists.
func (s *forwardCollector) showSessions(running map[sessions.ForwardKey]int) {
	if s.limit > 0 {
		s.put(s.out, sessionsMax, float64(s.limit), s.label)
	}
	for t := range trackingCount {
		tracking := forward.Tracking(t)
		own := tracking == s.tracking && tracking != forward.TrackingNone
		s.count(sessionsTotal, s.sessions[t].Load(), own, tracking.String())
		n := running[sessions.ForwardKey{Forward: s.name, Tracking: tracking}]
		if running != nil && (n > 0 || own) {
			s.put(s.out, sessionsRunning, float64(n), s.label, tracking.String())
		}
	}
}

func (s *forwardCollector) showRefusals() {
	for i, reason := range s.reasons {
		s.count(refusalsTotal, s.refused[i].Load(), s.zeroes, reason)
	}
	if s.zeroes {
		s.dialTimes()
	}
	if d := s.dials.Load(); d != nil {
		s.out <- d.Histogram
	}
}

func (s *forwardCollector) showPinholes() {
	for by, word := range pinholePathLabels {
		// Opened is read last, so that it is never less than used plus expired.
		s.count(pinholesUsed, s.pinholeEvents[pinholeUsed][by].Load(), s.zeroes, word)
		s.count(pinholesExpired, s.pinholeEvents[pinholeExpired][by].Load(), s.zeroes, word)
		s.count(pinholesOpened, s.pinholeEvents[pinholeOpened][by].Load(), s.zeroes, word)
	}
}

func (s *forwardCollector) showTransfers() {
	for d, direction := range directionLabels {
		for p, path := range pathLabels {
			zeroes := s.zeroes && d != unknownDirection && p != pathNone
			s.count(transferBytes, s.bytes[d][p].Load(), zeroes, direction, path)
			for o, outcome := range outcomeLabels {
				s.count(transfersTotal, s.transfers[d][p][o].Load(), zeroes, direction, path, outcome)
			}
		}
	}
}
