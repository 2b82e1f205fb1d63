package top

import (
	"testing"
	"time"
)

// Rates are those of the last seconds, and never below zero.
func TestMeter(t *testing.T) {
	type at struct {
		seconds  int
		up, down int64
	}
	for name, test := range map[string]struct {
		samples []at
		want    rate
	}{
		"none":           {nil, rate{}},
		"one":            {[]at{{0, 5, 5}}, rate{}},
		"the same twice": {[]at{{0, 5, 5}, {0, 9, 9}}, rate{}},
		"two":            {[]at{{0, 0, 100}, {2, 10, 300}}, rate{5, 100, true}},
		"lumps":          {[]at{{0, 0, 0}, {1, 0, 300}, {2, 0, 300}, {3, 0, 300}}, rate{0, 100, true}},
		"what was long ago": {[]at{{0, 0, 0}, {1, 0, 900}, {2, 0, 900}, {3, 0, 900}, {4, 0, 900}}, rate{0, 0,
			true}},
		"a long interval": {[]at{{0, 0, 0}, {10, 0, 100}, {20, 0, 400}}, rate{0, 30, true}},
		"corrected":       {[]at{{0, 0, 1000}, {1, 0, 900}}, rate{0, 0, true}},
	} {
		var m meter
		for _, s := range test.samples {
			m = m.add(sample{began.Add(time.Duration(s.seconds) * time.Second), s.up, s.down})
		}
		if got := m.rate(); got != test.want {
			t.Errorf("%s: got %+v; want %+v", name, got, test.want)
		}
	}
}
