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
	reapLimit = 10 * time.Second     // until the processes of closed sessions have exited
	reapPoll  = 2 * time.Millisecond // short compared with a round
)

// programName is the name of the executable.
func (p *process) programName() string { return filepath.Base(p.cmd.Path) }

// cpuTime returns the seconds of CPU time of the gateway's process and its children; 0 for a contestant
// without a process. It waits until all children have exited, because the kernel adds a child's time to its
// parent's when the parent has waited for it.
func (s *testbed) cpuTime(ctx context.Context) (float64, error) {
	if s.gateway == nil {
		return 0, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, reapLimit,
		fmt.Errorf("has child processes that do not exit within %s", reapLimit))
	defer cancel()
	poll := time.NewTicker(reapPoll)
	defer poll.Stop()
	pid := s.gateway.cmd.Process.Pid
	for {
		children, err := hasChildren(pid)
		if err != nil {
			return 0, fmt.Errorf("bench: CPU time: %w", err)
		}
		if !children {
			return processCPUTime(pid)
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("bench: CPU time: %s: %w", s.gateway.name, context.Cause(ctx))
		}
	}
}

// hasChildren reports whether a process has children that it has not waited for. The kernel lists them for
// each thread (CONFIG_PROC_CHILDREN), which is faster than to read the stat of every process.
func hasChildren(pid int) (bool, error) {
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return false, err
	}
	if len(paths) == 0 {
		return false, fmt.Errorf("no /proc/%d/task/*/children: the process has exited, "+
			"or the kernel lacks CONFIG_PROC_CHILDREN", pid)
	}
	for _, path := range paths {
		children, err := os.ReadFile(path)
		exited := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) // the thread
		if err != nil && !exited {
			return false, err
		}
		if len(children) > 0 {
			return true, nil
		}
	}
	return false, nil
}

// processCPUTime returns the CPU time of a process and its exited children in seconds: utime, stime, cutime
// and cstime of /proc/PID/stat, which are in hundredths of a second on every Linux.
func processCPUTime(pid int) (float64, error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("bench: CPU time: %w", err)
	}
	// The program's name is in parentheses and may contain anything; after it comes the state, the
	// third field (proc_pid_stat(5)).
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 15 {
		return 0, fmt.Errorf("bench: CPU time: %s is %q", path, fields)
	}
	var ticks float64
	for _, f := range fields[11:15] {
		n, err := strconv.ParseFloat(string(f), 64)
		if err != nil {
			return 0, fmt.Errorf("bench: CPU time: %w", err)
		}
		ticks += n
	}
	return ticks / 100, nil
}
