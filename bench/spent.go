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
		children, err := hasChildren(pid)
		if err != nil {
			return 0, fmt.Errorf("bench: processor time: %w", err)
		}
		if !children {
			return processorTime(pid)
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("bench: processor time: %s: %w", s.gateway.name, context.Cause(ctx))
		}
	}
}

// hasChildren reports whether a process has children that were not waited for. The kernel lists them for
// each thread (CONFIG_PROC_CHILDREN), so that not every process of the machine is read for that.
func hasChildren(pid int) (bool, error) {
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return false, err
	}
	if len(paths) == 0 {
		return false, fmt.Errorf("no /proc/%d/task/*/children: the process has ended, or the kernel is without CONFIG_PROC_CHILDREN", pid)
	}
	for _, path := range paths {
		children, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESRCH) { // a thread may just have ended
			return false, err
		}
		if len(children) > 0 {
			return true, nil
		}
	}
	return false, nil
}

// processorTime is what a process has used and its children that have ended, in seconds: utime, stime,
// cutime and cstime, in hundredths of a second on every Linux.
func processorTime(pid int) (float64, error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("bench: processor time: %w", err)
	}
	// The name of the program stands in parentheses and may contain anything; behind it is the state, the
	// third field (proc_pid_stat(5)).
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
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
