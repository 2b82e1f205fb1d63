package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
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
	s, err := newStage(ctx, held[0], o.ftpgate)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	fmt.Fprintf(out, "origin: pid %d\nload: pid %d\n", s.origin.cmd.Process.Pid, s.load.cmd.Process.Pid)
	if s.gateway != nil {
		fmt.Fprintf(out, "ftpgate: pid %d\n", s.gateway.cmd.Process.Pid)
	}
	m := measures[i]
	q := m.request(o)
	q.Duration = o.holdFor
	var before, after float64
	if s.gateway != nil {
		if before, err = processorTime(s.gateway.cmd.Process.Pid); err != nil {
			return err
		}
	}
	value, err := repeat(ctx, s, q, o.holdFor)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %.1f %s\n", m.name, value, m.unit)
	if s.gateway != nil {
		if after, err = processorTime(s.gateway.cmd.Process.Pid); err != nil {
			return err
		}
		fmt.Fprintf(out, "ftpgate: %.2f s of processor time\n", after-before)
	}
	return nil
}

// repeat makes requests until the time is over: a large file takes as long as it takes.
func repeat(ctx context.Context, s *stage, q request, d time.Duration) (float64, error) {
	var values []float64
	for began := time.Now(); time.Since(began) < d; {
		value, err := s.do(ctx, q)
		if err != nil {
			return 0, err
		}
		values = append(values, value)
	}
	return median(values), nil
}

// processorTime is what a process has used, in seconds: utime and stime of /proc/PID/stat
// (proc_pid_stat(5)), in hundredths of a second on every Linux.
func processorTime(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("bench: processor time: %w", err)
	}
	// The name of the program stands in parentheses and may contain anything.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("bench: processor time: /proc/%d/stat is %q", pid, text)
	}
	var ticks float64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseFloat(string(f), 64)
		if err != nil {
			return 0, fmt.Errorf("bench: processor time: %w", err)
		}
		ticks += n
	}
	return ticks / 100, nil
}
