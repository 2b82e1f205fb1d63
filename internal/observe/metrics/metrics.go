// Package metrics counts what the gateway does, for Prometheus. docs/metrics.md lists every metric.
//
// The packages that serve sessions report events; current values are read from Sources at each scrape. Label
// values are names of forwards in the configuration and fixed words: never an address, a user or a file. The
// package opens no socket and has no global state.
//
// Locks: Metrics.followMu, held while the list of forwards is replaced; no event and no scrape waits for it.
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
	"ftpgate/internal/observe/sessions"
)

const (
	// OtherReason is the label of a refusal with an unknown reason.
	OtherReason = "other"
	// maxConcurrentScrapes bounds the cost of scrapers; the handler answers more with 503.
	maxConcurrentScrapes = 4
	// With up to maxForwardsWithZeroes forwards counters appear as zero before the first event, so that
	// rate() sees that event. A forward has some sixty series: with more forwards only counters above zero
	// appear.
	maxForwardsWithZeroes = 100
)

// Build identifies the program.
type Build struct {
	Version   string // of ftpgate
	GoVersion string // like runtime.Version
}

// Sources return current values. They are called at each scrape, perhaps concurrently. The metrics of a nil
// source are omitted.
type Sources struct {
	// Sessions returns the numbers of open sessions. Those of forwards that are not published are omitted.
	// The daemon gets them from package sessions.
	Sessions func() map[sessions.ForwardKey]int
	// Pinholes returns the numbers of open pinholes by data path. The daemon gets them from its paths.
	Pinholes func() (kernel, relay int)
	// Certificates returns when certificate files expire. The daemon gets it from package tlskeys.
	Certificates func() []Certificate
	// Answers returns for each forward whose server was asked whether it answers. The daemon gets it from
	// package health.
	Answers func() map[string]bool
	// Banned returns how many addresses and prefixes are banned, and how many the file denies. The daemon
	// gets it from package bans.
	Banned func() (bans, denied int)
	// Conntrack returns how many connections the kernel tracks in this network namespace, and its limit;
	// false: unknown. The daemon gets it from package system.
	Conntrack func() (entries, limit uint64, known bool)
}

// Certificate is a file of a forward that expires.
type Certificate struct {
	Forward  string
	Role     Role
	NotAfter time.Time // the earliest of all certificates in the file; zero: omitted
}

// Role is the purpose of a certificate.
type Role uint8

// The roles, by the keys of the configuration.
const (
	RoleCert       Role = iota // presented to clients: tls.cert
	RoleClientCert             // presented to the server: tls.client_cert
	RoleCA                     // verifies the server: tls.ca
	RoleClientCA               // verifies clients: tls.client_ca
	roleCount
)

var roleLabels = [roleCount]string{RoleCert: "cert", RoleClientCert: "client_cert", RoleCA: "ca",
	RoleClientCA: "client_ca"}

// Metrics counts events. A nil *Metrics does nothing. It is safe for concurrent use. The methods for events
// do not block, and allocate memory only at the first event of a forward.
type Metrics struct {
	registry    *prometheus.Registry
	sources     Sources
	reasons     []string       // of refusals, OtherReason last
	reasonIndex map[string]int // reason to index in reasons
	descs       [familyCount]*prometheus.Desc

	openSeconds    [pinholePathCount]prometheus.Observer
	generation     prometheus.Gauge
	repairs        prometheus.Counter // of the kernel's table
	reloads        [outcomeCount]prometheus.Counter
	lastReloadOK   prometheus.Gauge // 1: the last reload succeeded
	lastReloadTime prometheus.Gauge // when the running configuration was loaded

	followMu sync.Mutex // held while forwards is replaced
	forwards atomic.Pointer[forwardSet]
}

// forwardSet has the forwards whose events are counted. It is immutable.
type forwardSet struct {
	all    []forwardMetrics
	byName map[string]*forwardCounts
}

// forwardMetrics has the counters of a forward, and its labels and limits for a scrape.
type forwardMetrics struct {
	*forwardCounts
	name     string
	tracking forward.Tracking
	limit    int // of concurrent sessions; 0: ftpgate sets none
}

// New returns metrics without any forward: call Follow. Until the first reload the time of New counts as the
// last reload. reasons are the values that Refused accepts: see
// verdict.RefusalNames.
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

// registerOwn registers the metrics that do not belong to a forward.
func (m *Metrics) registerOwn(build Build) {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ftpgate_build_info",
		Help: "Always 1; the labels say which ftpgate it is.",
		ConstLabels: prometheus.Labels{"version": validUTF8(build.Version),
			"goversion": validUTF8(build.GoVersion)},
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
	m.reloads = [outcomeCount]prometheus.Counter{reloads.WithLabelValues("complete"),
		reloads.WithLabelValues("failed")}
	m.generation = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ftpgate_ruleset_generation",
		Help: "How often the kernel's table was written anew since the start; 0 where ftpgate has none.",
	})
	m.repairs = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "ftpgate_ruleset_repairs_total",
		Help: "How often rules that another program had removed from the kernel's table were put back.",
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
	m.registry.MustRegister(info, opening, reloads, m.generation, m.repairs, m.lastReloadOK, m.lastReloadTime)
}

// Follow starts to count events of exactly these forwards. Forwards that were counted before, by name, keep
// their counters. Removed forwards lose their series, and later events of their sessions are not counted. The
// daemon calls it at the start and after each reload, before it serves the forwards.
func (m *Metrics) Follow(forwards []forward.Forward) {
	if m == nil {
		return
	}
	m.followMu.Lock()
	defer m.followMu.Unlock()
	before := m.forwards.Load().byName
	now := &forwardSet{byName: make(map[string]*forwardCounts, len(forwards)),
		all: make([]forwardMetrics, 0, len(forwards))}
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
		followed := forwardMetrics{forwardCounts: c, name: f.Name, tracking: f.Tracking}
		if f.Tracking == forward.TrackingProxy {
			followed.limit = f.Limits.OrDefault().Sessions
		}
		now.byName[f.Name] = c
		now.all = append(now.all, followed)
	}
	m.forwards.Store(now)
}

// Repaired counts a repair of the kernel's table after another program has changed it. The daemon
// calls it.
func (m *Metrics) Repaired() {
	if m != nil {
		m.repairs.Inc()
	}
}

// RulesetApplied counts a write of the kernel's table. Package gateway calls it, through the daemon.
func (m *Metrics) RulesetApplied() {
	if m != nil {
		m.generation.Inc()
	}
}

// Reloaded counts a reload; err is nil if the new configuration is in effect. The daemon calls it.
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

// Handler serves the metrics to scrapers. The admin API serves it at /metrics. Without metrics it answers
// 404.
func (m *Metrics) Handler() http.Handler {
	if m == nil {
		return http.NotFoundHandler()
	}
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		Registry:            m.registry, // counts metrics that fail; the scrape shows the others
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxConcurrentScrapes,
	})
}

// validUTF8 returns s as valid UTF-8, which label values must be.
func validUTF8(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
