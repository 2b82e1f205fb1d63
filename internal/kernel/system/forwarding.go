package system

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sysctlDir has the sysctls of the calling thread's network namespace.
const sysctlDir = "/proc/sys"

const (
	forward4 = "net/ipv4/ip_forward"
	forward6 = "net/ipv6/conf/all/forwarding"
)

// EnableForwarding switches IP forwarding on in this namespace, with ipv6 also for IPv6. It returns the
// sysctls that it changed, in the syntax of sysctl(8) ("net.ipv4.ip_forward=1"), even after an error. It does
// not change a sysctl that is on, whatever the settings of single interfaces are. Call
// RouterAdvertisementRisk before you ask for IPv6.
func EnableForwarding(ipv6 bool) (changed []string, err error) {
	return enableForwarding(sysctlDir, ipv6)
}

func enableForwarding(dir string, ipv6 bool) (changed []string, err error) {
	if ipv6 {
		return switchOn(dir, forward4, forward6)
	}
	return switchOn(dir, forward4)
}

// switchOn switches sysctls on, and returns those that it changed, even after an error.
func switchOn(dir string, keys ...string) (changed []string, err error) {
	for _, key := range keys {
		on, err := writeOne(filepath.Join(dir, key))
		if err != nil {
			return changed, fmt.Errorf("system: set %s=1: %w", sysctlName(key), err)
		}
		if on {
			changed = append(changed, sysctlName(key)+"=1")
		}
	}
	return changed, nil
}

// writeOne writes 1 to a sysctl that is 0, and reports whether it did.
func writeOne(path string) (changed bool, err error) {
	now, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, errors.New("the kernel has no such switch: " +
			"this address family is not built in, or is disabled")
	case err != nil:
		return false, withoutPath(err)
	case strings.TrimSpace(string(now)) != "0":
		return false, nil
	}
	switch err := os.WriteFile(path, []byte("1\n"), 0); {
	case errors.Is(err, unix.EROFS):
		return false, fmt.Errorf("%w: /proc/sys can't be written here (a container?): set it from outside",
			withoutPath(err))
	case err != nil:
		return false, withoutPath(err)
	}
	return true, nil
}

// withoutPath removes operation and path from an error of package os: the caller names the sysctl.
func withoutPath(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// sysctlName returns the name that sysctl(8) has for a path below /proc/sys: dots instead of slashes, and
// slashes instead of dots in a name (eth0.10).
func sysctlName(path string) string {
	return strings.NewReplacer("/", ".", ".", "/").Replace(path)
}

// AcceptRAKey returns the name of the sysctl that says whether an interface accepts router advertisements:
// "net.ipv6.conf.eth0.accept_ra". 0 is never, 1 is while it does not forward, 2 is always.
func AcceptRAKey(iface string) string {
	return sysctlName("net/ipv6/conf/" + iface + "/accept_ra")
}

// RouterAdvertisementRisk returns the interfaces that would lose their routes if the host forwarded IPv6:
// their accept_ra is 1, and they have a route from a router advertisement, either a default route or the
// prefix of an autoconfigured address. When forwarding is switched on, the kernel drops such default routes
// at once (rt6_purge_dflt_routers in net/ipv6/route.c), and the other routes expire. So call it first, and
// set AcceptRAKey to 2 for these interfaces. Interfaces whose advertisements a program reads (accept_ra 0)
// are not at risk.
func RouterAdvertisementRisk() ([]string, error) {
	f, err := os.Open(threadProc + "/net/ipv6_route")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no IPv6
	}
	if err != nil {
		return nil, fmt.Errorf("system: read IPv6 routes: %w", err)
	}
	defer f.Close()
	learnt, err := advertised(f)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(learnt, func(iface string) bool {
		values, _ := Sysctls(AcceptRAKey(iface)) // without a value the interface is gone
		return values[AcceptRAKey(iface)] != "1"
	}), nil
}

// advertised returns the interfaces with routes from router advertisements, sorted. A line of
// /proc/net/ipv6_route has ten fields: destination, length, source, length, next hop, metric, references,
// uses, flags, interface (rt6_native_seq_show in net/ipv6/ip6_fib.c).
func advertised(routes io.Reader) ([]string, error) {
	var ifaces []string
	lines := bufio.NewScanner(routes)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 10 {
			return nil, fmt.Errorf("system: read IPv6 routes: %d fields in %q; want 10",
				len(fields), lines.Text())
		}
		flags, err := strconv.ParseUint(fields[8], 16, 32)
		if err != nil {
			return nil, fmt.Errorf("system: read IPv6 routes: flags %q: %w", fields[8], err)
		}
		if flags&unix.RTF_ADDRCONF != 0 {
			ifaces = append(ifaces, fields[9])
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("system: read IPv6 routes: %w", err)
	}
	slices.Sort(ifaces)
	return slices.Compact(ifaces), nil
}
