package lab_test

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"ftpgate/internal/try/lab/labtest"
)

// afresh returns tool without the environment variables of Enter.
func afresh(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := tool(t, args...)
	cmd.Env = append(cmd.Env, "FTPGATE_LAB_INSIDE=", "FTPGATE_LAB_OUTSIDE=")
	return cmd
}

func TestEnter(t *testing.T) {
	labtest.Host(t) // skips where there are no labs
	enter := func(args ...string) *exec.Cmd { return afresh(t, append([]string{"enter"}, args...)...) }
	t.Run("root", func(t *testing.T) { entered(t, enter) })
	for _, u := range users(t) {
		t.Run(u.name, func(t *testing.T) {
			entered(t, func(args ...string) *exec.Cmd {
				cmd := enter(args...)
				attr := u.attr
				cmd.Dir, cmd.SysProcAttr = "/", &attr
				return cmd
			})
		})
	}
}

// entered checks the environment of a process that enter starts.
func entered(t *testing.T, enter func(args ...string) *exec.Cmd) {
	mark := "/run/ftpgate-test-mark"
	if err := os.WriteFile(mark, nil, 0o600); err != nil { // /run is a tmpfs of these tests alone
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(mark) })
	out := mustRun(t, enter("report"))
	for _, want := range []string{"inside true", "uid 0", "files in /run 0", "address 127.0.0.1/8"} {
		if !strings.Contains(out, want) {
			t.Errorf("got %q; want %q in it", out, want)
		}
	}
	if strings.Contains(out, "192.168.5.") {
		t.Errorf("got %q; want no address but those of lo", out)
	}
	cmd := enter("sh", "read line; echo got $line; exit 5")
	cmd.Stdin = strings.NewReader("a line\n")
	if code, out := run(t, cmd); code != 5 || out != "got a line\n" {
		t.Errorf("got %d, %q; want 5 and the line", code, out)
	}
	if code, out := run(t, enter("sh", "kill -9 $$")); code != 137 {
		t.Errorf("a killed program: got %d, %q; want 137", code, out)
	}
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		cmd, stdout := running(t,
			enter("sh", "trap 'kill -9 $!; exit 9' TERM INT HUP; sleep 1000 >&- & echo ready; wait"))
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(stdout); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 9 {
			t.Errorf("%v: got exit status %d; want 9", s, code)
		}
	}
	// The program dies with its caller.
	cmd, stdout := running(t, enter("sh", "echo ready; exec sleep 1000"))
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(stdout); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
}

// TestEnterRefused makes the kernel refuse, and checks the message.
func TestEnterRefused(t *testing.T) {
	labtest.Host(t)
	cmd := afresh(t, "limited", "0", "enter", "report")
	rootOfAnother(cmd)
	code, out := run(t, cmd)
	for _, want := range []string{"refused", "no space left on device", "user.max_net_namespaces=0",
		"as root: sysctl -w user.max_net_namespaces=15000"} {
		if code != 1 || !strings.Contains(out, want) {
			t.Errorf("got %d, %q; want 1 and %q in it", code, out, want)
		}
	}
}

// TestForgedMarks checks that setting the variables alone does not mount over /run.
func TestForgedMarks(t *testing.T) {
	mounts, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	for _, outside := range []string{"", mounts} {
		cmd := tool(t, "prepare")
		cmd.Env = append(cmd.Env, "FTPGATE_LAB_INSIDE=1", "FTPGATE_LAB_OUTSIDE="+outside)
		if code, out := run(t, cmd); code != 1 ||
			!strings.Contains(out, "not in a mount namespace of its own") {
			t.Errorf("outside %q: got %d, %q; want a refusal", outside, code, out)
		}
	}
	if out := mustRun(t, afresh(t, "prepare")); out != "" {
		t.Errorf("not inside: got %q; want nothing", out)
	}
}

// TestHoldByHand checks that the hidden command refuses a user who types it.
func TestHoldByHand(t *testing.T) {
	cmd := afresh(t, "hold")
	status, holderStatus, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer status.Close()
	cmd.ExtraFiles = []*os.File{holderStatus}
	code, _ := run(t, cmd)
	holderStatus.Close()
	if text, err := io.ReadAll(status); err != nil || code != 1 ||
		!strings.Contains(string(text), "only `ftpgate lab up` may start this") {
		t.Errorf("got %d, %q, %v; want 1 and a refusal", code, text, err)
	}
}
