package main

import (
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{3}, 3},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 2, 100}, 3},
	} {
		if got := median(tt.values); got != tt.want {
			t.Errorf("median(%v): got %v; want %v", tt.values, got, tt.want)
		}
	}
}

// Relations are computed for each round: the machine was half as fast in the second.
func TestEvaluate(t *testing.T) {
	rounds := map[string][]float64{
		"routed": {100, 50, 100},
		"helper": {80, 40, 90},
		"proxy":  {70, 35, 60},
	}
	rows := evaluate(measures[0], []string{"routed", "helper", "proxy"}, rounds)
	var table strings.Builder
	if err := writeTable(&table, rows); err != nil {
		t.Fatal(err)
	}
	want := `
measure    contestant  median  from - to    unit  to routed  to helper  target             met
transfers  routed      100     50.0 - 100   1/s   -          1.25
transfers  helper      80.0    40.0 - 90.0  1/s   0.80       -
transfers  proxy       60.0    35.0 - 70.0  1/s   0.70       0.88       >= 0.70 of routed  yes
`
	if got := "\n" + table.String(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestVerdict(t *testing.T) {
	ratios, latency := measures[0], measures[3]
	for _, tt := range []struct {
		name   string
		m      measure
		rounds map[string][]float64
		wanted string
		met    string
	}{
		{"enough", ratios, map[string][]float64{"routed": {100}, "proxy": {70}}, ">= 0.70 of routed", "yes"},
		{"too little", ratios, map[string][]float64{"routed": {100}, "proxy": {69}}, ">= 0.70 of routed",
			"no"},
		{"no baseline", ratios, map[string][]float64{"proxy": {70}}, ">= 0.70 of routed", "not measured"},
		{"soon enough", latency, map[string][]float64{"routed": {30}, "proxy": {89}}, "< routed +60 µs",
			"yes"},
		{"too late", latency, map[string][]float64{"routed": {30}, "proxy": {90}}, "< routed +60 µs", "no"},
		{"small", memory, map[string][]float64{"proxy": {23.9}}, "< 24 KiB", "yes"},
		{"big", memory, map[string][]float64{"proxy": {24}}, "< 24 KiB", "no"},
		{"no target", nextLogin, map[string][]float64{"proxy": {24}}, "", ""},
	} {
		rows := evaluate(tt.m, []string{"proxy"}, tt.rounds)
		if wanted, met := rows[0].targetResult(); wanted != tt.wanted || met != tt.met {
			t.Errorf("%s: got %q, %q; want %q, %q", tt.name, wanted, met, tt.wanted, tt.met)
		}
	}
}
