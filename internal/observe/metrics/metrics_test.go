package metrics

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/observe/sessions"
)

// proxyForwards returns forwards with tracking proxy.
func proxyForwards(names ...string) []forward.Forward {
	var all []forward.Forward
	for _, n := range names {
		all = append(all, forward.Forward{Name: n})
	}
	return all
}

// plainMetrics returns metrics of some forwards, without sources.
func plainMetrics(names ...string) *Metrics {
	m := New(Build{"1.2.3", "go1.26"}, []string{"unreachable", "login"}, Sources{})
	m.Follow(proxyForwards(names...))
	return m
}

// recordEverything reports one of each event.
func recordEverything(m *Metrics, fwd string) {
	m.SessionBegan(fwd, forward.TrackingProxy)
	m.Dialled(fwd, 3*time.Millisecond)
	for _, path := range []string{"kernel", "relay"} {
		m.PinholeOpened(fwd, path, 40*time.Microsecond)
		m.PinholeUsed(fwd, path)
		m.PinholeUnused(fwd, path)
	}
	for _, d := range []sessions.Direction{sessions.Download, sessions.Upload, sessions.Unknown} {
		for _, path := range []string{"kernel", "relay", ""} {
			m.Finished(sessions.Transfer{Forward: fwd, Direction: d, Path: path, Bytes: 1000, Complete: true})
			m.Finished(sessions.Transfer{Forward: fwd, Direction: d, Path: path, Bytes: 100})
		}
	}
	for _, reason := range m.reasons {
		m.Refused(fwd, reason)
	}
}

// fullMetrics returns metrics with all sources, after one of each event, with these reasons of refusals.
func fullMetrics(reasons []string) *Metrics {
	m := New(Build{"1.2.3", "go1.26"}, reasons, Sources{
		Sessions: func() map[sessions.ForwardKey]int {
			return map[sessions.ForwardKey]int{{Forward: "archive", Tracking: forward.TrackingProxy}: 2,
				{Forward: "plc", Tracking: forward.TrackingKernel}: 1}
		},
		Pinholes: func() (int, int) { return 3, 4 },
		Certificates: func() []Certificate {
			at := time.Unix(1_800_000_000, 0)
			return []Certificate{{"archive", RoleCert, at}, {"archive", RoleClientCert, at},
				{"archive", RoleCA, at}}
		},
		Conntrack: func() (uint64, uint64, bool) { return 512, 262144, true },
		Banned:    func() (int, int) { return 2, 1312 },
		Answers: func() map[string]bool {
			return map[string]bool{"archive": true, "plc": false,
				"gone": true}
		},
	})
	m.Follow([]forward.Forward{{Name: "archive"}, {Name: "plc", Tracking: forward.TrackingKernel}})
	recordEverything(m, "archive")
	m.SessionBegan("plc", forward.TrackingKernel)
	m.RulesetApplied()
	m.Reloaded(time.Unix(1_790_000_000, 500e6), nil)
	m.Reloaded(time.Unix(1_790_000_001, 0), errors.New("no"))
	m.Handler() // which counts its own errors
	return m
}

// checkSamples fails the test unless a family has exactly these samples.
func checkSamples(t *testing.T, m *Metrics, name string, want ...string) {
	t.Helper()
	var got []string
	for line := range strings.Lines(scrape(t, m)) {
		if strings.HasPrefix(line, name+"{") || strings.HasPrefix(line, name+" ") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// scrape returns what a scraper gets.
func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("scrape: got status %d: %s", w.Code, w.Body)
	}
	text := w.Body.String()
	for line := range strings.Lines(text) {
		if n, errs := strings.CutPrefix(line, "promhttp_metric_handler_errors_total"); errs &&
			!strings.HasSuffix(n, " 0\n") {
			t.Errorf("the handler has met errors: %s", line)
		}
	}
	return text
}

