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

// sysctlDir holds the switches of the calling thread's network namespace.
const sysctlDir = "/proc/sys"

const (
	forward4 = "net/ipv4/ip_forward"
	forward6 = "net/ipv6/conf/all/forwarding"
)

// EnableForwarding switches IP forwarding on in this namespace, for IPv6 where asked, and returns
// what it changed as sysctl(8) writes it ("net.ipv4.ip_forward=1"), also when it fails halfway.
// A switch that is on is left alone, whatever single interfaces are set to.
// Before it is asked for IPv6, see RouterAdvertisementRisk.
func EnableForwarding(ipv6 bool) (changed []string, err error) {
	return enableForwarding(sysctlDir, ipv6)
}

func enableForwarding(dir string, ipv6 bool) (changed []string, err error) {
	keys := []string{forward4}
	if ipv6 {
		keys = append(keys, forward6)
	}
	for _, key := range keys {
		on, err := switchOn(filepath.Join(dir, key))
		if err != nil {
			return changed, fmt.Errorf("system: set %s=1: %w", sysctlName(key), err)
		}
		if on {
			changed = append(changed, sysctlName(key)+"=1")
		}
	}
	return changed, nil
}

// switchOn writes 1 where 0 stands, and tells whether it did.
func switchOn(path string) (changed bool, err error) {
	now, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, errors.New("the kernel has no such switch: this address family is not built in, or is disabled")
	case err != nil:
		return false, bare(err)
	case strings.TrimSpace(string(now)) != "0":
		return false, nil
	}
	switch err := os.WriteFile(path, []byte("1\n"), 0); {
	case errors.Is(err, unix.EROFS):
		return false, fmt.Errorf("%w: /proc/sys can't be written here (a container?): set it from outside", bare(err))
	case err != nil:
		return false, bare(err)
	}
	return true, nil
}

// bare takes operation and path off an error of package os, where the caller names the switch.
func bare(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// sysctlName writes a path below /proc/sys as sysctl(8) does: dots for slashes, and slashes
// for the dots in a name (eth0.10).
func sysctlName(path string) string {
	return strings.NewReplacer("/", ".", ".", "/").Replace(path)
}

// AcceptRAKey names the switch that says whether an interface accepts router advertisements, for
// sysctl(8): "net.ipv6.conf.eth0.accept_ra". 0 is never, 1 is while it does not forward, 2 is always.
func AcceptRAKey(iface string) string {
	return sysctlName(acceptRA(iface))
}

func acceptRA(iface string) string { return "net/ipv6/conf/" + iface + "/accept_ra" }

// RouterAdvertisementRisk returns the interfaces that live by router advertisements and would not
// survive a host that forwards IPv6: their accept_ra is 1, and they hold a route that the kernel took
// from an advertisement, a default one or the prefix of an autoconfigured address. When forwarding is
// switched on, the kernel drops such default routes at once (rt6_purge_dflt_routers in
// net/ipv6/route.c), and what it learnt runs out. So ask first, and set AcceptRAKey to 2.
// Interfaces whose advertisements a program reads (accept_ra 0) are not at risk.
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
		value, err := os.ReadFile(filepath.Join(sysctlDir, acceptRA(iface)))
		return err != nil || strings.TrimSpace(string(value)) != "1" // unreadable: the interface has gone
	}), nil
}

// advertised returns the interfaces with routes from router advertisements, in order. A line of
// /proc/net/ipv6_route has ten fields: destination, length, source, length, next hop, metric,
// references, uses, flags, interface (rt6_native_seq_show in net/ipv6/ip6_fib.c).
func advertised(routes io.Reader) ([]string, error) {
	var ifaces []string
	lines := bufio.NewScanner(routes)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 10 {
			return nil, fmt.Errorf("system: read IPv6 routes: %d fields in %q; want 10", len(fields), lines.Text())
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

// LegacyIptablesFilter tells whether the older iptables has a filter table in this namespace, of
// IPv4 or IPv6: rules that nftables can't show. The table is there from its first use on, even
// where it only accepts. Without privilege it can't be told, and the answer is false.
func LegacyIptablesFilter() bool {
	return hasFilterTable(threadProc + "/net")
}

func hasFilterTable(dir string) bool {
	for _, name := range []string{"ip_tables_names", "ip6_tables_names"} {
		tables, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil && slices.Contains(strings.Fields(string(tables)), "filter") {
			return true
		}
	}
	return false
}
