package harness

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// goroutinesEnv names the file to which a program of the test binary writes the stacks of the goroutines
// that are left when its command has returned. An empty file means that none are left.
const goroutinesEnv = "FTPGATE_E2E_GOROUTINES"

// reportGoroutines writes that file. A goroutine that its owner has waited for may need a moment to
// disappear, and the runtime has no event for it.
func reportGoroutines(file string) error {
	var left []string
	stacks := make([]byte, 64<<10) // more would be cut, and is as wrong
	for deadline := time.Now().Add(5 * time.Second); ; runtime.Gosched() {
		if left = leftGoroutines(stacks); len(left) == 0 || time.Now().After(deadline) {
			break
		}
	}
	return os.WriteFile(file, []byte(strings.Join(left, "\n\n")), 0o644)
}

// leftGoroutines returns the stacks of all goroutines but this one and the one of os/signal, which never
// ends. The buffer is for them.
func leftGoroutines(stacks []byte) (left []string) {
	stacks = stacks[:runtime.Stack(stacks, true)]
	for i, one := range bytes.Split(bytes.TrimSpace(stacks), []byte("\n\n")) {
		if i > 0 && !bytes.Contains(one, []byte("os/signal.loop(")) {
			left = append(left, string(one))
		}
	}
	return left
}

// reportingGoroutines makes a program of the test binary report its goroutines. The function that it
// returns checks, when the program has ended by itself, that none were left.
func reportingGoroutines(t *testing.T, cmd *exec.Cmd) (check func()) {
	if cmd.Env == nil || cmd.SysProcAttr.Credential != nil {
		return func() {} // another program, or another user who cannot write the file
	}
	file := filepath.Join(t.TempDir(), "goroutines")
	cmd.Env = append(cmd.Env, goroutinesEnv+"="+file)
	return func() {
		t.Helper()
		if !cmd.ProcessState.Exited() {
			return // it was killed
		}
		if left, err := os.ReadFile(file); err != nil || len(left) > 0 {
			t.Errorf("ftpgate %s: want no goroutines left at the end; got error %v, and\n%s",
				strings.Join(cmd.Args[1:], " "), err, left)
		}
	}
}
