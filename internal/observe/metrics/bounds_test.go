package metrics

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/observe/sessions"
)

// countSeries counts ftpgate's own samples in a scrape.
func countSeries(t *testing.T, m *Metrics) (n int) {
	t.Helper()
	for line := range strings.Lines(scrape(t, m)) {
		if strings.HasPrefix(line, "ftpgate_") {
			n++
		}
	}
	return n
}

// TestLabelsAreBounded checks that no word of a caller becomes a label value.
func TestLabelsAreBounded(t *testing.T) {
	const hostile = "192.0.2.66"
	var certificates []Certificate
	running := map[sessions.ForwardKey]int{}
	m := New(Build{}, []string{"login"}, Sources{
		Sessions:     func() map[sessions.ForwardKey]int { return running },
		Certificates: func() []Certificate { return certificates },
	})
	m.Follow(proxyForwards("a"))
	recordEverything(m, "a")
	before := countSeries(t, m)
	for i := range 1000 {
		word := fmt.Sprint(hostile, "-", i)
		recordEverything(m, word)
		m.Refused("a", word)
		m.SessionBegan("a", forward.Tracking(i%200+trackingCount))
		m.PinholeOpened("a", word, 0)
		m.PinholeUsed("a", word)
		m.PinholeUnused("a", "")
		m.Finished(sessions.Transfer{Forward: "a", Direction: sessions.Direction(word), Path: word,
			User: word, File: word, Verb: word, Bytes: 1})
		running[sessions.ForwardKey{Forward: word, Tracking: forward.TrackingProxy}] = 1
		running[sessions.ForwardKey{Forward: "a", Tracking: forward.Tracking(200)}] = 1
		certificates = append(certificates, Certificate{word, RoleCert, time.Unix(1, 0)},
			Certificate{"a", roleCount + Role(i%100), time.Unix(1, 0)})
	}
	if after := countSeries(t, m); after != before {
		t.Errorf("got %d series; want %d", after, before)
	}
	if text := scrape(t, m); strings.Contains(text, hostile) {
		t.Error("a caller's word has become a label")
	}
	checkSamples(t, m, "ftpgate_refusals_total", `ftpgate_refusals_total{forward="a",reason="login"} 1`,
		`ftpgate_refusals_total{forward="a",reason="other"} 1001`)
}

// TestSourcesMayRepeat checks that a source's duplicates make one series, and that the scrape succeeds.
func TestSourcesMayRepeat(t *testing.T) {
	m := New(Build{}, nil, Sources{
		Sessions: func() map[sessions.ForwardKey]int {
			return map[sessions.ForwardKey]int{{Forward: "a", Tracking: forward.TrackingProxy}: 2,
				{Forward: "a", Tracking: forward.TrackingKernel}: 1}
		},
		Certificates: func() []Certificate {
			return []Certificate{{"a", RoleCA, time.Unix(9, 0)}, {"a", RoleCA, time.Unix(7, 0)},
				{"a", RoleCA, time.Unix(8, 0)}, {"a", RoleCert, time.Time{}}}
		},
		Conntrack: func() (uint64, uint64, bool) { return 0, 0, false },
	})
	m.Follow(proxyForwards("a", "a"))
	checkSamples(t, m, "ftpgate_sessions", `ftpgate_sessions{forward="a",tracking="kernel"} 1`,
		`ftpgate_sessions{forward="a",tracking="proxy"} 2`)
	checkSamples(t, m, "ftpgate_certificate_not_after_timestamp_seconds",
		`ftpgate_certificate_not_after_timestamp_seconds{file="ca",forward="a"} 7`)
	checkSamples(t, m, "ftpgate_conntrack_entries")
}

// TestNames checks that every name of a forward is a valid label value.
func TestNames(t *testing.T) {
	m := New(Build{Version: "\xff"}, []string{"\xfe", "\xff"}, Sources{})
	m.Follow(proxyForwards("quote\" back\\slash", "Größe 1", "bad\xff", "bad\xfe"))
	for _, f := range []string{"quote\" back\\slash", "Größe 1", "bad\xff"} {
		m.SessionBegan(f, forward.TrackingProxy)
	}
	checkSamples(t, m, "ftpgate_sessions_total",
		`ftpgate_sessions_total{forward="Größe 1",tracking="proxy"} 1`,
		`ftpgate_sessions_total{forward="bad�",tracking="proxy"} 1`,
		`ftpgate_sessions_total{forward="quote\" back\\slash",tracking="proxy"} 1`)
}

