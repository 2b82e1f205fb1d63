package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// insideEnv marks a process that Enter started.
	insideEnv = "FTPGATE_LAB_INSIDE"
	// outsideEnv is the mount namespace of the process that called Enter. It keeps Prepare from mounting
	// over /run of the host if a user sets only insideEnv.
	outsideEnv = "FTPGATE_LAB_OUTSIDE"
	// runSource and the name of the mount namespace are the source of the tmpfs on /run. By it Prepare
	// recognizes its own mount, and distinguishes it from that of an outer Enter.
	runSource = "ftpgate-lab-"
)

// Inside reports whether this process, or one that it descends from, was started by Enter.
func Inside() bool { return os.Getenv(insideEnv) == "1" }

// Enter runs this program again, with other arguments and the same standard files, in a network and a mount
// namespace of its own. A user without the necessary rights also gets a user namespace, and is root in it.
// Enter waits, forwards signals, and returns the exit status (128 + the signal's number if a signal ended the
// program). The program dies with its caller.
//
// The error is a *RefusedError if the kernel does not allow the namespaces.
func Enter(args []string) (exitCode int, err error) {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if cmd.Env, err = insideEnviron(); err != nil {
		return 0, err
	}
	cmd.SysProcAttr = isolation()
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	// The death signal is sent when the *thread* that forked ends (man 2 PR_SET_PDEATHSIG).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	signals := make(chan os.Signal, 16)
	signal.Notify(signals, forwardedSignals...)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("lab: enter: %w", explainRefusal(err))
	}
	stop := forwardSignals(signals, func(s os.Signal) {
		if !fromTerminal(s) {
			_ = cmd.Process.Signal(s) // fails if it has just ended
		}
	})
	err = cmd.Wait()
	stop()
	return exitStatus(cmd, err)
}

// isolation requests a network and a mount namespace, and if this process lacks the rights for these, a user
// namespace in which the user is root. Go makes the mounts private if Unshareflags requests the mount
// namespace.
func isolation() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET}
	if !privileged() {
		attr.Cloneflags = syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	return attr
}

// insideEnviron returns this process's environment with the two variables of Enter.
func insideEnviron() ([]string, error) {
	mounts, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return nil, fmt.Errorf("lab: this process's mount namespace: %w", err)
	}
	return append(os.Environ(), insideEnv+"=1", outsideEnv+"="+mounts), nil
}

// forwardedSignals are the signals with which users and supervisors end or control a program.
var forwardedSignals = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT,
	syscall.SIGUSR1, syscall.SIGUSR2}

// forwardSignals calls send with each signal, in a goroutine of its own that stop ends and waits for.
func forwardSignals(signals chan os.Signal, send func(os.Signal)) (stop func()) {
	var sending sync.WaitGroup
	sending.Go(func() {
		for s := range signals {
			send(s)
		}
	})
	return func() {
		signal.Stop(signals) // nothing is sent to the channel any more
		close(signals)
		sending.Wait()
	}
}

// fromTerminal reports whether s came from a terminal. A terminal sends a signal to the whole foreground
// process group, so the child already has it. A second one would make the child stop at once.
func fromTerminal(s os.Signal) bool {
	if s != syscall.SIGINT && s != syscall.SIGQUIT {
		return false
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false // no controlling terminal
	}
	defer tty.Close()
	foreground, err := unix.IoctlGetUint32(int(tty.Fd()), unix.TIOCGPGRP) // tcgetpgrp(3)
	return err == nil && int(foreground) == syscall.Getpgrp()
}

// exitStatus returns the exit status, as a shell reports it, from the error of Wait.
func exitStatus(cmd *exec.Cmd, err error) (int, error) {
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, fmt.Errorf("lab: wait for %s: %w", cmd.Args[0], err)
	}
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return cmd.ProcessState.ExitCode(), nil
}

// Prepare sets up the namespaces that Enter gave this process: it mounts a tmpfs on /run, where nft, iptables
// and ip keep locks and names, and sets lo up. New and Up call it; a program that uses /run or the network
// earlier calls it first. It does nothing outside of Enter's namespaces, and nothing the second time.
func Prepare() error { return prepareOnce() }

// prepareOnce keeps the result for the process: tests may make labs concurrently.
var prepareOnce = sync.OnceValue(prepare)

func prepare() error {
	if !Inside() {
		return nil
	}
	mounts, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return fmt.Errorf("lab: this process's mount namespace: %w", err)
	}
	if outside := os.Getenv(outsideEnv); outside == "" || outside == mounts {
		return fmt.Errorf("lab: %s is set, but this process is not in a mount namespace of its own: unset it",
			insideEnv)
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("lab: the mounts: %w", err)
	}
	source := runSource + mounts
	if strings.Contains(string(info), " - tmpfs "+source+" ") {
		return nil
	}
	return setUpNamespaces(source)
}

// setUpNamespaces mounts /run and sets lo up in new namespaces.
func setUpNamespaces(source string) error {
	if err := mountRun(source); err != nil {
		return err
	}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("lab: netlink: %w", err)
	}
	defer nl.Close()
	if err := setUp(nl, "lo"); err != nil {
		return fmt.Errorf("lab: set lo up: %w", explainRefusal(err))
	}
	return nil
}

// mountRun mounts a tmpfs on /run. The user's own directory below it stays visible.
func mountRun(source string) error {
	own := os.Getenv("XDG_RUNTIME_DIR")
	var kept *os.File
	if strings.HasPrefix(own, "/run/") {
		kept, _ = os.Open(own) // it may not exist
	}
	if kept != nil {
		defer kept.Close()
	}
	if err := syscall.Mount(source, "/run", "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("lab: mount a tmpfs on /run: %w", explainRefusal(err))
	}
	if kept == nil {
		return nil
	}
	if err := os.MkdirAll(own, 0o700); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	from := fmt.Sprintf("/proc/self/fd/%d", kept.Fd())
	if err := syscall.Mount(from, own, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("lab: keep %s: %w", own, err)
	}
	return nil
}
