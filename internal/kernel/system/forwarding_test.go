package system

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

const (
	switch4 = "net.ipv4.ip_forward"
	switch6 = "net.ipv6.conf.all.forwarding"
)

// forwarding returns the two sysctls of a host: "10" is IPv4 on, IPv6 off.
func forwarding(t *testing.T, host *lab.Host) string {
	t.Helper()
	var both string
	for _, name := range []string{switch4, switch6} {
		value, err := host.ReadSysctl(name)
		if err != nil {
			t.Fatal(err)
		}
		both += value
	}
	return both
}

func TestEnableForwarding(t *testing.T) {
	for _, tt := range []struct {
		before string // as forwarding returns it
		ipv6   bool
		want   []string
		after  string
	}{
		{"00", false, []string{switch4 + "=1"}, "10"},
		{"00", true, []string{switch4 + "=1", switch6 + "=1"}, "11"},
		{"10", false, nil, "10"},
		{"10", true, []string{switch6 + "=1"}, "11"},
		{"01", true, []string{switch4 + "=1"}, "11"},
		{"01", false, []string{switch4 + "=1"}, "11"},
		{"11", true, nil, "11"},
	} {
		host, other := labtest.Host(t), labtest.Host(t)
		for _, h := range []*lab.Host{host, other} {
			for i, name := range []string{switch4, switch6} {
				if err := h.WriteSysctl(name, tt.before[i:i+1]); err != nil {
					t.Fatal(err)
				}
			}
		}
		in(t, host, func() error {
			if got, err := EnableForwarding(tt.ipv6); !slices.Equal(got, tt.want) || err != nil {
				t.Errorf("%s: EnableForwarding(%v) = %v, %v; want %v, nil",
					tt.before, tt.ipv6, got, err, tt.want)
			}
			if got, err := EnableForwarding(tt.ipv6); len(got) != 0 || err != nil {
				t.Errorf("%s: EnableForwarding(%v) again = %v, %v; want none, nil",
					tt.before, tt.ipv6, got, err)
			}
			return nil
		})
		if got := forwarding(t, host); got != tt.after {
			t.Errorf("%s: EnableForwarding(%v) leaves %s; want %s", tt.before, tt.ipv6, got, tt.after)
		}
		if got := forwarding(t, other); got != tt.before {
			t.Errorf("%s: EnableForwarding(%v) leaves %s in another namespace", tt.before, tt.ipv6, got)
		}
	}
}

// After an error in the second change, the first one is returned as well.
func TestEnableForwardingWithoutIPv6(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "net/ipv4"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, forward4), []byte("0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := enableForwarding(dir, true)
	want := "system: set net.ipv6.conf.all.forwarding=1: the kernel has no such switch: " +
		"this address family is not built in, or is disabled"
	if !slices.Equal(got, []string{switch4 + "=1"}) || err == nil || err.Error() != want {
		t.Errorf("enableForwarding = %v, %v; want [%s=1], %s", got, err, switch4, want)
	}
}

// In containers /proc/sys is often read-only.
func TestEnableForwardingReadOnly(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "net/ipv4"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, forward4), []byte("0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in(t, labtest.Host(t), func() error { // the tests have a mount namespace of their own
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind mount: %w", err)
		}
		defer unix.Unmount(dir, unix.MNT_DETACH)
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("remount read-only: %w", err)
		}
		got, err := enableForwarding(dir, false)
		want := "system: set net.ipv4.ip_forward=1: read-only file system: " +
			"/proc/sys can't be written here (a container?): set it from outside"
		if len(got) != 0 || err == nil || err.Error() != want || !errors.Is(err, unix.EROFS) {
			t.Errorf("enableForwarding = %v, %v; want none, %s", got, err, want)
		}
		return nil
	})
}

func TestAcceptRAKey(t *testing.T) {
	for iface, want := range map[string]string{
		"eth0":    "net.ipv6.conf.eth0.accept_ra",
		"eth0.10": "net.ipv6.conf.eth0/10.accept_ra",
	} {
		if got := AcceptRAKey(iface); got != want {
			t.Errorf("AcceptRAKey(%q) = %q; want %q", iface, got, want)
		}
	}
}

