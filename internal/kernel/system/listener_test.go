package system

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"ftpgate/internal/try/lab/labtest"
)

// listen opens a TCP listener in the calling thread's namespace until the test ends.
func listen(t *testing.T, network, address string, multipath bool) {
	t.Helper()
	var c net.ListenConfig
	c.SetMultipathTCP(multipath)
	l, err := c.Listen(context.Background(), network, address)
	if err != nil {
		t.Fatalf("listen %s %s: %v", network, address, err)
	}
	t.Cleanup(func() { l.Close() })
}

// listenMapped listens at an IPv4 address through an IPv6 socket, as some Java programs do.
func listenMapped(t *testing.T, addr netip.AddrPort) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
		t.Fatal(err)
	}
	mapped := &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
	if err := unix.Bind(fd, mapped); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
}

func TestListeners(t *testing.T) {
	host, other := labtest.Host(t), labtest.Host(t)
	in(t, other, func() error { listen(t, "tcp4", "127.0.0.1:9", false); return nil })
	in(t, host, func() error {
		if ls, err := Listeners(); len(ls) != 0 || err != nil {
			t.Errorf("fresh namespace: Listeners = %v, %v; want none, nil", ls, err)
		}
		listen(t, "tcp4", "127.0.0.1:21", false)
		listen(t, "tcp6", "[::1]:21", false)
		listen(t, "tcp4", "0.0.0.0:2121", false)
		listen(t, "tcp", "[::]:2122", false) // dual
		listen(t, "tcp4", "0.0.0.0:2123", false)
		listen(t, "tcp6", "[::]:2123", false) // IPv6 only
		listenMapped(t, netip.MustParseAddrPort("127.0.0.1:2124"))
		listen(t, "tcp4", "127.0.0.1:2125", true)
		// The two ends of a connection are not listeners.
		conn, err := net.Dial("tcp4", "127.0.0.1:21")
		if err != nil {
			return err
		}
		defer conn.Close()

		want := []Listener{
			{Addr: netip.MustParseAddrPort("127.0.0.1:21")},
			{Addr: netip.MustParseAddrPort("[::1]:21")},
			{Addr: netip.MustParseAddrPort("0.0.0.0:2121")},
			{Addr: netip.MustParseAddrPort("[::]:2122"), Dual: true},
			{Addr: netip.MustParseAddrPort("0.0.0.0:2123")},
			{Addr: netip.MustParseAddrPort("[::]:2123")},
			{Addr: netip.MustParseAddrPort("127.0.0.1:2124")},
			{Addr: netip.MustParseAddrPort("127.0.0.1:2125")},
		}
		got, err := Listeners()
		if err != nil {
			return err
		}
		named := WithProcesses(got...)
		for i := range got {
			got[i].inode = 0
		}
		if !slices.Equal(got, want) {
			t.Errorf("Listeners = %v; want %v", got, want)
		}
		proc, err := procfs.Self()
		if err != nil {
			return err
		}
		comm, err := proc.Comm()
		if err != nil {
			return err
		}
		for _, l := range named {
			if want := fmt.Sprintf("%s (pid %d)", comm, os.Getpid()); l.Process != want {
				t.Errorf("WithProcesses: %s is of %q; want %q", l.Addr, l.Process, want)
			}
		}
		return nil
	})
}

func TestWithProcesses(t *testing.T) {
	host := labtest.Host(t)
	peer := start(t, "listen 127.0.0.1:21", host.Start)
	if peer.said != "listening" {
		t.Fatalf("the other process said %q; want listening", peer.said)
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", peer.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	in(t, host, func() error {
		ls, err := Listeners()
		if err != nil {
			return err
		}
		gone := Listener{Addr: netip.MustParseAddrPort("192.0.2.1:1"), inode: 1 << 62}
		ls = append(ls, gone, Listener{Addr: netip.MustParseAddrPort("192.0.2.1:2")})
		named := WithProcesses(ls...)
		if ls[0].Process != "" {
			t.Errorf("WithProcesses wrote %q into its argument", ls[0].Process)
		}
		want := fmt.Sprintf("%s (pid %d)", comm[:len(comm)-1], peer.Process.Pid)
		for i, want := range []string{want, "", ""} {
			if named[i].Process != want {
				t.Errorf("%s is of %q; want %q", named[i].Addr, named[i].Process, want)
			}
		}
		return nil
	})
	if got := WithProcesses(); len(got) != 0 {
		t.Errorf("WithProcesses() = %v; want none", got)
	}
}
