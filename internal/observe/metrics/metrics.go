// Package metrics counts what the gateway does, for Prometheus: docs/metrics.md lists every metric.
//
// It is told of events by those who serve sessions, and asks for what stands at a moment when it is scraped.
// Labels are names of forwards out of the configuration and words that are fixed here: never an address, a
// user or a file. It opens no socket, and nothing of it is global.
package metrics

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"ftpgate/internal/core/forward"
)

const (
	// OtherReason is what a refusal counts as whose reason was not named to New.
	OtherReason = "other"
	// maxConcurrentScrapes bounds what an impatient scraper costs; one more is told 503.
	maxConcurrentScrapes = 4
	// maxForwardsWithZeroes is with how many forwards what has never happened is shown as zero, so that rate() sees the
	// first time. A forward has some sixty series: with more forwards only what has happened is shown.
	maxForwardsWithZeroes = 100
)

// Build is what is said of the program.
type Build struct {
	Version   string // of ftpgate
	GoVersion string // like runtime.Version
}

// Sources are asked at each scrape, perhaps by several at once. A nil one is not asked, and its metrics are
// left out.
type Sources struct {
	// Sessions tells how many sessions run. Counts of the same forward and tracking are added up, and those
	// of forwards that are not published (any more) left out. The daemon takes it from the journal.
	Sessions func() []SessionCount
	// Pinholes tells how many pinholes are open, by data path. The daemon takes it from its paths.
	Pinholes func() (kernel, relay int)
	// Certificates tells when files expire. The daemon takes it from secure.Keys.
	Certificates func() []Certificate
	// Conntrack tells how many connections the kernel tracks in this network namespace, and how many it
	// can; false: it does not say. The daemon takes it from system.
	Conntrack func() (entries, limit uint64, known bool)
}

// SessionCount is how many sessions of a forward run.
type SessionCount struct {
	Forward  string
	Tracking forward.Tracking
	Running  int
}

// Certificate is a file of a forward that expires.
type Certificate struct {
	Forward  string
	Role     Role
	NotAfter time.Time // of a file with several, the first that expires; zero is left out
}

// Role is what a certificate is for.
type Role uint8

// The roles, by the keys of the configuration.
const (
	RoleCert       Role = iota // what the gateway shows clients: tls.cert
	RoleClientCert             // what it shows the server: tls.client_cert
	RoleCA                     // whom it trusts to vouch for the server: tls.ca
	roleCount
)

var roleLabels = [roleCount]string{RoleCert: "cert", RoleClientCert: "client_cert", RoleCA: "ca"}

// Metrics counts. A nil one does nothing. Its methods may be called from several goroutines; those that tell
// of events do not block, and allocate nothing but with a forward's first.
type Metrics struct {
	registry    *prometheus.Registry
	sources     Sources
	reasons     []string       // of refusals, OtherReason last
	reasonIndex map[string]int // their indexes
	descs       [familyCount]*prometheus.Desc

	openSeconds    [pinholePathCount]prometheus.Observer
	generation     prometheus.Gauge
	reloads        [outcomeCount]prometheus.Counter
	lastReloadOK   prometheus.Gauge // 1: the last reload was a success
	lastReloadTime prometheus.Gauge // when the configuration was taken over

	followMu sync.Mutex // held while published is replaced
	forwards atomic.Pointer[forwardSet]
}

// forwardSet are the forwards whose events count. It does not change.
type forwardSet struct {
	all    []forwardMetrics
	byName map[string]*forwardCounts
}

// forwardMetrics is one of them.
type forwardMetrics struct {
	*forwardCounts
	tracking forward.Tracking
	limit    int // of sessions at once; 0: none of ours
}

