package labtest_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// childEnv selects what TestChild does in a child process.
const childEnv = "FTPGATE_LABTEST_CHILD"

func TestMain(m *testing.M) {
	if limit := os.Getenv("FTPGATE_LABTEST_LIMIT"); limit != "" {
		if err := os.WriteFile("/proc/sys/user/max_net_namespaces", []byte(limit), 0); err != nil {
			panic(err)
		}
	}
	labtest.Main(m)
}

func TestNew(t *testing.T) {
	l := labtest.New(t)
	ln, err := l.Server().Listen("tcp", net.JoinHostPort(lab.ServerAddr4.String(), "21"))
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
}

func TestHost(t *testing.T) {
	h := labtest.Host(t)
	out, err := h.Output(t.Context(), "cat", "/proc/net/dev")
	if err != nil || !strings.Contains(string(out), "lo:") || strings.Contains(string(out), "eth0") {
		t.Errorf("got %q, %v; want lo alone", out, err)
	}
}

func TestNeedFinds(t *testing.T) { labtest.Need(t, "sh", "cat") }

// TestChild runs in the child processes below. By itself it does nothing.
func TestChild(t *testing.T) {
	switch os.Getenv(childEnv) {
	case "fail":
		if !lab.Inside() {
			t.Error("not inside")
		}
		t.Error("the child's failure")
	case "lab":
		labtest.New(t)
	case "need":
		labtest.Need(t, "sh", "no-such-program")
	}
}

// child returns a command that runs TestChild in this binary, like `go test` outside of a lab.
func child(t *testing.T, what string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{"-test.run=^TestChild$", "-test.v"}, args...)...)
	cmd.Env = append(os.Environ(), "FTPGATE_LAB_INSIDE=", "CI=", "GORACE=atexit_sleep_ms=0",
		childEnv+"="+what)
	return cmd
}

func run(t *testing.T, cmd *exec.Cmd) (int, string) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// TestFlagsAndStatus checks that -test flags, exit status and coverage pass through Enter.
func TestFlagsAndStatus(t *testing.T) {
	labtest.Host(t)
	code, out := run(t, child(t, "fail"))
	if code != 1 || !strings.Contains(out, "the child's failure") || strings.Contains(out, "not inside") ||
		strings.Count(out, "=== RUN") != 1 {
		t.Errorf("got %d, %s; want 1 and one failed test", code, out)
	}
	profile := filepath.Join(t.TempDir(), "cover.out")
	args := []string{}
	if testing.CoverMode() != "" {
		args = append(args, "-test.coverprofile="+profile)
	}
	if code, out := run(t, child(t, "lab", args...)); code != 0 ||
		!strings.Contains(out, "--- PASS: TestChild") {
		t.Errorf("got %d, %s; want 0 and a test that passes", code, out)
	}
	if len(args) > 0 {
		if text, err := os.ReadFile(profile); err != nil || !strings.Contains(string(text), "labtest.go") {
			t.Errorf("coverage: got %q, %v; want labtest.go in it", text, err)
		}
	}
}

// TestSkipRule makes the kernel refuse a lab, or needs a program that does not exist.
func TestSkipRule(t *testing.T) {
	labtest.Host(t)
	for _, tt := range []struct{ what, limit, ci, outcome, reason string }{
		{"lab", "0", "", "--- SKIP", "user.max_net_namespaces=0"},
		{"lab", "0", "true", "--- FAIL", "user.max_net_namespaces=0"},
		{"lab", "2", "", "--- SKIP", "a limit of namespaces is reached"}, // Enter works, New does not
		{"lab", "2", "true", "--- FAIL", "a limit of namespaces is reached"},
		{"need", "", "", "--- SKIP", "no-such-program is not installed"},
		{"need", "", "true", "--- FAIL", "no-such-program is not installed"},
	} {
		t.Run(tt.what+tt.limit+tt.ci, func(t *testing.T) {
			cmd := child(t, tt.what)
			cmd.Env = append(cmd.Env, "CI="+tt.ci)
			if tt.limit != "" {
				cmd.Env = append(cmd.Env, "FTPGATE_LABTEST_LIMIT="+tt.limit)
				cmd.SysProcAttr = &syscall.SysProcAttr{
					Cloneflags:  syscall.CLONE_NEWUSER,
					UidMappings: []syscall.SysProcIDMap{{Size: 1}},
					GidMappings: []syscall.SysProcIDMap{{Size: 1}},
				}
			}
			code, out := run(t, cmd)
			failed := tt.outcome == "--- FAIL"
			if !strings.Contains(out, tt.outcome) || !strings.Contains(out, tt.reason) ||
				(code != 0) != failed {
				t.Errorf("got %d, %s; want %s and %q", code, out, tt.outcome, tt.reason)
			}
		})
	}
}
