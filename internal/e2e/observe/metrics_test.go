package observe

import (
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab/labtest"
)

// metricSamples are the samples of a scrape by name and labels, and the types of their families.
type metricSamples struct {
	samples map[string]float64
	types   map[string]string
}

var samplePattern = regexp.MustCompile(`^([a-z_]+)(\{.*\})? (\S+)$`)

// scrape gets metrics from a URL.
func scrape(s *harness.AdminGateway, url string) metricSamples {
	s.T.Helper()
	status, body := httpDo(s, func(network, address string) (net.Conn,
		error) {
		return s.Host.Dial(s.T.Context(), network, address)
	}, "GET", url, "")
	if status != 200 {
		s.T.Fatalf("%s: got %d, %s; want 200", url, status, body)
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil || len(problems) > 0 {
		s.T.Errorf("%s: got the problems %v, error %v; want none", url, problems, err)
	}
	all := metricSamples{map[string]float64{}, map[string]string{}}
	for line := range strings.Lines(body) {
		line = strings.TrimSuffix(line, "\n")
		if words := strings.Fields(line); words[0] == "#" {
			if words[1] == "TYPE" {
				all.types[words[2]] = words[3]
			}
			continue
		}
		fields := samplePattern.FindStringSubmatch(line)
		if fields == nil {
			s.T.Fatalf("%s: got the line %q; want a sample", url, line)
		}
		value, err := strconv.ParseFloat(fields[3], 64)
		if err != nil {
			s.T.Fatal(err)
		}
		all.samples[fields[1]+fields[2]] = value
	}
	return all
}

// onlyGrows reports whether a sample must not decrease.
func (a metricSamples) onlyGrows(sample string) bool {
	name, _, _ := strings.Cut(sample, "{")
	for _, of := range []string{"_bucket", "_count", "_sum"} {
		if family, cut := strings.CutSuffix(name, of); cut && a.types[family] == "histogram" {
			return true
		}
	}
	return a.types[name] == "counter"
}

// sum adds the samples of a name that have all labels.
func (a metricSamples) sum(name string, labels ...string) (sum int64) {
	for sample, value := range a.samples {
		has := strings.HasPrefix(sample, name+"{") || sample == name
		for _, l := range labels {
			has = has && strings.Contains(sample, l)
		}
		if has {
			sum += int64(value)
		}
	}
	return sum
}

// wantNumber expects a number.
func wantNumber(t *testing.T, what string, got, want int64) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %d; want %d", what, got, want)
	}
}

// Under load, Prometheus can parse the metrics, counters never decrease, and all agree with the log of
// transfers.
func TestMetricsUnderLoad(t *testing.T) {
	for path := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			of := peers.VSFTPD(t, l.Server(), harness.Forward4.Server, "max_clients=0", "max_per_ip=0")
			s := harness.StartAdminGateway(t, l, fmt.Sprintf(harness.ForwardConfig+"data = %q\n", "files",
				harness.Gateway4, path))
			c := startLoad(t, l, harness.Gateway4, of, 20)
			before := scrape(s, "http://"+harness.MetricsAddress+"/metrics")
			for n := range 12 {
				c.awaitMore(10)
				now := scrape(s, []string{"http://" + harness.MetricsAddress + "/metrics",
					"http://socket/metrics"}[n%2])
				for sample, value := range before.samples {
					if later, there := now.samples[sample]; before.onlyGrows(sample) &&
						(!there || later < value) {
						t.Errorf("%s: got %v after %v; want no less", sample, later, value)
					}
				}
				before = now
			}
			pairs := int64(c.stop())
			harness.Await(t, "all counted", func() bool {
				f := s.Status().Forwards[0]
				return int64(f.Transfers) == 2*pairs && f.Sessions == 0
			})
			wantMetricsAgree(s, scrape(s, "http://socket/metrics"), path, pairs)
		})
	}
}

// wantMetricsAgree expects metrics of this many pairs of transfers over a path, in agreement with the
// status and the transfer log.
func wantMetricsAgree(s *harness.AdminGateway, m metricSamples, path string, pairs int64) {
	t := s.T
	t.Helper()
	f := s.Status().Forwards[0]
	on := `path="` + path + `"`
	down, up := []string{`forward="files"`, on, `direction="download"`},
		[]string{`forward="files"`, on, `direction="upload"`}
	wantNumber(t, "downloads", m.sum("ftpgate_transfers_total", append(down, `result="complete"`)...), pairs)
	wantNumber(t, "uploads", m.sum("ftpgate_transfers_total", append(up, `result="complete"`)...), pairs)
	wantNumber(t, "all transfers", m.sum("ftpgate_transfers_total"), 2*pairs)
	wantNumber(t, "sessions", m.sum("ftpgate_sessions_total"), int64(f.Total))
	wantNumber(t, "servers dialled", m.sum("ftpgate_dial_seconds_count"), int64(f.Total))
	wantNumber(t, "sessions that run", m.sum("ftpgate_sessions"), 0)
	wantNumber(t, "refusals", m.sum("ftpgate_refusals_total"), 0)
	wantNumber(t, "pinholes used", m.sum("ftpgate_pinholes_used_total", on), 2*pairs)
	wantNumber(t, "pinholes opened", m.sum("ftpgate_pinholes_opened_total"), 2*pairs)
	wantNumber(t, "pinholes that are open", m.sum("ftpgate_pinholes"), 0)
	s.Interrupt()
	bytes := map[string]int64{}
	for _, one := range harness.ReadTransferLog(t, s.TransferLog) {
		bytes[one.Direction] += one.Bytes
	}
	wantNumber(t, "bytes down", m.sum("ftpgate_transfer_bytes_total", down...), bytes["download"])
	wantNumber(t, "bytes up", m.sum("ftpgate_transfer_bytes_total", up...), bytes["upload"])
	wantBytes(t, "downloads", path, bytes["download"], pairs*peers.StoredSize)
	wantBytes(t, "uploads", path, bytes["upload"], pairs*peers.StoredSize)
}
