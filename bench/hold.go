package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// hold keeps one contestant under load, so that a profiler can be attached to its process, and says
// afterwards what processor time the process took for it.
func hold(ctx context.Context, o options, out io.Writer) (err error) {
	held, err := find([]string{o.hold})
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	i := slices.IndexFunc(measures, func(m measure) bool { return m.name == o.holdLoad })
	if i < 0 {
		return fmt.Errorf("bench: no load %q to be held", o.holdLoad)
	}
	s, err := newStage(ctx, held[0], o.tools)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	fmt.Fprintf(out, "origin: pid %d\nload: pid %d\n", s.origin.cmd.Process.Pid, s.load.cmd.Process.Pid)
	if s.gateway != nil {
		fmt.Fprintf(out, "%s: pid %d\n", s.gateway.program(), s.gateway.cmd.Process.Pid)
	}
	m := measures[i]
	q := m.request(o)
	q.Duration = o.holdFor
	before, err := s.spent(ctx)
	if err != nil {
		return err
	}
	value, err := repeat(ctx, s, q, o.holdFor)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %.1f %s\n", m.name, value, m.unit)
	if s.gateway != nil {
		after, err := s.spent(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: %.2f s of processor time\n", s.gateway.program(), after-before)
	}
	return nil
}

// repeat makes requests until the time is over: a large file takes as long as it takes.
func repeat(ctx context.Context, s *stage, q request, d time.Duration) (float64, error) {
	var values []float64
	for began := time.Now(); time.Since(began) < d; {
		a, err := s.do(ctx, q)
		if err != nil {
			return 0, err
		}
		values = append(values, a.Value)
	}
	return median(values), nil
}