// New returns metrics of no forwards yet: the daemon makes them before it serves, at its start, which stands
// for the last reload until there is one. reasons are the words that Refused takes: those of tracker.Refusal.
func New(build Build, reasons []string, sources Sources) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), sources: sources, reasonIndex: map[string]int{}}
	for _, r := range append(slices.Clone(reasons), OtherReason) {
		r = validUTF8(r)
		if _, known := m.reasonIndex[r]; !known {
			m.reasonIndex[r] = len(m.reasons)
			m.reasons = append(m.reasons, r)
		}
	}
	for i, f := range catalogue {
		m.descs[i] = prometheus.NewDesc(f.name, f.help, f.labels, nil)
	}
	m.forwards.Store(&forwardSet{})
	m.registerOwn(build)
	m.registry.MustRegister(
		collector{m},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// registerOwn makes the metrics that have nothing to do with a forward.
func (m *Metrics) registerOwn(build Build) {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "ftpgate_build_info",
		Help:        "Always 1; the labels say which ftpgate it is.",
		ConstLabels: prometheus.Labels{"version": validUTF8(build.Version), "goversion": validUTF8(build.GoVersion)},
	})
	info.Set(1)
	opening := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "ftpgate_pinhole_open_seconds",
		Help:    "Time to have a pinhole in force.",
		Buckets: openBuckets(),
	}, []string{"path"})
	for c, word := range pinholePathLabels {
		m.openSeconds[c] = opening.WithLabelValues(word)
	}
	reloads := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ftpgate_reloads_total",
		Help: "Reloads of the configuration.",
	}, []string{"result"})
	m.reloads = [outcomeCount]prometheus.Counter{reloads.WithLabelValues("complete"), reloads.WithLabelValues("failed")}
	m.generation = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ftpgate_ruleset_generation",
		Help: "How often the kernel's table was written anew since the start; 0 where ftpgate has none.",
	})
	m.lastReloadOK = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ftpgate_last_reload_successful",
		Help: "Whether the last reload, or the start, was a success.",
	})
	m.lastReloadTime = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ftpgate_last_reload_success_timestamp_seconds",
		Help: "When the configuration was taken over that is in force.",
	})
	m.lastReloadOK.Set(1)
	m.lastReloadTime.SetToCurrentTime()
	m.registry.MustRegister(info, opening, reloads, m.generation, m.lastReloadOK, m.lastReloadTime)
}

// Follow has events of exactly these forwards counted. Those that were there before, by name, go on with
// what they have; those that are gone lose their series, and what still happens to their sessions is not
// counted. The daemon calls it at the start and after each reload, before it serves the forwards.
func (m *Metrics) Follow(forwards []forward.Forward) {
	if m == nil {
		return
	}
	m.followMu.Lock()
	defer m.followMu.Unlock()
	before := m.forwards.Load().byName
	now := &forwardSet{byName: make(map[string]*forwardCounts, len(forwards))}
	labels := make(map[string]bool, len(forwards))
	for _, f := range forwards {
		label := validUTF8(f.Name)
		if labels[label] { // two series with the same labels would fail every scrape
			continue
		}
		labels[label] = true
		c := before[f.Name]
		if c == nil {
			c = &forwardCounts{label: label, refused: make([]atomic.Uint64, len(m.reasons))}
		}
		followed := forwardMetrics{forwardCounts: c, tracking: f.Tracking}
		if f.Tracking == forward.TrackingProxy {
			followed.limit = f.Limits.OrDefault().Sessions
		}
		now.byName[f.Name] = c
		now.all = append(now.all, followed)
	}
	m.forwards.Store(now)
}

// RulesetApplied counts that the kernel's table was written anew. The daemon calls it after the start, a
// reload, a server's new address, or when another program had removed the table.
func (m *Metrics) RulesetApplied() {
	if m != nil {
		m.generation.Inc()
	}
}

// Reloaded tells how a reload went; nil: the new configuration is in force. The daemon calls it.
func (m *Metrics) Reloaded(at time.Time, err error) {
	switch {
	case m == nil:
	case err != nil:
		m.reloads[failed].Inc()
		m.lastReloadOK.Set(0)
	default:
		m.reloads[complete].Inc()
		m.lastReloadOK.Set(1)
		m.lastReloadTime.Set(float64(at.UnixMilli()) / 1e3)
	}
}

// Handler serves the metrics to scrapers. The admin API puts it at /metrics. Without metrics there is
// nothing to be found.
func (m *Metrics) Handler() http.Handler {
	if m == nil {
		return http.NotFoundHandler()
	}
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		Registry:            m.registry, // counts what could not be shown, in place of showing nothing at all
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxConcurrentScrapes,
	})
}

// validUTF8 makes a text one that can be a label's value: UTF-8.
func validUTF8(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