func TestEvents(t *testing.T) {
	m := fullMetrics([]string{"login", "unreachable"})
	checkSamples(t, m, "ftpgate_sessions", `ftpgate_sessions{forward="archive",tracking="proxy"} 2`,
		`ftpgate_sessions{forward="plc",tracking="kernel"} 1`)
	checkSamples(t, m, "ftpgate_sessions_max", `ftpgate_sessions_max{forward="archive"} 20000`)
	checkSamples(t, m, "ftpgate_sessions_total",
		`ftpgate_sessions_total{forward="archive",tracking="proxy"} 1`,
		`ftpgate_sessions_total{forward="plc",tracking="kernel"} 1`)
	checkSamples(t, m, "ftpgate_refusals_total", `ftpgate_refusals_total{forward="archive",reason="login"} 1`,
		`ftpgate_refusals_total{forward="archive",reason="other"} 1`,
		`ftpgate_refusals_total{forward="archive",reason="unreachable"} 1`)
	checkSamples(t, m, "ftpgate_pinholes", `ftpgate_pinholes{path="kernel"} 3`,
		`ftpgate_pinholes{path="relay"} 4`)
	for _, event := range []string{"opened", "used", "expired"} {
		name := "ftpgate_pinholes_" + event + "_total"
		checkSamples(t, m, name, name+`{forward="archive",path="kernel"} 1`,
			name+`{forward="archive",path="relay"} 1`)
	}
	checkSamples(t, m, "ftpgate_dial_seconds_count", `ftpgate_dial_seconds_count{forward="archive"} 1`)
	checkSamples(t, m, "ftpgate_pinhole_open_seconds_count",
		`ftpgate_pinhole_open_seconds_count{path="kernel"} 1`,
		`ftpgate_pinhole_open_seconds_count{path="relay"} 1`)
	checkSamples(t, m, "ftpgate_ruleset_generation", "ftpgate_ruleset_generation 1")
	checkSamples(t, m, "ftpgate_reloads_total", `ftpgate_reloads_total{result="complete"} 1`,
		`ftpgate_reloads_total{result="failed"} 1`)
	checkSamples(t, m, "ftpgate_last_reload_successful", "ftpgate_last_reload_successful 0")
	checkSamples(t, m, "ftpgate_last_reload_success_timestamp_seconds",
		"ftpgate_last_reload_success_timestamp_seconds 1.7900000005e+09")
	checkSamples(t, m, "ftpgate_certificate_not_after_timestamp_seconds",
		`ftpgate_certificate_not_after_timestamp_seconds{file="ca",forward="archive"} 1.8e+09`,
		`ftpgate_certificate_not_after_timestamp_seconds{file="cert",forward="archive"} 1.8e+09`,
		`ftpgate_certificate_not_after_timestamp_seconds{file="client_cert",forward="archive"} 1.8e+09`)
	checkSamples(t, m, "ftpgate_server_up", `ftpgate_server_up{forward="archive"} 1`,
		`ftpgate_server_up{forward="plc"} 0`)
	checkSamples(t, m, "ftpgate_build_info", `ftpgate_build_info{goversion="go1.26",version="1.2.3"} 1`)
	checkSamples(t, m, "ftpgate_conntrack_entries", "ftpgate_conntrack_entries 512")
	checkSamples(t, m, "ftpgate_conntrack_max", "ftpgate_conntrack_max 262144")
}

func TestTransfers(t *testing.T) {
	m := plainMetrics("a")
	for _, each := range []sessions.Transfer{
		{Direction: sessions.Download, Path: "kernel", Bytes: 1 << 40, Complete: true},
		{Direction: sessions.Download, Path: "kernel", Bytes: 5, Complete: false},
		{Direction: sessions.Upload, Path: "relay", Bytes: 7, Complete: true},
		{Direction: sessions.Upload, Path: "relay", Bytes: -7, Complete: true}, // no possible count
		{Direction: sessions.Download, Path: "", Complete: false},
		{Direction: "sideways", Path: "carrier pigeon", Bytes: 9, Complete: true},
	} {
		each.Forward = "a"
		m.Finished(each)
	}
	checkSamples(t, m, "ftpgate_transfers_total",
		`ftpgate_transfers_total{direction="download",forward="a",path="kernel",result="complete"} 1`,
		`ftpgate_transfers_total{direction="download",forward="a",path="kernel",result="failed"} 1`,
		`ftpgate_transfers_total{direction="download",forward="a",path="none",result="failed"} 1`,
		`ftpgate_transfers_total{direction="download",forward="a",path="relay",result="complete"} 0`,
		`ftpgate_transfers_total{direction="download",forward="a",path="relay",result="failed"} 0`,
		`ftpgate_transfers_total{direction="unknown",forward="a",path="none",result="complete"} 1`,
		`ftpgate_transfers_total{direction="upload",forward="a",path="kernel",result="complete"} 0`,
		`ftpgate_transfers_total{direction="upload",forward="a",path="kernel",result="failed"} 0`,
		`ftpgate_transfers_total{direction="upload",forward="a",path="relay",result="complete"} 2`,
		`ftpgate_transfers_total{direction="upload",forward="a",path="relay",result="failed"} 0`)
	checkSamples(t, m, "ftpgate_transfer_bytes_total",
		`ftpgate_transfer_bytes_total{direction="download",forward="a",path="kernel"} 1.099511627781e+12`,
		`ftpgate_transfer_bytes_total{direction="download",forward="a",path="relay"} 0`,
		`ftpgate_transfer_bytes_total{direction="unknown",forward="a",path="none"} 9`,
		`ftpgate_transfer_bytes_total{direction="upload",forward="a",path="kernel"} 0`,
		`ftpgate_transfer_bytes_total{direction="upload",forward="a",path="relay"} 7`)
}