func TestAdvertised(t *testing.T) {
	const zero = "00000000000000000000000000000000"
	route := func(flags, iface string) string {
		return strings.Join([]string{zero, "00", zero, "00", zero, "00000400", "00000001", "00000000", flags,
			"    " + iface}, " ") + "\n"
	}
	for _, tt := range []struct {
		name, routes string
		want         []string
		err          string
	}{
		{"none", "", nil, ""},
		{"by hand", route("00000003", "eth0"), nil, ""},
		{"the host's own address", route("80200001", "eth0"), nil, ""},
		{"an advertised default", route("00450003", "eth0"), []string{"eth0"}, ""},
		{"an advertised prefix", route("004c0001", "eth1"), []string{"eth1"}, ""},
		{"several",
			route("004c0001", "wan0") + route("00000003", "lan0") +
				route("00450003", "wan0") + route("00450003", "eth0"),
			[]string{"eth0", "wan0"}, ""},
		{"cut short", "00000000 00\n", nil, `system: read IPv6 routes: 2 fields in "00000000 00"; want 10`},
		{"no flags", route("x", "eth0"), nil,
			`system: read IPv6 routes: flags "x": strconv.ParseUint: parsing "x": invalid syntax`},
	} {
		got, err := advertised(strings.NewReader(tt.routes))
		text := ""
		if err != nil {
			text = err.Error()
		}
		if !slices.Equal(got, tt.want) || text != tt.err {
			t.Errorf("%s: %v, %v; want %v, %s", tt.name, got, err, tt.want, tt.err)
		}
	}
}

// A router advertises itself to the gateway's lan0. The interface is at risk while accept_ra is 1: the kernel
// then drops the route.
func TestRouterAdvertisementRisk(t *testing.T) {
	for _, tt := range []struct {
		accept string // accept_ra
		want   []string
		kept   bool // the default route outlives EnableForwarding
	}{
		{"1", []string{lab.GatewayLANLink}, false},
		{"2", nil, true},
	} {
		l := labtest.New(t)
		router, host := l.Client(), l.Gateway()
		check := func(when string, want []string) {
			t.Helper()
			in(t, host, func() error {
				if got, err := RouterAdvertisementRisk(); !slices.Equal(got, want) || err != nil {
					t.Errorf("accept_ra %s, %s: RouterAdvertisementRisk = %v, %v; want %v, nil", tt.accept,
						when, got, err, want)
				}
				return nil
			})
		}
		if err := host.WriteSysctl(AcceptRAKey(lab.GatewayLANLink), tt.accept); err != nil {
			t.Fatal(err)
		}
		source := netip.MustParsePrefix("fe80::1:1/64") // usable at once, unlike the link's own
		if err := router.AddAddress(lab.ClientLink, source); err != nil {
			t.Fatal(err)
		}
		check("before", nil)
		routes := watchRoutes(t, host)
		in(t, router, func() error { return advertise(source.Addr(), lab.ClientLink) })
		routes.wait(t, func() bool { return hasDefault(t, host) })
		check("advertised", tt.want)
		in(t, host, func() error { _, err := EnableForwarding(true); return err })
		if got := hasDefault(t, host); got != tt.kept {
			t.Errorf("accept_ra %s: the default route outlives forwarding: %v; want %v", tt.accept, got,
				tt.kept)
		}
	}
}

// hasDefault reports whether a host has an advertised default route: RTF_DEFAULT and RTF_ADDRCONF.
func hasDefault(t *testing.T, host *lab.Host) bool {
	t.Helper()
	var routes []byte
	in(t, host, func() (err error) {
		routes, err = os.ReadFile(threadProc + "/net/ipv6_route")
		return err
	})
	return strings.Contains(string(routes), " 00450003 ")
}

