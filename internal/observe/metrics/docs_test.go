package metrics

import (
	"slices"
	"strings"
	"testing"

	"ftpgate/internal/core/verdict"
)

// rowsOf returns the cells of the table under a heading of docs/metrics.md, without its head.
func rowsOf(t *testing.T, heading string) (rows [][]string) {
	t.Helper()
	_, text, found := strings.Cut(read(t, "../../../docs/metrics.md"), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("docs/metrics.md has no heading %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	for line := range strings.Lines(text) {
		inner, table := strings.CutPrefix(strings.TrimSpace(line), "|")
		if !table {
			continue
		}
		cells := strings.Split(strings.TrimSuffix(inner, "|"), "|")
		for i := range cells {
			cells[i] = strings.Trim(cells[i], " `")
		}
		rows = append(rows, cells)
	}
	if len(rows) < 3 {
		t.Fatalf("docs/metrics.md: no table under %q", heading)
	}
	return rows[2:]
}

// TestDocumented checks that docs/metrics.md lists exactly the metrics that exist.
func TestDocumented(t *testing.T) {
	gathered, err := fullMetrics(verdict.RefusalNames()).registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var exist []string
	for _, f := range gathered {
		name, kind := f.GetName(), strings.ToLower(f.GetType().String())
		if stem, _, _ := strings.Cut(name, "_"); stem == "go" || stem == "process" {
			name, kind = stem+"_*", ""
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			if kind != "" {
				labels = append(labels, l.GetName())
			}
		}
		slices.Sort(labels)
		if row := name + "|" + kind + "|" + strings.Join(labels, ","); !slices.Contains(exist, row) {
			exist = append(exist, row)
		}
	}
	var documented []string
	for _, cells := range rowsOf(t, "What there is") {
		if len(cells) != 4 || cells[3] == "" {
			t.Errorf("%s has no meaning", cells[0])
			continue
		}
		labels := strings.Split(cells[2], ", ")
		slices.Sort(labels)
		documented = append(documented, cells[0]+"|"+cells[1]+"|"+strings.Join(labels, ","))
	}
	checkSame(t, "metrics", documented, exist)
}

// TestWordsAreDocumented checks that docs/metrics.md lists every reason and every fixed label value.
func TestWordsAreDocumented(t *testing.T) {
	var reasons []string
	for _, cells := range rowsOf(t, "Reasons of refusals") {
		reasons = append(reasons, cells[0])
	}
	checkSame(t, "reasons", reasons, append(verdict.RefusalNames(), OtherReason))
	samples := inventory(t)
	var labels []string
	for _, cells := range rowsOf(t, "Labels") {
		label := cells[0]
		labels = append(labels, label)
		if label == "reason" {
			continue
		}
		for name, s := range samples {
			for value := range s.labels[label] {
				own := strings.HasPrefix(name, "ftpgate_") && label != "forward"
				if own && !strings.Contains(cells[1], value) {
					t.Errorf("%s has %s=%q, which is not documented", name, label, value)
				}
			}
		}
	}
	for name, s := range samples {
		for label := range s.labels {
			own := strings.HasPrefix(name, "ftpgate_") && !slices.Contains(free, label)
			if own && !slices.Contains(labels, label) {
				t.Errorf("%s: the words of label %q are not documented", name, label)
			}
		}
	}
}

// TestAlertsAreDocumented checks that the table of alerts lists exactly the rules.
func TestAlertsAreDocumented(t *testing.T) {
	var documented, exist []string
	for _, cells := range rowsOf(t, "Alerts") {
		documented = append(documented, cells[0]+"|"+cells[2])
	}
	for _, r := range readRules(t) {
		exist = append(exist, r.Alert+"|"+r.Labels["severity"])
	}
	checkSame(t, "alerts", documented, exist)
}

// checkSame checks that two lists are equal, in any order.
func checkSame(t *testing.T, what string, documented, exist []string) {
	t.Helper()
	for _, d := range documented {
		if !slices.Contains(exist, d) {
			t.Errorf("%s: %s is documented and does not exist like that", what, d)
		}
	}
	for _, e := range exist {
		if !slices.Contains(documented, e) {
			t.Errorf("%s: %s is not documented like that", what, e)
		}
	}
	if len(documented) != len(exist) {
		t.Errorf("%s: %d are documented, %d exist", what, len(documented), len(exist))
	}
}
