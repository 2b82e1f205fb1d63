package kernel

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab/labtest"
)

// The program as it is released: without cgo, and without the race detector.
func TestRelease(t *testing.T) {
	labtest.Need(t, "go")
	exe := filepath.Join(t.TempDir(), "ftpgate")
	build := exec.Command("go", "build", "-trimpath", "-o", exe, "ftpgate/cmd/ftpgate") // as in the Makefile
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	command := func(args ...string) *exec.Cmd {
		cmd := exec.Command(exe, args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		return cmd
	}
	t.Run("confined", func(t *testing.T) {
		t.Parallel()
		confined(t, command)
	})
	t.Run("demo", func(t *testing.T) {
		t.Parallel()
		stdout, stderr, status := harness.RunCommand(t, labtest.Host(t), command("demo"))
		if status != 0 {
			t.Fatalf("got exit status %d:\n%s%s", status, stdout, stderr)
		}
		harness.WantContains(t, stdout, "network is unreachable", "rewritten by the gateway",
			"Nothing of it is left behind")
	})
}

// confined runs the daemon. It gives up the privileges that it does not need, and serves and reloads all
// the same.
func confined(t *testing.T, command func(...string) *exec.Cmd) {
	l := peers.NewDemoLab(t, ":21")
	file := harness.WriteFile(t, "ftpgate.toml", twoForwards)
	cmd := command("run", "-c", file)
	p := harness.StartCommand(t, l.Gateway(), cmd).AwaitReady()

	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", cmd.Process.Pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("got %d threads, error %v", len(threads), err)
	}
	const kept = "0000000000001400" // CAP_NET_BIND_SERVICE, CAP_NET_ADMIN
	for _, thread := range threads {
		status, err := os.ReadFile(thread)
		if os.IsNotExist(err) {
			continue // the thread has ended
		}
		for _, want := range []string{"CapPrm:\t" + kept, "CapEff:\t" + kept, "CapInh:\t0000000000000000",
			"NoNewPrivs:\t1"} {
			if err != nil || !strings.Contains(string(status), want+"\n") {
				t.Errorf("%s, error %v: no %q in\n%s", thread, err, want, status)
			}
		}
	}
	peers.List(t, peers.LoginFTP(t, l.Client(), harness.Gateway4))
	harness.OverwriteFile(t, file, strings.Replace(twoForwards, "192.168.5.2:2122", "192.168.5.2:990", 1)+`
[[forward]]
name   = "proxied"
listen = "192.168.5.2:21"
server = "203.0.113.21"
`)
	p.Signal(syscall.SIGHUP)
	p.AwaitLog("msg=reloaded", 1)
	peers.List(t, peers.LoginFTP(t, l.Client(), "192.168.5.2:21"))
}
