package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// keepLoaded keeps one contestant under load, so that you can attach a profiler to its process. At the end
// it prints the process's CPU time.
func keepLoaded(ctx context.Context, o options, out io.Writer) (err error) {
	held, err := findContestants([]string{o.hold})
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	i := slices.IndexFunc(measures, func(m measure) bool { return m.name == o.holdLoad })
	if i < 0 {
		return fmt.Errorf("bench: -hold-load: no measure %q", o.holdLoad)
	}
	s, err := newTestbed(ctx, held[0], o.tools)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	fmt.Fprintf(out, "origin: pid %d\nload: pid %d\n", s.origin.cmd.Process.Pid, s.load.cmd.Process.Pid)
	if s.gateway != nil {
		fmt.Fprintf(out, "%s: pid %d\n", s.gateway.programName(), s.gateway.cmd.Process.Pid)
	}
	m := measures[i]
	q := m.request(o)
	q.Duration = o.holdFor
	before, err := s.cpuTime(ctx)
	if err != nil {
		return err
	}
	value, err := repeatRequest(ctx, s, q, o.holdFor)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %.1f %s\n", m.name, value, m.unit)
	if s.gateway != nil {
		after, err := s.cpuTime(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: %.2f s of CPU time\n", s.gateway.programName(), after-before)
	}
	return nil
}

// repeatRequest repeats a request until the time is over, because a large file may take less. It returns the
// median.
func repeatRequest(ctx context.Context, s *testbed, q request, d time.Duration) (float64, error) {
	var values []float64
	for began := time.Now(); time.Since(began) < d; {
		a, err := s.request(ctx, q)
		if err != nil {
			return 0, err
		}
		values = append(values, a.Value)
	}
	return median(values), nil
}
