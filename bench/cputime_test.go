package main

import (
	"context"
	"io"
	"os/exec"
	"testing"
)

// The CPU time of a child process counts, and cpuTime waits for it.
func TestCPUTime(t *testing.T) {
	cmd := exec.Command("/bin/sh", "-c",
		"(i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done) & echo forked; wait; read end")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() // read has met the end
	})
	if _, err := io.ReadFull(out, make([]byte, len("forked\n"))); err != nil {
		t.Fatal(err)
	}
	s := &testbed{gateway: &process{name: "sh", cmd: cmd}}
	got, err := s.cpuTime(context.Background())
	if err != nil || got < 0.05 {
		t.Errorf("got %v s, error %v; want what the loop takes", got, err)
	}
}
