package system

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// roleEnv makes the test binary play the role of another process that the tests need.
const roleEnv = "FTPGATE_SYSTEM_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(play(role))
	}
	labtest.Main(m)
}

// play plays a role: it prints one line when it is ready, and ends when its input ends.
func play(role string) int {
	what, arg, _ := strings.Cut(role, " ")
	switch what {
	case "claim":
		if _, err := ClaimName(arg); err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println("claimed")
	case "starve":
		return starve(arg)
	case "listen":
		l, err := net.Listen("tcp", arg)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		defer l.Close()
		fmt.Println("listening")
	case "administer":
		has, err := capable(unix.CAP_NET_ADMIN)
		can, err2 := CanAdministerNetwork()
		fmt.Println(has, err, can, err2)
	}
	io.Copy(io.Discard, os.Stdin)
	return 0
}

// starve claims name, has no free descriptors until its input ends, and releases the claim.
func starve(name string) int {
	c, err := ClaimName(name)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		fmt.Println(err)
		return 1
	}
	limit.Cur = 0
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("claimed")
	io.Copy(io.Discard, os.Stdin)
	if err := c.Release(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// actor is a process that plays a role. It ends before the test ends.
type actor struct {
	*exec.Cmd
	stdin io.Closer // its close ends the process
	said  string    // its line
}

// start starts a process that plays a role. begin starts the command, for example in a host.
func start(t *testing.T, role string, begin func(*exec.Cmd) error) actor {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	// The race detector otherwise sleeps a second at exit.
	cmd.Env = append(os.Environ(), roleEnv+"="+role, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := begin(cmd); err != nil {
		t.Fatalf("start %q: %v", role, err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait() // a test may have killed it and waited already
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("%q said %q: %v", role, line, err)
	}
	return actor{cmd, stdin, strings.TrimSpace(line)}
}

// kill ends an actor with SIGKILL, and waits for its end.
func (a actor) kill(t *testing.T) {
	t.Helper()
	if err := a.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	a.Wait() // "signal: killed"
}

// in runs f in host's namespace, and fails the test with its error.
func in(t *testing.T, host *lab.Host, f func() error) {
	t.Helper()
	if err := host.Do(f); err != nil {
		t.Fatal(err)
	}
}
