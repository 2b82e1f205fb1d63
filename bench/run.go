package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

// measureAll takes all measures. Each contestant has a testbed of its own. All are up at the same time and
// take turns in every round, so that other work of the machine affects all of them alike.
func measureAll(ctx context.Context, o options, progress io.Writer) (rows []row, err error) {
	rows, err = measureInRounds(ctx, o, progress)
	if err != nil || !slices.Contains(o.measures, memory.name) {
		return rows, err
	}
	var nexts []row
	for _, c := range o.contestants {
		if !c.proxy {
			continue
		}
		fmt.Fprintf(progress, "idle sessions: %s\n", c.name)
		more, err := measureIdle(ctx, o, c)
		if err != nil {
			return rows, err
		}
		rows, nexts = append(rows, more[0]), append(nexts, more[1:]...)
	}
	return append(rows, nexts...), nil
}

// measureInRounds takes the measures that have rounds.
func measureInRounds(ctx context.Context, o options, progress io.Writer) (rows []row, err error) {
	var testbeds []*testbed
	defer func() {
		for _, s := range testbeds {
			err = errors.Join(err, s.close())
		}
	}()
	var names []string
	for _, c := range o.contestants {
		takesPart := func(m measure) bool { return m.includes(c) && slices.Contains(o.measures, m.name) }
		if !slices.ContainsFunc(measures, takesPart) {

			continue
		}
		s, err := newTestbed(ctx, c, o.tools)
		if err != nil {
			return nil, err
		}
		testbeds = append(testbeds, s)
		names = append(names, c.name)
	}
	for _, m := range measures {
		var taking []*testbed
		for _, s := range testbeds {
			if m.includes(s.contestant) {
				taking = append(taking, s)
			}
		}
		hasTLS := slices.ContainsFunc(taking, func(s *testbed) bool { return s.clientTLS })
		if !slices.Contains(o.measures, m.name) || m.ftps && !hasTLS {

			continue
		}
		values, costs, err := runRounds(ctx, o, m, taking, progress)
		if err != nil {
			return rows, err
		}
		rows = append(rows, evaluate(m, names, values)...)
		if m.cost != nil {
			rows = append(rows, evaluate(m.cost.measure, names, costs)...)
		}
	}
	return rows, nil
}

// runRounds takes one measure: one round to warm up, then those that count. Each round begins with another
// contestant. Only contestants with a process have costs, and only in measures that have a cost.
func runRounds(
	ctx context.Context, o options, m measure, testbeds []*testbed, progress io.Writer,
) (values, costs map[string][]float64, err error) {
	values, costs = map[string][]float64{}, map[string][]float64{}
	for round := range o.rounds + 1 {
		fmt.Fprintf(progress, "%s, round %d of %d:", m.name, round, o.rounds)
		for i := range testbeds {
			s := testbeds[(round+i)%len(testbeds)]
			before, err := s.cpuTime(ctx)
			var a result
			if err == nil {
				a, err = s.request(ctx, m.request(o))
			}
			var after float64
			if err == nil {
				after, err = s.cpuTime(ctx)
			}
			if err != nil {
				fmt.Fprintln(progress)
				return nil, nil, err
			}
			fmt.Fprintf(progress, " %s %.1f", s.name, a.Value)
			if round == 0 {
				continue
			}
			values[s.name] = append(values[s.name], a.Value)
			if m.cost != nil && s.gateway != nil && a.Work > 0 {
				costs[s.name] = append(costs[s.name], m.cost.scale*(after-before)/a.Work)
			}
		}
		fmt.Fprintf(progress, " %s\n", m.unit)
	}
	return values, costs, nil
}
