package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// relation is how a value is compared with that of another contestant.
type relation uint8

const (
	ratio      relation = iota // value / other's
	difference                 // value - other's
)

// apply returns the relation of a to b.
func (r relation) apply(a, b float64) float64 {
	if r == difference {
		return a - b
	}
	return a / b
}

// format writes a relation for the table.
func (r relation) format(v float64) string {
	if r == difference {
		return fmt.Sprintf("%+.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// target is the goal of a contestant in a measure.
type target struct {
	contestant string
	baseline   string // the contestant to compare with; empty: the value itself counts
	bound      float64
}

// measure is one kind of measurement.
type measure struct {
	name, title, unit string
	relation          relation
	lowerIsBetter     bool // targets are upper bounds
	targets           []target
	request           func(options) request
	ftps              bool  // of contestants with TLS
	cost              *cost // nil: CPU time is not measured
}

// cost is the CPU time of the gateway's processes for the load of a measure.
type cost struct {
	measure
	scale float64 // its unit for one second per MiB or step
}

// includes reports whether a contestant takes part in the measure.
func (m measure) includes(c contestant) bool {
	return m.ftps == c.clientTLS || m.ftps && c.tlsReference
}

// measures are taken in rounds. They are in the order of the table.
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
		name: "latency", title: "round trip of a NOOP", unit: "µs", relation: difference, lowerIsBetter: true,
		targets: []target{{"proxy", "routed", 60}, {"relay", "routed", 60}},
		request: timed("latency"),
	},
	{
		name: "tls-transfers", title: "1 KiB files, TLS, concurrent connections", unit: "1/s", ftps: true,
		targets: []target{{"terminated", "mod_proxy", 1}, {"terminated-both", "mod_proxy-both", 1}},
		request: timed("transfers"),
		cost: &cost{scale: 1e3, measure: measure{
			name: "tls-transfers-cpu", title: "gateway's CPU time for one of them", unit: "ms",
			ftps: true, lowerIsBetter: true,
			targets: []target{{"terminated", "mod_proxy", 1}, {"terminated-both", "mod_proxy-both", 1}},
		}},
	},
	{
		name: "tls-large", title: "one large file, TLS", unit: "MiB/s", ftps: true,
		targets: []target{{"terminated", "mod_proxy", 1}, {"terminated-both", "mod_proxy-both", 1}},
		request: largeFile,
		cost: &cost{scale: 1 << 10, measure: measure{
			name: "tls-large-cpu", title: "gateway's CPU time for a GiB of it", unit: "s/GiB",
			ftps: true, lowerIsBetter: true,
			targets: []target{{"terminated", "mod_proxy", 1}, {"terminated-both", "mod_proxy-both", 1}},
		}},
	},
}

func largeFile(o options) request { return request{Kind: "large", EPSV: o.epsv, Count: o.large} }

// timed is a request that lasts for the duration of a round.
func timed(kind string) func(options) request {
	return func(o options) request {
		return request{Kind: kind, EPSV: o.epsv, Warmup: o.duration / 4, Duration: o.duration,
			Clients: o.clients}
	}
}

// The measures of idle sessions.
var (
	memory = measure{
		name: "memory", title: "resident memory of an idle session", unit: "KiB", lowerIsBetter: true,
		targets: []target{{"proxy", "", 24}, {"relay", "", 24}},
	}
	// On an idle machine the value does not depend on the number of idle sessions.
	nextLogin = measure{name: "next", title: "to connect and log in, beside idle sessions", unit: "µs",
		lowerIsBetter: true}
)

// row is one line of the table: the values of one contestant in one measure.
type row struct {
	measure
	contestant string
	rounds     []float64
	relations  []baselineRelation // in the order of baselines
	target     *target            // nil: there is none
}

// baselineRelation is the value compared with another contestant's.
type baselineRelation struct {
	baseline string
	value    float64
}

// baselines are the contestants that others are compared with, in the order of the CSV.
var baselines = []string{"routed", "helper", "routed-tls", "mod_proxy", "mod_proxy-both"}

// baselines are those of the measure.
func (m measure) baselines() []string {
	if m.ftps {
		return baselines[2:]
	}
	return baselines[:2]
}

// value is the median of the rounds.
func (r row) value() float64 { return median(r.rounds) }

// evaluate makes the rows of a measure from the rounds of each contestant, in the order of names. Contestants
// without rounds have no row. A relation is computed for each round, in which both contestants had the same
// machine; the result is the median of these.
func evaluate(m measure, names []string, rounds map[string][]float64) []row {
	var rows []row
	for _, name := range names {
		if len(rounds[name]) == 0 {
			continue
		}
		r := row{measure: m, contestant: name, rounds: rounds[name]}
		for _, base := range m.baselines() {
			if other := rounds[base]; base != name && len(other) > 0 {
				value := median(relateRounds(m.relation, r.rounds, other))
				r.relations = append(r.relations, baselineRelation{base, value})
			}
		}
		if i := slices.IndexFunc(m.targets, func(t target) bool { return t.contestant == name }); i >= 0 {
			r.target = &m.targets[i]
		}
		rows = append(rows, r)
	}
	return rows
}

// relateRounds computes the relation for each round.
func relateRounds(r relation, a, b []float64) []float64 {
	values := make([]float64, min(len(a), len(b)))
	for i := range values {
		values[i] = r.apply(a[i], b[i])
	}
	return values
}

// relationTo returns the relation to another contestant, and false if that was not measured.
func (r row) relationTo(name string) (float64, bool) {
	i := slices.IndexFunc(r.relations, func(v baselineRelation) bool { return v.baseline == name })
	if i < 0 {
		return 0, false
	}
	return r.relations[i].value, true
}

// targetResult returns the target and whether it is met, as texts. Both are empty if there is no target.
func (r row) targetResult() (wanted, met string) {
	if r.target == nil {
		return "", ""
	}
	value, known := r.value(), true
	sign, bound := ">=", fmt.Sprint(r.target.bound, " ", r.unit)
	if r.lowerIsBetter {
		sign = "<"
	}
	if r.target.baseline != "" {
		value, known = r.relationTo(r.target.baseline)
		bound = fmt.Sprintf("%.2f of %s", r.target.bound, r.target.baseline)
		if r.relation == difference {
			bound = fmt.Sprintf("%s %+g %s", r.target.baseline, r.target.bound, r.unit)
		}
	}
	switch {
	case !known:
		met = "not measured"
	case r.lowerIsBetter == (cmp.Compare(value, r.target.bound) < 0):
		met = "yes"
	default:
		met = "no"
	}
	return sign + " " + bound, met
}

// checkMeasures returns an error for a name that is no measure.
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
