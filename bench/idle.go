package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

const (
	// spare is how many descriptors a process needs for other things than sessions.
	spare = 100
	// maxLogins bounds the sessions of which the cost of the next one is the median.
	maxLogins = 200
)

// raiseDescriptors asks for as many descriptors as the sessions need, two each in the proxy, for this
// process and those that it starts. Without the rights for that, what there is must do.
func raiseDescriptors(sessions int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("bench: limit of descriptors: %w", err)
	}
	want := uint64(2*sessions + spare)
	limit.Cur = limit.Max
	if limit.Max < want {
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: want, Max: want}) == nil {
			return nil
		}
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("bench: limit of descriptors: %w", err)
	}
	return nil
}

// affordable is how many sessions the limit of descriptors allows.
func affordable(sessions int) (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("bench: limit of descriptors: %w", err)
	}
	if limit.Cur < 2*spare {
		return 0, fmt.Errorf("bench: %d descriptors are too few", limit.Cur)
	}
	return min(sessions, int(limit.Cur-spare)/2), nil
}

// idle measures what sessions cost that do nothing: resident memory of ftpgate for each, in the first
// row, and the time that the next one takes beside none, half of them and all. The process is a
// fresh one: memory that a load has left would hide some.
func idle(ctx context.Context, o options, c contestant) (rows []row, err error) {
	count, err := affordable(o.idle)
	if err != nil {
		return nil, err
	}
	logins := request{Kind: "logins", EPSV: o.epsv, Count: min(count, maxLogins)}
	// All of them come from one address.
	s, err := newStage(ctx, c, o.tools, "--max-sessions-per-client", strconv.Itoa(count+o.clients))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if _, err := s.do(ctx, logins); err != nil { // warms up
		return nil, err
	}
	before, err := resident(s.gateway.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	rows = make([]row, 1)
	for _, open := range []int{0, count / 2, count} {
		if _, err := s.do(ctx, request{Kind: "hold", EPSV: o.epsv, Count: open, Clients: o.clients}); err != nil {
			return nil, err
		}
		took, err := s.do(ctx, logins)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{measure: next, contestant: beside(c, open), rounds: []float64{took.Value}})
	}
	after, err := resident(s.gateway.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	rows[0] = evaluate(memory, []string{c.name}, map[string][]float64{c.name: {(after - before) / float64(count)}})[0]
	rows[0].contestant = beside(c, count)
	return rows, nil
}

// beside names a contestant that has so many idle sessions.
func beside(c contestant, sessions int) string { return fmt.Sprintf("%s, %d", c.name, sessions) }

// resident is VmRSS of /proc/PID/status (proc_pid_status(5)), in KiB.
func resident(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("bench: memory: %w", err)
	}
	for line := range bytes.Lines(status) {
		value, found := strings.CutPrefix(string(line), "VmRSS:")
		if !found {
			continue
		}
		kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 64)
		if err != nil {
			return 0, fmt.Errorf("bench: memory: %w", err)
		}
		return kib, nil
	}
	return 0, fmt.Errorf("bench: memory: /proc/%d/status has no VmRSS", pid)
}
