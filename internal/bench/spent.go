package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	reapLimit = 10 * time.Second     // until the processes of sessions that are over have ended
	reapPoll  = 2 * time.Millisecond // short beside what is measured
)

// program is what the process runs.
func (p *process) program() string { return filepath.Base(p.cmd.Path) }

// spent is the processor time in seconds that the gateway's process has used, with all that it has
// forked; 0 where there is none. It waits until no such process is left: what a process has used is
// counted as its parent's once it has ended.
func (s *stage) spent(ctx context.Context) (float64, error) {
	if s.gateway == nil {
		return 0, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, reapLimit, fmt.Errorf("has processes that do not end within %s", reapLimit))
	defer cancel()
	poll := time.NewTicker(reapPoll)
	defer poll.Stop()
	pid := s.gateway.cmd.Process.Pid
	for {
		alone, err := childless(pid)
		if err != nil {
			return 0, fmt.Errorf("bench: processor time: %w", err)
		}
		if alone {
			return processorTime(pid)
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("bench: processor time: %s: %w", s.gateway.name, context.Cause(ctx))
		}
	}
}

// childless tells whether no process is the child of this one.
func childless(pid int) (bool, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return false, err
	}
	for _, path := range paths {
		fields, err := statFields(path)
		if err != nil {
			return false, err
		}
		if len(fields) > 1 && string(fields[1]) == strconv.Itoa(pid) {
			return false, nil
		}
	}
	return true, nil
}

// statFields are the fields of a /proc/PID/stat (proc_pid_stat(5)) from the third one on, the state;
// none where the process has just ended.
func statFields(path string) ([][]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// The name of the program stands in parentheses and may contain anything.
	return bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:]), nil
}

// processorTime is what a process has used and its children that have ended, in seconds: utime, stime,
// cutime and cstime, in hundredths of a second on every Linux.
func processorTime(pid int) (float64, error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	fields, err := statFields(path)
	if err != nil {
		return 0, fmt.Errorf("bench: processor time: %w", err)
	}
	if len(fields) < 15 {
		return 0, fmt.Errorf("bench: processor time: %s is %q", path, fields)
	}
	var ticks float64
	for _, f := range fields[11:15] {
		n, err := strconv.ParseFloat(string(f), 64)
		if err != nil {
			return 0, fmt.Errorf("bench: processor time: %w", err)
		}
		ticks += n
	}
	return ticks / 100, nil
}
