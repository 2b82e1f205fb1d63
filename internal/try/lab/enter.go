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
)

const (
	// insideEnv tells a process that it was started by Enter.
	insideEnv = "FTPGATE_LAB_INSIDE"
	// outsideEnv holds the mount namespace of the process that called Enter, so that Prepare
	// never covers /run of the host for somebody who merely set insideEnv.
	outsideEnv = "FTPGATE_LAB_OUTSIDE"
	// runSource and the mount namespace's name are the source of the tmpfs on /run, by which
	// Prepare knows its own work, and tells it from what an outer Enter has left in the mounts.
	runSource = "ftpgate-lab-"
)

// Inside tells whether this process, or one that it descends from, was started by Enter.
func Inside() bool { return os.Getenv(insideEnv) == "1" }

// Enter runs this program again, with other arguments and the same standard files, in a network
// and a mount namespace of its own; for a user without the rights also in a user namespace, in
// which that user is root and has them. It waits, passes signals on, and returns the exit status
// (128 + the signal's number for a program that a signal ended). The program dies with its caller.
//
// The error is a *RefusedError where the kernel does not allow the namespaces.
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
	ended := make(chan struct{})
	relayed := make(chan struct{})
	go func() {
		defer close(relayed)
		forwardSignals(signals, ended, func(s os.Signal) {
			if !fromTerminal(s) {
				_ = cmd.Process.Signal(s) // it may just have ended
			}
		})
	}()
	err = cmd.Wait()
	close(ended)
	<-relayed
	return exitStatus(cmd, err)
}

// isolation asks for a network and a mount namespace, and where this process has not the rights
// for that, for a user namespace in which the user is root. The mounts are private: Go sees to
// that where the mount namespace comes from Unshareflags.
func isolation() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET}
	if !privileged() {
		attr.Cloneflags = syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	return attr
}

// insideEnviron is this process's environment, with the marks of Enter.
func insideEnviron() ([]string, error) {
	mounts, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return nil, fmt.Errorf("lab: this process's mount namespace: %w", err)
	}
	return append(os.Environ(), insideEnv+"=1", outsideEnv+"="+mounts), nil
}

// forwardedSignals are the signals that a user or a supervisor sends to end or steer a program.
var forwardedSignals = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}

// forwardSignals hands signals to send until ended is closed.
func forwardSignals(signals <-chan os.Signal, ended <-chan struct{}, send func(os.Signal)) {
	for {
		select {
		case s := <-signals:
			send(s)
		case <-ended:
			return
		}
	}
}

// fromTerminal tells whether s came from a terminal, which sends it to the whole foreground process
// group and so has sent it to our child too. A second one would be taken for impatience.
func fromTerminal(s os.Signal) bool {
	if s != syscall.SIGINT && s != syscall.SIGQUIT {
		return false
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false // no controlling terminal
	}
	defer tty.Close()
	foreground, err := foregroundGroup(tty)
	return err == nil && foreground == syscall.Getpgrp()
}

// exitStatus reads a shell's exit status from what Wait returned.
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

// Prepare makes the namespaces that Enter gave this process fit for use: a tmpfs of their own on
// /run, where nft, iptables and ip keep locks and names, and lo up. New and Up call it; a program
// that uses /run or the network before should call it first. It does nothing outside of Enter's
// namespaces, and nothing the second time.
func Prepare() error { return prepareOnce() }

// prepareOnce holds the outcome for the process: two tests may make their labs at once.
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
		return fmt.Errorf("lab: %s is set, but this process is not in a mount namespace of its own: unset it", insideEnv)
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

// setUpNamespaces gives a fresh network and mount namespace a /run and a lo.
func setUpNamespaces(source string) error {
	if err := mountRun(source); err != nil {
		return err
	}
	nl, err := netlink.NewHandle(netlinkRoute)
	if err != nil {
		return fmt.Errorf("lab: netlink: %w", err)
	}
	defer nl.Close()
	if err := setUp(nl, "lo"); err != nil {
		return fmt.Errorf("lab: set lo up: %w", explainRefusal(err))
	}
	return nil
}

// mountRun mounts a tmpfs on /run; the user's own directory below it stays visible.
func mountRun(source string) error {
	own := os.Getenv("XDG_RUNTIME_DIR")
	var kept *os.File
	if strings.HasPrefix(own, "/run/") {
		kept, _ = os.Open(own) // where there is none, there is nothing to keep
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
