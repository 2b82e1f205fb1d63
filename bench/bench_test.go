package main

import (
	"cmp"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ftpgate/internal/try/lab/labtest"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(exitStatus(runRole(role, os.Args[1:]), os.Stderr))
	}
	// With the race detector a process sleeps for a second before it exits, and every origin and every
	// load is a process.
	if os.Getenv("GORACE") == "" {
		if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
			panic("bench: " + err.Error())
		}
	}
	labtest.Main(m)
}

// buildFtpgate builds the ftpgate to measure.
func buildFtpgate(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ftpgate")
	if err := build(t.Context(), path, nil); err != nil {
		t.Fatal(err)
	}
	return path
}

// Every measure of every contestant, for a moment: the outputs are complete and plausible.
func TestAllMeasures(t *testing.T) {
	labtest.Need(t, "nft", "ip")
	labtest.New(t) // skips where there are no labs
	who, present := allContestants(t)
	program := buildFtpgate(t)
	for _, how := range []string{"-epsv=false", "-epsv"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel() // each contestant waits more than it works
			dir := t.TempDir()
			var stdout, stderr strings.Builder
			code := bench([]string{"-rounds=2", "-duration=10ms", "-clients=2", "-large=1", "-idle=20", how,
				"-contestants", strings.Join(who, ","), "-ftpgate", program, "-peers", peers(), "-out", dir},
				&stdout, &stderr)
			if code != 0 {
				t.Fatalf("got exit status %d:\n%s", code, stderr.String())
			}
			var want [][2]string
			for _, m := range measures {
				want = append(want, rowsFor(m, present)...)
			}
			want = append(want, [2]string{"memory", "proxy, 20"}, [2]string{"memory", "relay, 20"})
			for _, c := range []string{"proxy", "relay"} {
				want = append(want, [2]string{"next", c + ", 0"}, [2]string{"next", c + ", 10"},
					[2]string{"next", c + ", 20"})
			}
			checkCSV(t, filepath.Join(dir, "bench.csv"), want)
			checkTable(t, stdout.String(), want)
			checkSVG(t, filepath.Join(dir, "bench.svg"), want)
		})
	}
}

// peers is the directory into which scripts/test-peers unpacks proftpd.
func peers() string { return cmp.Or(os.Getenv("FTPGATE_PEERS"), filepath.Join("..", ".peers")) }

// allContestants returns the names of all contestants, and those that can run here. Without proftpd the bench
// leaves out some; with CI=true that is a failure.
func allContestants(t *testing.T) (names []string, here []contestant) {
	t.Helper()
	_, err := findProftpd(peers())
	if err != nil && os.Getenv("CI") == "true" {
		t.Error(err)
	}
	for _, c := range contestants {
		names = append(names, c.name)
		if err == nil || !c.modProxy {
			here = append(here, c)
		}
	}
	return names, here
}

// rowsFor are the expected rows of a measure and of its cost.
func rowsFor(m measure, here []contestant) (want [][2]string) {
	for _, c := range here {
		if m.includes(c) {
			want = append(want, [2]string{m.name, c.name})
		}
	}
	for _, c := range here {
		if m.cost != nil && m.includes(c) && !c.direct {
			want = append(want, [2]string{m.cost.name, c.name})
		}
	}
	return want
}