// TestReloadedAgain checks that a success after a failure sets the gauge again.
func TestReloadedAgain(t *testing.T) {
	m := plainMetrics("a")
	if began := testutil.ToFloat64(m.lastReloadTime); time.Since(time.Unix(int64(began), 0)) > time.Hour {
		t.Errorf("the configuration was loaded at %v; want now", began)
	}
	checkSamples(t, m, "ftpgate_last_reload_successful", "ftpgate_last_reload_successful 1")
	m.Reloaded(time.Unix(5, 0), errors.New("no"))
	checkSamples(t, m, "ftpgate_last_reload_successful", "ftpgate_last_reload_successful 0")
	m.Reloaded(time.Unix(6, 0), nil)
	checkSamples(t, m, "ftpgate_last_reload_successful", "ftpgate_last_reload_successful 1")
	checkSamples(t, m, "ftpgate_last_reload_success_timestamp_seconds",
		"ftpgate_last_reload_success_timestamp_seconds 6")
}

func TestLint(t *testing.T) {
	m := fullMetrics([]string{"login"})
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	// This pedantic registry also checks that the collected metrics are described.
	problems, err = testutil.CollectAndLint(collector{m})
	if err != nil || len(problems) > 0 {
		t.Errorf("got %v, %v", problems, err)
	}
}

// TestNil checks that all methods work on a nil *Metrics.
func TestNil(t *testing.T) {
	var m *Metrics
	v := reflect.ValueOf(m)
	for i := range v.NumMethod() {
		var in []reflect.Value
		for j := range v.Method(i).Type().NumIn() {
			in = append(in, reflect.Zero(v.Method(i).Type().In(j)))
		}
		v.Method(i).Call(in)
	}
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("without metrics: got status %d", w.Code)
	}
}

// TestOwnRegistry checks that a process can have two Metrics, and that neither uses the global registry.
func TestOwnRegistry(t *testing.T) {
	a, b := plainMetrics("a"), plainMetrics("a")
	a.SessionBegan("a", forward.TrackingProxy)
	checkSamples(t, b, "ftpgate_sessions_total", `ftpgate_sessions_total{forward="a",tracking="proxy"} 0`)
	global, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range global {
		if strings.HasPrefix(f.GetName(), "ftpgate_") {
			t.Errorf("%s is in the global registry", f.GetName())
		}
	}
}

func TestSteadyEventsAllocateNothing(t *testing.T) {
	m := fullMetrics([]string{"login"})
	for name, event := range events(m) {
		if n := testing.AllocsPerRun(100, event); n > 0 {
			t.Errorf("%s: got %v allocations", name, n)
		}
	}
}

// events returns the events that occur in a session.
func events(m *Metrics) map[string]func() {
	transfer := sessions.Transfer{Forward: "archive", Direction: sessions.Download, Path: "kernel",
		Bytes: 1000, Complete: true}
	return map[string]func(){
		"SessionBegan":  func() { m.SessionBegan("archive", forward.TrackingProxy) },
		"Finished":      func() { m.Finished(transfer) },
		"Refused":       func() { m.Refused("archive", "login") },
		"Dialled":       func() { m.Dialled("archive", time.Millisecond) },
		"PinholeOpened": func() { m.PinholeOpened("archive", "kernel", 30*time.Microsecond) },
		"PinholeUsed":   func() { m.PinholeUsed("archive", "kernel") },
	}
}

func BenchmarkEvents(b *testing.B) {
	m := fullMetrics([]string{"login"})
	for name, event := range events(m) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				event()
			}
		})
	}
}

func BenchmarkScrape(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := New(Build{}, []string{"login"}, Sources{})
			forwards := make([]forward.Forward, n)
			for i := range forwards {
				forwards[i].Name = fmt.Sprint("forward ", i)
			}
			m.Follow(forwards)
			h := m.Handler()
			for b.Loop() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
				b.ReportMetric(float64(w.Body.Len()), "bytes")
			}
		})
	}
}
