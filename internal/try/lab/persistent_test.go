package lab_test

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// names returns the named namespaces of the lab.
func names(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("/run/netns/ftpgate-*")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestNamedLab(t *testing.T) {
	labtest.Host(t) // skips where there are no labs
	if code, out := run(t, tool(t, "exec", "client", "true")); code != 1 ||
		!strings.Contains(out, "there is no lab") {
		t.Errorf("exec without a lab: got %d, %s", code, out)
	}
	mustRun(t, tool(t, "up"))
	t.Cleanup(func() { _ = lab.Down() })
	want := []string{"/run/netns/ftpgate-client", "/run/netns/ftpgate-gateway", "/run/netns/ftpgate-server"}
	if got := names(t); !slices.Equal(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
	// `ip netns add` tries this first. If it fails, ip mounts the directory over our names.
	if err := syscall.Mount("", "/run/netns", "none", syscall.MS_SHARED|syscall.MS_REC, ""); err != nil {
		t.Errorf("share /run/netns: %v", err)
	}
	if code, out := run(t, tool(t, "up")); code != 1 || !strings.Contains(out, "up already") {
		t.Errorf("second up: got %d, %s", code, out)
	}
	l, err := lab.Open()
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, l.Client(), l.Gateway(), lab.GatewayLAN4)
	exchange(t, l.Server(), l.Gateway(), lab.GatewayWAN6)
	out := mustRun(t, tool(t, "exec", "server", "readlink", "/proc/self/ns/net"))
	if want := namespace(t, l.Server()); strings.TrimSpace(out) != want {
		t.Errorf("exec: got %q; want %q", out, want)
	}
	if code, _ := run(t, tool(t, "exec", "gateway", "sh", "-c", "exit 7")); code != 7 {
		t.Errorf("exit status: got %d; want 7", code)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := names(t); len(got) != 3 {
		t.Errorf("after Close of an opened lab: got %v; want all three", got)
	}

	cmd, stdout := running(t,
		tool(t, "exec", "client", "sh", "-c", "setsid sleep 1000 & echo ready; exec sleep 1000"))
	mustRun(t, tool(t, "down"))
	if _, err := io.ReadAll(stdout); err != nil { // ends with the last process
		t.Error(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) ||
		exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("a command at down: got %v; want %v", err, syscall.SIGKILL)
	}
	if got := names(t); len(got) != 0 {
		t.Errorf("after down: got %v; want none", got)
	}
	if code, out := run(t, tool(t, "down")); code != 1 || !strings.Contains(out, "there is no lab") {
		t.Errorf("second down: got %d, %s", code, out)
	}
}

// running starts a command and waits for its line "ready".
func running(t *testing.T, cmd *exec.Cmd) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(stdout)
	if line, err := r.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%v: got %q, %v; want ready", cmd.Args, line, err)
	}
	return cmd, r
}

func TestHalfANamedLab(t *testing.T) {
	labtest.Host(t)
	if err := lab.Up(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lab.Down() })
	// As if Up had been killed: one name is missing, one has no namespace on it.
	for _, name := range []string{"client", "server"} {
		if err := syscall.Unmount("/run/netns/ftpgate-"+name, syscall.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove("/run/netns/ftpgate-client"); err != nil {
		t.Fatal(err)
	}
	if err := lab.Up(); err == nil ||
		!strings.Contains(err.Error(), "the lab is incomplete, without client") {
		t.Errorf("up: got %v; want one that names the client", err)
	}
	if l, err := lab.Open(); err == nil {
		l.Close()
		t.Error("open: got no error")
	}
	if err := lab.Down(); err != nil {
		t.Errorf("down: got %v", err)
	}
	if got := names(t); len(got) != 0 {
		t.Errorf("after down: got %v; want none", got)
	}
}

// TestUpRollsBack makes the kernel refuse one of the three namespaces.
func TestUpRollsBack(t *testing.T) {
	labtest.Host(t)
	for _, tt := range []struct{ limit, refused, why string }{
		{"0", "ftpgate-client", "the limit of network namespaces is zero (user.max_net_namespaces=0); as " +
			"root: sysctl -w user.max_net_namespaces=15000"},
		{"2", "ftpgate-gateway", "a limit of namespaces is reached"}, // one is there already
		{"3", "ftpgate-server", "a limit of namespaces is reached"},
	} {
		cmd := tool(t, "limited", tt.limit, "up")
		rootOfAnother(cmd)
		code, out := run(t, cmd)
		for _, want := range []string{tt.why, "new namespace " + tt.refused, "names left: []"} {
			if code != 1 || !strings.Contains(out, want) {
				t.Errorf("limit %s: got %d, %q; want 1 and %q in it", tt.limit, code, out, want)
			}
		}
	}
}

func TestExecUnsound(t *testing.T) {
	for _, tt := range []struct {
		host string
		argv []string
		want string
	}{
		{"printer", []string{"true"}, `no host "printer"`},
		{"client", nil, "no command"},
		{"client", []string{"no-such-program"}, "no-such-program"},
	} {
		if _, err := lab.Exec(tt.host, tt.argv); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %q: got %v; want %q in it", tt.host, tt.argv, err, tt.want)
		}
	}
}