// checkCSV wants these rows, and minimum, median and maximum in order.
func checkCSV(t *testing.T, path string, want [][2]string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var got [][2]string
	for _, r := range records[1:] {
		got = append(got, [2]string{r[0], r[1]})
		var n [3]float64
		for i := range n {
			if n[i], err = strconv.ParseFloat(r[3+i], 64); err != nil {
				t.Errorf("%q: %v", r, err)
			}
		}
		// Memory may not grow, and so little work may take less CPU time than a clock tick.
		if r[0] != "memory" && !strings.HasSuffix(r[0], "-cpu") && (n[1] <= 0 || n[1] > n[0] || n[0] > n[2]) {
			t.Errorf("%q: got median %v between %v and %v", r, n[0], n[1], n[2])
		}
		unrelated := r[1] == "routed" || r[0] == "memory" || r[0] == "next" || strings.HasPrefix(r[0], "tls-")
		if r[6] == "" != unrelated {
			t.Errorf("%q: got %q for the relation to routed", r, r[6])
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got rows %q; want %q", got, want)
	}
}

// checkTable wants a line for each row, and a result for every target.
func checkTable(t *testing.T, text string, want [][2]string) {
	t.Helper()
	for _, w := range want {
		if n := strings.Count(text, "\n"+w[0]) - strings.Count(text, "\n\n"+w[0]); n < 1 {
			t.Errorf("the table has no line for %s", w[0])
		}
		if !strings.Contains(text, "  "+w[1]+" ") {
			t.Errorf("the table does not name %s", w[1])
		}
	}
	_, err := findProftpd(peers())
	if err == nil && strings.Contains(text, "not measured") || !strings.Contains(text, ">= 0.70 of routed") ||
		!strings.Contains(text, "< 1.00 of mod_proxy") {
		t.Errorf("got a table without its targets:\n%s", text)
	}
}

// checkSVG wants a drawing with the names of all measures and contestants.
func checkSVG(t *testing.T, path string, want [][2]string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var texts []string
	root := ""
	for d := xml.NewDecoder(f); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if root == "" {
				root = token.Name.Local
			}
		case xml.CharData:
			texts = append(texts, strings.TrimSpace(string(token)))
		}
	}
	if root != "svg" {
		t.Errorf("got root element %q; want svg", root)
	}
	for _, w := range want {
		if !slices.Contains(texts, w[1]) {
			t.Errorf("the plot does not name %q", w[1])
		}
	}
	for _, m := range measures {
		if !slices.Contains(texts, m.title) {
			t.Errorf("the plot has no panel %q", m.title)
		}
	}
}

// Failures are errors that say what failed.
func TestBroken(t *testing.T) {
	labtest.Need(t, "nft", "ip")
	labtest.New(t)
	script := filepath.Join(t.TempDir(), "deaf")
	// It logs that it is ready, and accepts no connection.
	text := "#!/bin/sh\necho msg=ready >&2\nread forever </dev/zero\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-ftpgate=/bin/false", "-contestants=kernel"}, 1, "has ended (exit status 1)"},
		{[]string{"-ftpgate=/no/such/program", "-contestants=kernel"}, 1, "no such file or directory"},
		{[]string{"-ftpgate=" + script, "-contestants=kernel"}, 1, "connection refused"},
		{[]string{"-contestants=routed,unknown"}, 2,
			`no contestant "unknown": there are routed, helper, proxy`},
		{[]string{"-measures=speed"}, 2, `no measure "speed": there are memory, transfers`},
		{[]string{"-rounds=0"}, 2, "must be positive"},
		{[]string{"more"}, 2, "unexpected arguments"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			var stdout, stderr strings.Builder
			code := bench(append([]string{"-quick", "-out", t.TempDir()}, tt.args...), &stdout, &stderr)
			if code != tt.code || !strings.Contains(stderr.String(), tt.want) {
				t.Errorf("got exit status %d and %q; want %d and %q", code, stderr.String(), tt.code, tt.want)
			}
		})
	}
}

// One contestant stays under load.
func TestHold(t *testing.T) {
	labtest.Need(t, "nft", "ip")
	labtest.New(t)
	program := buildFtpgate(t)
	for _, tt := range []struct{ who, load string }{
		{"kernel", "latency"},
		{"terminated-both", "tls-transfers"},
	} {
		t.Run(tt.who, func(t *testing.T) {
			var stdout, stderr strings.Builder
			code := bench([]string{"-quick", "-clients=2", "-ftpgate", program, "-hold", tt.who,
				"-hold-load", tt.load, "-hold-for=100ms"}, &stdout, &stderr)
			for _, want := range []string{"ftpgate: pid ", tt.load + ": ", " s of CPU time"} {
				if code != 0 || !strings.Contains(stdout.String(), want) {
					t.Errorf("got exit status %d and %q, %q; want %q", code, stdout.String(), stderr.String(),
						want)
				}
			}
		})
	}
}

// Without its programs a contestant is left out, with the reason.
func TestUnavailable(t *testing.T) {
	var stderr strings.Builder
	there := available(contestants, errors.New("no mod_proxy.so"), &stderr)
	if slices.ContainsFunc(there, func(c contestant) bool { return c.modProxy }) ||
		len(there) != len(contestants)-2 {
		t.Errorf("got %v; want all but those of mod_proxy", there)
	}
	want := "mod_proxy is left out; scripts/test-peers installs what is missing: no mod_proxy.so\n"
	if !strings.HasPrefix(stderr.String(), want) {
		t.Errorf("got %q; want %q", stderr.String(), want)
	}
}
