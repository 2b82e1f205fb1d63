package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

// run measures all that is asked for. Each contestant has a stage of its own, all stand at the same
// time, and they take turns in every round, so that what else the machine does falls on all alike.
func run(ctx context.Context, o options, progress io.Writer) (rows []row, err error) {
	rows, err = inTurns(ctx, o, progress)
	if err != nil || !slices.Contains(o.measures, memory.name) {
		return rows, err
	}
	var nexts []row
	for _, c := range o.contestants {
		if !c.proxy {
			continue
		}
		fmt.Fprintf(progress, "idle sessions: %s\n", c.name)
		more, err := idle(ctx, o, c)
		if err != nil {
			return rows, err
		}
		rows, nexts = append(rows, more[0]), append(nexts, more[1:]...)
	}
	return append(rows, nexts...), nil
}

// inTurns takes the measures that go in rounds.
func inTurns(ctx context.Context, o options, progress io.Writer) (rows []row, err error) {
	var stages []*stage
	defer func() {
		for _, s := range stages {
			err = errors.Join(err, s.close())
		}
	}()
	var names []string
	for _, c := range o.contestants {
		if !slices.ContainsFunc(measures, func(m measure) bool { return m.taken(c) && slices.Contains(o.measures, m.name) }) {
			continue
		}
		s, err := newStage(ctx, c, o.tools)
		if err != nil {
			return nil, err
		}
		stages = append(stages, s)
		names = append(names, c.name)
	}
	for _, m := range measures {
		var taking []*stage
		for _, s := range stages {
			if m.taken(s.contestant) {
				taking = append(taking, s)
			}
		}
		if !slices.Contains(o.measures, m.name) || m.ftps && !slices.ContainsFunc(taking, func(s *stage) bool { return s.client }) {
			continue
		}
		figures, costs, err := takeRounds(ctx, o, m, taking, progress)
		if err != nil {
			return rows, err
		}
		rows = append(rows, evaluate(m, names, figures)...)
		if m.cost != nil {
			rows = append(rows, evaluate(m.cost.measure, names, costs)...)
		}
	}
	return rows, nil
}

// takeRounds takes one measure: a round that does not count, then those that do. Each round another
// contestant is the first. The costs are of those that have a process, where the measure has a cost.
func takeRounds(ctx context.Context, o options, m measure, stages []*stage, progress io.Writer) (figures, costs map[string][]float64, err error) {
	figures, costs = map[string][]float64{}, map[string][]float64{}
	for round := range o.rounds + 1 {
		fmt.Fprintf(progress, "%s, round %d of %d:", m.name, round, o.rounds)
		for i := range stages {
			s := stages[(round+i)%len(stages)]
			before, err := s.spent(ctx)
			var a answer
			if err == nil {
				a, err = s.do(ctx, m.request(o))
			}
			var after float64
			if err == nil {
				after, err = s.spent(ctx)
			}
			if err != nil {
				fmt.Fprintln(progress)
				return nil, nil, err
			}
			fmt.Fprintf(progress, " %s %.1f", s.name, a.Value)
			if round == 0 {
				continue
			}
			figures[s.name] = append(figures[s.name], a.Value)
			if m.cost != nil && s.gateway != nil && a.Work > 0 {
				costs[s.name] = append(costs[s.name], m.cost.share*(after-before)/a.Work)
			}
		}
		fmt.Fprintf(progress, " %s\n", m.unit)
	}
	return figures, costs, nil
}