// TestFollow checks that a forward that stays keeps its counts, and that a removed one loses its series and
// starts at zero when it returns.
func TestFollow(t *testing.T) {
	m := plainMetrics("stays", "goes")
	recordEverything(m, "stays")
	recordEverything(m, "goes")
	limited := proxyForwards("stays")
	limited[0].Limits.Sessions = 7
	m.Follow(limited)
	recordEverything(m, "goes") // its sessions may continue for a while
	if text := scrape(t, m); strings.Contains(text, `"goes"`) {
		t.Error("a forward that is gone still has series")
	}
	checkSamples(t, m, "ftpgate_sessions_max", `ftpgate_sessions_max{forward="stays"} 7`)
	checkSamples(t, m, "ftpgate_sessions_total", `ftpgate_sessions_total{forward="stays",tracking="proxy"} 1`)
	checkSamples(t, m, "ftpgate_dial_seconds_count", `ftpgate_dial_seconds_count{forward="stays"} 1`)
	m.Follow(proxyForwards("stays", "goes"))
	checkSamples(t, m, "ftpgate_sessions_total", `ftpgate_sessions_total{forward="goes",tracking="proxy"} 0`,
		`ftpgate_sessions_total{forward="stays",tracking="proxy"} 1`)
}

// TestTrackingChanges checks that counts with the previous tracking stay.
func TestTrackingChanges(t *testing.T) {
	m := plainMetrics("a")
	m.SessionBegan("a", forward.TrackingProxy)
	m.Follow([]forward.Forward{{Name: "a", Tracking: forward.TrackingNone}})
	checkSamples(t, m, "ftpgate_sessions_total", `ftpgate_sessions_total{forward="a",tracking="proxy"} 1`)
	checkSamples(t, m, "ftpgate_sessions_max")
	checkSamples(t, m, "ftpgate_transfers_total") // which no scrape sees
}

// TestManyReloads checks that removed forwards free their memory.
func TestManyReloads(t *testing.T) {
	m := plainMetrics("stays")
	round := func(i int) {
		name := fmt.Sprint("forward ", i)
		m.Follow(proxyForwards("stays", name))
		recordEverything(m, name)
		recordEverything(m, fmt.Sprint("forward ", i-1))
	}
	round(0)
	want, before := countSeries(t, m), heap()
	for i := range 20_000 {
		round(i + 1)
	}
	if got := countSeries(t, m); got != want {
		t.Errorf("got %d series; want %d", got, want)
	}
	if grown := heap() - before; grown > 2<<20 {
		t.Errorf("%d bytes are left behind", grown)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// TestManyForwards checks that a gateway with thousands of forwards omits counters that are zero.
func TestManyForwards(t *testing.T) {
	const many = 2000
	names := make([]string, many)
	for i := range names {
		names[i] = fmt.Sprint("forward ", i)
	}
	m := plainMetrics(names[:maxForwardsWithZeroes]...)
	each := countSeries(t, m) / maxForwardsWithZeroes
	m.Follow(proxyForwards(names...))
	m.SessionBegan("forward 1999", forward.TrackingProxy)
	m.Refused("forward 1999", "login")
	checkSamples(t, m, "ftpgate_refusals_total",
		`ftpgate_refusals_total{forward="forward 1999",reason="login"} 1`)
	if got := countSeries(t, m); each < 20 || got > 4*many {
		t.Errorf("got %d series of %d forwards; %d each of few", got, many, each)
	}
}

// TestScrapeWhileCounting checks that concurrent events, scrapes and reloads lose no event.
func TestScrapeWhileCounting(t *testing.T) {
	const writers, rounds = 4, 2000
	m := New(Build{}, []string{"login"}, Sources{
		Sessions: func() map[sessions.ForwardKey]int {
			return map[sessions.ForwardKey]int{{Forward: "stays", Tracking: forward.TrackingProxy}: 1}
		},
	})
	m.Follow(proxyForwards("stays"))
	server := httptest.NewServer(m.Handler())
	defer server.Close()
	var counting, others sync.WaitGroup
	done := make(chan struct{})
	for range writers {
		counting.Go(func() {
			for i := range rounds {
				recordEverything(m, "stays")
				recordEverything(m, fmt.Sprint("comes and goes ", i%3))
			}
		})
	}
	until := func(f func(i int)) {
		others.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
					f(i)
				}
			}
		})
	}
	until(func(i int) { m.Follow(proxyForwards("stays", fmt.Sprint("comes and goes ", i%3))) })
	for range 2 {
		until(func(int) { fetch(t, server) })
	}
	counting.Wait()
	close(done)
	others.Wait()
	m.Follow(proxyForwards("stays"))
	checkSamples(t, m, "ftpgate_sessions_total",
		fmt.Sprintf(`ftpgate_sessions_total{forward="stays",tracking="proxy"} %d`, writers*rounds))
}

func fetch(t *testing.T, server *httptest.Server) {
	r, err := server.Client().Get(server.URL)
	if err != nil {
		t.Error(err)
		return
	}
	defer r.Body.Close()
	if text, err := io.ReadAll(r.Body); err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("got status %d, %v: %.200s", r.StatusCode, err, text)
	}
}
