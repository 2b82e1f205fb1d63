package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// relation is how a figure is held against that of another contestant.
type relation uint8

const (
	ratio      relation = iota // figure / other's
	difference                 // figure - other's
)

// of returns the relation of a to b.
func (r relation) of(a, b float64) float64 {
	if r == difference {
		return a - b
	}
	return a / b
}

// text writes a relation for the table.
func (r relation) text(v float64) string {
	if r == difference {
		return fmt.Sprintf("%+.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// target is what a contestant is to reach in a measure.
type target struct {
	contestant string
	versus     string // the contestant that it is held against; empty: the figure stands alone
	bound      float64
}

// measure is one kind of figure.
type measure struct {
	name, title, unit string
	relation          relation
	lower             bool // is better; a target is then an upper bound
	targets           []target
	request           func(options) request
	ftps              bool  // is of those that speak TLS
	cost              *cost // nil: it is not taken
}

// cost is what the gateway's processes use for the load of a measure.
type cost struct {
	measure
	share float64 // of its figure in the seconds for one MiB or one step
}

// taken tells whether a contestant takes part in the measure.
func (m measure) taken(c contestant) bool { return m.ftps == c.client || m.ftps && c.beside }

// measures are those that are taken in rounds, in the order of the table.
var measures = []measure{
	{
		name: "transfers", title: "1 KiB files over concurrent control connections", unit: "1/s",
		targets: []target{{"proxy", "routed", 0.70}},
		request: timed("transfers"),
	},
	{
		name: "sessions", title: "whole sessions, several at once", unit: "1/s",
		targets: []target{{"proxy", "routed", 0.60}},
		request: timed("sessions"),
	},
	{
		name: "large", title: "one large file", unit: "MiB/s",
		targets: []target{{"proxy", "helper", 0.98}, {"relay", "helper", 0.80}},
		request: largeFile,
	},
	{
		name: "latency", title: "round trip of a NOOP", unit: "µs", relation: difference, lower: true,
		targets: []target{{"proxy", "routed", 60}, {"relay", "routed", 60}},
		request: timed("latency"),
	},
	{
		name: "tls-transfers", title: "1 KiB files, TLS, concurrent connections", unit: "1/s", ftps: true,
		targets: []target{{"terminated", "mod_proxy", 1}, {"terminated-both", "mod_proxy-both", 1}},
		request: timed("transfers"),
		cost: &cost{share: 1e3, measure: measure{
			name: "tls-transfers-cpu", title: "gateway's processor time for one of them", unit: "ms", ftps: true, lower: true,
			targets: []target{{"terminated", "mod_proxy", 1}, {"terminated-both", "mod_proxy-both", 1}},
		}},
	},
	{
		name: "tls-large", title: "one large file, TLS", unit: "MiB/s", ftps: true,
		targets: []target{{"terminated", "mod_proxy", 1}, {"terminated-both", "mod_proxy-both", 1}},
		request: largeFile,
		cost: &cost{share: 1 << 10, measure: measure{
			name: "tls-large-cpu", title: "gateway's processor time for a GiB of it", unit: "s/GiB", ftps: true, lower: true,
			targets: []target{{"terminated", "mod_proxy", 1}, {"terminated-both", "mod_proxy-both", 1}},
		}},
	},
}

func largeFile(o options) request { return request{Kind: "large", EPSV: o.epsv, Count: o.large} }

// timed is a request that goes on for as long as a round.
func timed(kind string) func(options) request {
	return func(o options) request {
		return request{Kind: kind, EPSV: o.epsv, Warmup: o.duration / 4, Duration: o.duration, Clients: o.clients}
	}
}

// What is measured of idle sessions.
var (
	memory = measure{
		name: "memory", title: "resident memory of an idle session", unit: "KiB", lower: true,
		targets: []target{{"proxy", "", 24}, {"relay", "", 24}},
	}
	// Constant cost is a ratio of 1; what is above is what a busy machine makes of a median.
	next = measure{name: "next", title: "to connect and log in, beside idle sessions", unit: "µs", lower: true}
)

// row is one line of the table: the figures of one contestant in one measure.
type row struct {
	measure
	contestant string
	rounds     []float64
	versus     []relative // in the order of baselines
	goal       *target    // nil: it has none
}

// relative is the figure held against another's.
type relative struct {
	to    string
	value float64
}

// baselines are the contestants that others are held against, in the order of the CSV.
var baselines = []string{"routed", "helper", "routed-tls", "mod_proxy", "mod_proxy-both"}

// baselines are those of the measure.
func (m measure) baselines() []string {
	if m.ftps {
		return baselines[2:]
	}
	return baselines[:2]
}

// figure is the row's one number.
func (r row) figure() float64 { return median(r.rounds) }

// evaluate makes the rows of a measure of the rounds of each contestant, in the order of names. A
// relation is taken of each round by itself, in which both had the same machine, and the median of
// these counts. Who took no part has no row.
func evaluate(m measure, names []string, rounds map[string][]float64) []row {
	var rows []row
	for _, name := range names {
		if len(rounds[name]) == 0 {
			continue
		}
		r := row{measure: m, contestant: name, rounds: rounds[name]}
		for _, base := range m.baselines() {
			if other := rounds[base]; base != name && len(other) > 0 {
				r.versus = append(r.versus, relative{base, median(pairs(m.relation, r.rounds, other))})
			}
		}
		if i := slices.IndexFunc(m.targets, func(t target) bool { return t.contestant == name }); i >= 0 {
			r.goal = &m.targets[i]
		}
		rows = append(rows, r)
	}
	return rows
}

// pairs relates round to round.
func pairs(r relation, a, b []float64) []float64 {
	values := make([]float64, min(len(a), len(b)))
	for i := range values {
		values[i] = r.of(a[i], b[i])
	}
	return values
}

// against returns the relation to another contestant, if both were measured.
func (r row) against(name string) (float64, bool) {
	i := slices.IndexFunc(r.versus, func(v relative) bool { return v.to == name })
	if i < 0 {
		return 0, false
	}
	return r.versus[i].value, true
}

// verdict tells what is asked for and whether it is there; both are empty where nothing is.
func (r row) verdict() (asked, met string) {
	if r.goal == nil {
		return "", ""
	}
	value, known := r.figure(), true
	sign, bound := ">=", fmt.Sprint(r.goal.bound, " ", r.unit)
	if r.lower {
		sign = "<"
	}
	if r.goal.versus != "" {
		value, known = r.against(r.goal.versus)
		bound = fmt.Sprintf("%.2f of %s", r.goal.bound, r.goal.versus)
		if r.relation == difference {
			bound = fmt.Sprintf("%s %+g %s", r.goal.versus, r.goal.bound, r.unit)
		}
	}
	switch {
	case !known:
		met = "not measured"
	case r.lower == (cmp.Compare(value, r.goal.bound) < 0):
		met = "yes"
	default:
		met = "no"
	}
	return sign + " " + bound, met
}

// checkMeasures finds names of no measure.
func checkMeasures(names []string) error {
	known := []string{memory.name}
	for _, m := range measures {
		known = append(known, m.name)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return fmt.Errorf("no measure %q: there are %s", name, strings.Join(known, ", "))
		}
	}
	return nil
}
