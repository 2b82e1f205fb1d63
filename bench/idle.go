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
	// spareDescriptors is how many descriptors a process needs besides those of sessions.
	spareDescriptors = 100
	// maxLogins bounds how many logins are measured. The result is their median.
	maxLogins = 200
)

// raiseDescriptors raises the limit of descriptors for this process and its children to what the sessions
// need, two each in the proxy. Without the rights for that, it raises the limit as far as allowed.
func raiseDescriptors(sessions int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("bench: limit of descriptors: %w", err)
	}
	want := uint64(2*sessions + spareDescriptors)
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

// sessionsWithinLimit returns how many of the sessions the limit of descriptors allows.
func sessionsWithinLimit(sessions int) (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("bench: limit of descriptors: %w", err)
	}
	if limit.Cur < 2*spareDescriptors {
		return 0, fmt.Errorf("bench: %d descriptors are too few", limit.Cur)
	}
	return min(sessions, int(limit.Cur-spareDescriptors)/2), nil
}

// measureIdle measures the cost of idle sessions. The first row has ftpgate's resident memory for each; the
// others have the time to log in once more with no idle session, half of them, and all. It starts a
// new process, because memory that an earlier load left behind would hide some of the growth.
func measureIdle(ctx context.Context, o options, c contestant) (rows []row, err error) {
	count, err := sessionsWithinLimit(o.idle)
	if err != nil {
		return nil, err
	}
	logins := request{Kind: "logins", EPSV: o.epsv, Count: min(count, maxLogins)}
	// All of them come from one address, and a session counts until the gateway has noticed its end, which on
	// a busy machine may be after the next ones began.
	most := strconv.Itoa(count + logins.Count + o.clients)
	s, err := newTestbed(ctx, c, o.tools, "--max-sessions-per-client", most)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if _, err := s.request(ctx, logins); err != nil { // warm up
		return nil, err
	}
	before, err := residentKiB(s.gateway.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	rows = make([]row, 1)
	for _, open := range []int{0, count / 2, count} {
		idle := request{Kind: "idle", EPSV: o.epsv, Count: open, Clients: o.clients}
		if _, err := s.request(ctx, idle); err != nil {
			return nil, err
		}
		took, err := s.request(ctx, logins)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{measure: nextLogin, contestant: idleLabel(c, open),
			rounds: []float64{took.Value}})
	}
	after, err := residentKiB(s.gateway.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	rows[0] = evaluate(memory, []string{c.name},
		map[string][]float64{c.name: {(after - before) / float64(count)}})[0]
	rows[0].contestant = idleLabel(c, count)
	return rows, nil
}

// idleLabel names a contestant together with its number of idle sessions.
func idleLabel(c contestant, sessions int) string { return fmt.Sprintf("%s, %d", c.name, sessions) }

// residentKiB returns VmRSS of /proc/PID/status (proc_pid_status(5)).
func residentKiB(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("bench: memory: %w", err)
	}
	for line := range bytes.Lines(status) {
		value, found := strings.CutPrefix(string(line), "VmRSS:")
		if !found {
			continue
		}
		number := strings.TrimSuffix(strings.TrimSpace(value), " kB")
		kib, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return 0, fmt.Errorf("bench: memory: %w", err)
		}
		return kib, nil
	}
	return 0, fmt.Errorf("bench: memory: /proc/%d/status has no VmRSS", pid)
}
