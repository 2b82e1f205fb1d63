package lab_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// TestMain makes the test binary also a small command line, for Up, which starts it again, and for the tests
// with several processes.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "lab" {
		code, err := command(os.Args[2], os.Args[3:])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		if testing.CoverMode() != "" {
			syscall.Exit(code) // without the complaint that there is nowhere to write the coverage
		}
		os.Exit(code)
	}
	labtest.Main(m)
}

func command(name string, args []string) (int, error) {
	switch name {
	case "hold":
		return lab.HolderMain(), nil
	case "up":
		return 0, lab.Up()
	case "down":
		return 0, lab.Down()
	case "exec":
		return lab.Exec(args[0], args[1:])
	case "enter":
		code, err := lab.Enter(append([]string{"lab"}, args...))
		if refused := (*lab.RefusedError)(nil); errors.As(err, &refused) {
			err = fmt.Errorf("refused: %s; %s: %w", refused.Why, refused.Remedy, refused.Err)
		}
		return code, err
	case "prepare":
		return 0, lab.Prepare()
	case "sh": // what a program may do inside
		return 0, shell(args)
	case "report":
		if err := lab.Prepare(); err != nil {
			return 0, err
		}
		return 0, report()
	case "limited": // a limit of this user namespace's network namespaces, then another command
		if err := os.WriteFile("/proc/sys/user/max_net_namespaces", []byte(args[0]), 0); err != nil {
			return 0, err
		}
		code, err := command(args[1], args[2:])
		left, _ := filepath.Glob("/run/netns/*")
		return code, fmt.Errorf("%w; names left: %v", err, left)
	}
	return 0, fmt.Errorf("no command %q", name)
}

// shell becomes a shell. The death signal that Enter gave this process is that of its first thread, and the
// thread that calls execve(2) is the one that stays: it asks for the signal, too.
func shell(args []string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	return syscall.Exec("/bin/sh", append([]string{"sh", "-c"}, args...), os.Environ())
}

// report prints the environment in which it runs.
func report() error {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	for _, a := range addrs {
		fmt.Println("address", a)
	}
	run, err := os.ReadDir("/run")
	if err != nil {
		return err
	}
	fmt.Println("inside", lab.Inside(), "uid", os.Getuid(), "files in /run", len(run))
	return nil
}

// tool returns the test binary as that command line.
func tool(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{"lab"}, args...)...)
	// Without this the race detector sleeps a second at the end of each process.
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	return cmd
}

// run runs a command and returns its exit status and its output, with standard error.
func run(t *testing.T, cmd *exec.Cmd) (int, string) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// mustRun runs a command that must succeed.
func mustRun(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	code, out := run(t, cmd)
	if code != 0 {
		t.Fatalf("%v: got exit status %d: %s", cmd.Args, code, out)
	}
	return out
}

// user is a way to run as an ordinary user.
type user struct {
	name string
	attr syscall.SysProcAttr
}

// users returns the ways that this machine allows. Inside of Enter as an ordinary user there is only one:
// another user namespace, in which the user has no rights either.
func users(t *testing.T) []user {
	t.Helper()
	labtest.Host(t) // skips where there are no labs
	const nobody = 65534
	all := []user{{"in a user namespace", syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: nobody, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: nobody, HostID: 0, Size: 1}},
	}}}
	uids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := strconv.Atoi(strings.Fields(string(uids))[2]); n > nobody {
		all = append(all, user{"nobody",
			syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}})
	}
	return all
}

// rootOfAnother makes cmd root in a user namespace of its own, whose limits it can set.
func rootOfAnother(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   syscall.CLONE_NEWUSER,
		Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
		UidMappings:  []syscall.SysProcIDMap{{HostID: 0, Size: 1}},
		GidMappings:  []syscall.SysProcIDMap{{HostID: 0, Size: 1}},
	}
}
