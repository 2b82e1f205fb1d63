package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netns"
)

// Host is one host of a lab: a network namespace. Its methods may be called from several
// goroutines at once.
type Host struct {
	name string
	ns   *os.File // the namespace; an os.File, because it allows Close during use
}

// Name returns client, gateway or server, or what NewHost was given.
func (h *Host) Name() string { return h.name }

// Close closes the namespace. It is only for a host of NewHost: a lab closes its own hosts.
func (h *Host) Close() error {
	if err := h.ns.Close(); err != nil {
		return fmt.Errorf("lab: close %s: %w", h.name, err)
	}
	return nil
}

// withFd runs f with the namespace's file descriptor, which stays open until f returns.
func (h *Host) withFd(f func(fd int) error) error {
	raw, err := h.ns.SyscallConn()
	if err != nil {
		return fmt.Errorf("lab: %s: %w", h.name, err)
	}
	var ferr error
	if err := raw.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil {
		return fmt.Errorf("lab: %s: %w", h.name, os.ErrClosed) // the only possible reason
	}
	return ferr
}

// Do runs f in the host's namespace, on an OS thread of its own, and returns its error. The thread then
// returns to its own namespace, or ends. Sockets that f creates belong to the host for good, and may be used
// anywhere; goroutines that f starts are *not* in the namespace.
func (h *Host) Do(f func() error) error {
	return onOwnThread(func() error {
		err := h.withFd(func(fd int) error { return netns.Set(netns.NsHandle(fd)) })
		if errors.Is(err, os.ErrClosed) {
			return err
		}
		if err != nil {
			return fmt.Errorf("lab: enter %s: %w", h.name, err)
		}
		return f()
	})
}

// result is Do for a function that returns more than an error.
func result[T any](h *Host, f func() (T, error)) (got T, err error) {
	err = h.Do(func() (err error) {
		got, err = f()
		return err
	})
	return got, err
}

// onOwnThread runs f on a locked OS thread, and then returns the thread to its own network namespace. If that
// fails, the thread ends with the goroutine that has locked it: no other goroutine ever runs in the wrong
// namespace. A Goexit in f (t.FailNow) becomes one of the caller.
func onOwnThread(f func() error) error {
	var err error
	returned := false
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		origin, gerr := netns.Get()
		if gerr != nil {
			runtime.UnlockOSThread()
			err, returned = fmt.Errorf("lab: this thread's namespace: %w", gerr), true
			return
		}
		defer func() {
			if netns.Set(origin) == nil {
				runtime.UnlockOSThread()
			}
			_ = origin.Close()
		}()
		err = f()
		returned = true
	}()
	<-done
	if !returned {
		runtime.Goexit()
	}
	return err
}

// Start starts cmd inside the host's namespace, like exec.Cmd.Start. The caller waits for it.
func (h *Host) Start(cmd *exec.Cmd) error {
	// A process is forked from the thread that asks for it, and inherits that thread's namespaces.
	if err := h.Do(cmd.Start); err != nil {
		return fmt.Errorf("lab: %s: start: %w", h.name, err)
	}
	return nil
}

// Run starts cmd inside the host's namespace and waits for it. The error wraps *exec.ExitError.
func (h *Host) Run(cmd *exec.Cmd) error {
	if err := h.Start(cmd); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("lab: %s: %s: %w", h.name, strings.Join(cmd.Args, " "), err)
	}
	return nil
}

// Output runs a command inside the host's namespace and returns its standard output. An error includes the
// command's standard error.
func (h *Host) Output(ctx context.Context, name string, args ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := h.Run(cmd)
	if text := strings.TrimSpace(stderr.String()); err != nil && text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return stdout.Bytes(), err
}

// Listen makes a TCP listener in the host's namespace. The address has a literal IP address or no host at
// all.
func (h *Host) Listen(network, address string) (net.Listener, error) {
	if err := checkLiteral(network, address, true); err != nil {
		return nil, fmt.Errorf("lab: %s: listen: %w", h.name, err)
	}
	l, err := result(h, func() (net.Listener, error) { return net.Listen(network, address) })
	if err != nil {
		return nil, fmt.Errorf("lab: %s: %w", h.name, err)
	}
	return l, nil
}

// Dial makes a TCP or UDP connection in the host's namespace, to a literal IP address.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := checkLiteral(network, address, false); err != nil {
		return nil, fmt.Errorf("lab: %s: dial: %w", h.name, err)
	}
	// Without happy eyeballs and names the goroutine of Do makes the socket, on its thread.
	d := net.Dialer{FallbackDelay: -1}
	c, err := result(h, func() (net.Conn, error) { return d.DialContext(ctx, network, address) })
	if err != nil {
		return nil, fmt.Errorf("lab: %s: %w", h.name, err)
	}
	return c, nil
}

// checkLiteral refuses names, and networks other than IP. The net package would handle these in other
// goroutines, which are not in the namespace.
func checkLiteral(network, address string, emptyHost bool) error {
	if !strings.HasPrefix(network, "tcp") && !strings.HasPrefix(network, "udp") {
		return fmt.Errorf("network %q: want tcp or udp", network)
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if host == "" && emptyHost {
		return nil
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return fmt.Errorf("address %q: %q is not an IP address, and the lab resolves no names", address, host)
	}
	return nil
}

// ReadSysctl returns the value of a sysctl of the host's namespace, like "net.ipv4.ip_forward",
// without the newline.
func (h *Host) ReadSysctl(name string) (string, error) {
	path, err := sysctlPath(name)
	if err != nil {
		return "", err
	}
	value, err := result(h, func() ([]byte, error) { return os.ReadFile(path) })
	if err != nil {
		return "", fmt.Errorf("lab: %s: read sysctl %s: %w", h.name, name, err)
	}
	return strings.TrimSuffix(string(value), "\n"), nil
}

// WriteSysctl sets a sysctl of the host's namespace. It does not change the machine that the lab runs on.
func (h *Host) WriteSysctl(name, value string) error {
	path, err := sysctlPath(name)
	if err != nil {
		return err
	}
	err = h.Do(func() error { return writeExisting(path, value) })
	if err != nil {
		return fmt.Errorf("lab: %s: write sysctl %s=%s: %w", h.name, name, value, err)
	}
	return nil
}

// writeExisting writes to a file that must exist.
func writeExisting(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// sysctlPath returns the file of a sysctl: net.a.b, or net/a.0/b if a part contains a dot. Below
// /proc/sys/net the kernel shows each thread the values of that thread's network namespace
// (net/sysctl_net.c). All other sysctls belong to the whole machine, and are refused.
func sysctlPath(name string) (string, error) {
	rel := name
	if !strings.Contains(rel, "/") {
		rel = strings.ReplaceAll(rel, ".", "/")
	}
	if !strings.HasPrefix(rel, "net/") || !filepath.IsLocal(rel) || filepath.Clean(rel) != rel {
		return "", fmt.Errorf("lab: sysctl %q: only those below net belong to a host", name)
	}
	return "/proc/sys/" + rel, nil
}