// TestUserLab checks the lab of an ordinary user.
func TestUserLab(t *testing.T) {
	for _, u := range users(t) {
		t.Run(u.name, func(t *testing.T) {
			mine := userTool(t, u)
			if code, out := run(t, mine("exec", "client", "true")); code != 1 ||
				!strings.Contains(out, "there is no lab") {
				t.Errorf("exec without a lab: got %d, %s", code, out)
			}
			if code, out := run(t, mine("down")); code != 1 || !strings.Contains(out, "there is no lab") {
				t.Errorf("down without a lab: got %d, %s", code, out)
			}
			mustRun(t, mine("up"))
			t.Cleanup(func() { _, _ = run(t, mine("down")) })
			if code, out := run(t, mine("up")); code != 1 || !strings.Contains(out, "up already") {
				t.Errorf("second up: got %d, %s", code, out)
			}
			t.Run("exec", func(t *testing.T) { checkUserExec(t, mine) })
			t.Run("signals", func(t *testing.T) { checkUserSignals(t, mine) })
			t.Run("down", func(t *testing.T) { checkUserDown(t, mine) })
			t.Run("killed holder", func(t *testing.T) { checkUserHolderKilled(t, mine) })
		})
	}
}

// userTool returns tool for that user, with a runtime directory of its own.
func userTool(t *testing.T, u user) func(args ...string) *exec.Cmd {
	t.Helper()
	dir, err := os.MkdirTemp("", "ftpgate-test-") // t.TempDir's name may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
		_ = os.RemoveAll(dir)
	})
	if c := u.attr.Credential; c != nil {
		if err := os.Chown(dir, int(c.Uid), int(c.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return func(args ...string) *exec.Cmd {
		cmd := tool(t, args...)
		cmd.Dir = "/"
		cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+dir)
		attr := u.attr
		cmd.SysProcAttr = &attr
		return cmd
	}
}

func checkUserExec(t *testing.T, mine func(...string) *exec.Cmd) {
	out := mustRun(t, mine("exec", "gateway", "/proc/self/exe", "lab", "report"))
	for _, want := range []string{"127.0.0.1/8", "192.168.5.2/24", "203.0.113.1/24", "2001:db8:5::2/64",
		"2001:db8:113::1/64", "uid 0"} {
		if !strings.Contains(out, want) {
			t.Errorf("gateway: got %q; want %q in it", out, want)
		}
	}
	cmd := mine("exec", "client", "sh", "-c", `read line; echo "$line $WORD $PWD"; echo err >&2; exit 7`)
	cmd.Stdin = strings.NewReader("a line\n")
	cmd.Env = append(cmd.Env, "WORD=\xff")
	cmd.Dir = "/usr"
	if code, out := run(t, cmd); code != 7 || out != "a line \xff /usr\nerr\n" {
		t.Errorf("got %d, %q; want 7 and line, word, directory", code, out)
	}
	if code, out := run(t, mine("exec", "client", "sh", "-c", "kill -9 $$")); code != 137 || out != "" {
		t.Errorf("a killed command: got %d, %q; want 137", code, out)
	}
	a := mustRun(t, mine("exec", "server", "readlink", "/proc/self/ns/net"))
	b := mustRun(t, mine("exec", "server", "readlink", "/proc/self/ns/net"))
	c := mustRun(t, mine("exec", "client", "readlink", "/proc/self/ns/net"))
	if a != b || a == c {
		t.Errorf("server %q, server %q, client %q: want the same and another", a, b, c)
	}
}

func checkUserSignals(t *testing.T, mine func(...string) *exec.Cmd) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		cmd := mine("exec", "client", "sh", "-c", "trap 'exit 9' TERM INT; echo ready; sleep 1000 >&- & wait")
		cmd, stdout := running(t, cmd)
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
	// A command ends with the process that requested it.
	cmd, stdout := running(t, mine("exec", "client", "sh", "-c", "echo ready; exec sleep 1000"))
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(stdout); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
}

func checkUserDown(t *testing.T, mine func(...string) *exec.Cmd) {
	cmd, stdout := running(t,
		mine("exec", "client", "sh", "-c", "setsid sleep 1000 & echo ready; exec sleep 1000"))
	mustRun(t, mine("down"))
	if _, err := io.ReadAll(stdout); err != nil { // ends with the last process
		t.Error(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 137 {
		t.Errorf("a command at down: got exit status %d; want 137", code)
	}
	if code, out := run(t, mine("down")); code != 1 || !strings.Contains(out, "there is no lab") {
		t.Errorf("second down: got %d, %s", code, out)
	}
}

func checkUserHolderKilled(t *testing.T, mine func(...string) *exec.Cmd) {
	mustRun(t, mine("up"))
	holder, err := strconv.Atoi(strings.TrimSpace(mustRun(t,
		mine("exec", "client", "sh", "-c", "echo $PPID"))))
	if err != nil {
		t.Fatal(err)
	}
	cmd, stdout := running(t, mine("exec", "client", "sh", "-c", "echo ready; exec sleep 1000"))
	if err := syscall.Kill(holder, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(stdout); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("a command whose holder was killed ended well")
	}
	if code, out := run(t, mine("exec", "client", "true")); code != 1 ||
		!strings.Contains(out, "there is no lab") {
		t.Errorf("exec: got %d, %s", code, out)
	}
	mustRun(t, mine("up"))
	mustRun(t, mine("exec", "server", "true"))
	mustRun(t, mine("down"))
}