// advertise sends a router advertisement (RFC 4861 section 4.2) with a prefix for autoconfiguration.
func advertise(source netip.Addr, link string) error {
	dev, err := net.InterfaceByName(link)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255); err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet6{Addr: source.As16(), ZoneId: uint32(dev.Index)}); err != nil {
		return err
	}
	ra := []byte{134, 0, 0, 0, 64, 0}             // the kernel fills in the checksum
	ra = binary.BigEndian.AppendUint16(ra, 1800)  // router lifetime, seconds
	ra = append(ra, make([]byte, 8)...)           // reachable time, retransmission: unspecified
	ra = append(ra, 3, 4, 64, 0xc0)               // prefix information, 32 bytes, /64, on-link and autonomous
	ra = binary.BigEndian.AppendUint32(ra, 86400) // valid, seconds
	ra = binary.BigEndian.AppendUint32(ra, 14400) // preferred, seconds
	ra = append(ra, 0, 0, 0, 0)                   // reserved
	ra = append(ra, netip.MustParseAddr("2001:db8:99::").AsSlice()...)
	allNodes := netip.MustParseAddr("ff02::1").As16()
	return unix.Sendto(fd, ra, 0, &unix.SockaddrInet6{Addr: allNodes, ZoneId: uint32(dev.Index)})
}

// routeWatch receives an event for every change of a host's IPv6 routes.
type routeWatch struct{ fd int }

func watchRoutes(t *testing.T, host *lab.Host) routeWatch {
	t.Helper()
	var w routeWatch
	in(t, host, func() (err error) {
		w.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		return err
	})
	t.Cleanup(func() { unix.Close(w.fd) })
	const groups = 1 << (unix.RTNLGRP_IPV6_ROUTE - 1)
	if err := unix.Bind(w.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		t.Fatal(err)
	}
	limit := unix.NsecToTimeval(int64(10 * time.Second))
	if err := unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		t.Fatal(err)
	}
	return w
}

// wait returns when reached returns true. It calls reached after every change of a route.
func (w routeWatch) wait(t *testing.T, reached func() bool) {
	t.Helper()
	buf := make([]byte, 1<<16)
	for !reached() {
		if _, _, err := unix.Recvfrom(w.fd, buf, 0); err != nil {
			t.Fatalf("wait for a route: %v", err)
		}
	}
}

func TestLegacyIptablesFilter(t *testing.T) {
	host, other := labtest.Host(t), labtest.Host(t)
	want := func(h *lab.Host, want bool) {
		t.Helper()
		in(t, h, func() error {
			if got := LegacyIptablesFilter(); got != want {
				t.Errorf("LegacyIptablesFilter = %v; want %v", got, want)
			}
			return nil
		})
	}
	want(host, false)
	var made bool
	in(t, host, func() (err error) { made, err = useFilterTable(); return err })
	want(host, made) // without iptables-legacy in the kernel there is never such a table
	want(other, false)
}

// useFilterTable makes the kernel create the filter table of iptables-legacy, as `iptables-legacy -L` does,
// and reports whether this kernel has it.
func useFilterTable() (bool, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	const getInfo = 64 // IPT_SO_GET_INFO of include/uapi/linux/netfilter_ipv4/ip_tables.h
	var info [84]byte  // struct ipt_getinfo, which begins with the table's name
	copy(info[:], "filter")
	size := uint32(len(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_IP, getInfo,
		uintptr(unsafe.Pointer(&info[0])), uintptr(unsafe.Pointer(&size)), 0)
	switch errno {
	case 0:
		return true, nil
	case unix.ENOPROTOOPT, unix.ENOENT:
		return false, nil
	}
	return false, os.NewSyscallError("getsockopt IPT_SO_GET_INFO", errno)
}

func TestHasFilterTable(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  bool
	}{
		{"no iptables", nil, false},
		{"no tables", map[string]string{"ip_tables_names": "", "ip6_tables_names": ""}, false},
		{"others", map[string]string{"ip_tables_names": "nat\nmangle\n"}, false},
		{"IPv4", map[string]string{"ip_tables_names": "nat\nfilter\n", "ip6_tables_names": ""}, true},
		{"IPv6", map[string]string{"ip6_tables_names": "filter\n"}, true},
	} {
		dir := t.TempDir()
		for name, text := range tt.files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		tables, err := legacyTables(dir)
		if got := slices.Contains(tables, "filter"); got != tt.want || err != nil {
			t.Errorf("%s: %v, %v; want %v", tt.name, got, err, tt.want)
		}
	}
}
