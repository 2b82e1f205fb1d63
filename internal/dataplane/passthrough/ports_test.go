package passthrough

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/relaytest"
)

// wantError checks an error's texts.
func wantError(t *testing.T, err error, text, plain, remedy string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v; want an Error", err)
	}
	code, reply := e.Reply()
	if code != 431 {
		t.Errorf("got %d; want 431", code)
	}
	for _, tt := range []struct{ what, got, want string }{
		{"error", e.Error(), text}, {"reply", reply, plain}, {"remedy", e.Remedy(), remedy},
	} {
		if !strings.Contains(tt.got, tt.want) {
			t.Errorf("%s: got %q; want it to contain %q", tt.what, tt.got, tt.want)
		}
	}
}

func TestPassthroughPortInUse(t *testing.T) {
	r, held := relaytest.TakenPorts(t, 6)
	for i, l := range held {
		if i != 4 {
			l.Close()
		}
	}
	ps := newPassthroughs(t, nil)
	_, err := ps.Open(passthroughTo(r))
	port := fmt.Sprintf("port %d", r.First+4)
	wantError(t, err, port+": address already in use", port+" of the gateway is in use",
		"ip_local_reserved_ports")
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v; want %v", err, syscall.EADDRINUSE)
	}
	for i := range 4 {
		relaytest.WantRefused(t, netip.AddrPortFrom(relaytest.Gateway, r.First+uint16(i)))
	}
	held[4].Close()
	p := pass(t, ps, passthroughTo(r))
	if l, err := net.Listen("tcp", netip.AddrPortFrom(relaytest.Gateway, r.Last).String()); err == nil {
		l.Close()
		t.Error("another program can listen at a port of the passthrough")
	}
	p.Close()
}

// TestPassthroughDisputed has one client's ports lead to two servers, and as two addresses.
func TestPassthroughDisputed(t *testing.T) {
	r := relaytest.FreePorts(t, 4)
	ps := newPassthroughs(t, nil)
	p := pass(t, ps, passthroughTo(forward.PortRange{First: r.First + 2, Last: r.Last}))
	for _, change := range []func(*pinhole.Passthrough){
		func(p *pinhole.Passthrough) { p.Target = relaytest.UnexpectedPeer },
		func(p *pinhole.Passthrough) { p.SourceIP = relaytest.UnexpectedPeer },
	} {
		other := passthroughTo(r)
		change(&other)
		_, err := ps.Open(other)
		port := fmt.Sprintf("port %d", r.First+2)
		wantError(t, err, port+" is forwarded to "+relaytest.Server.String(), port, "of their own")
		relaytest.WantRefused(t, netip.AddrPortFrom(relaytest.Gateway, r.First))
		p.Close()
		pass(t, ps, other).Close()
		p = pass(t, ps, passthroughTo(forward.PortRange{First: r.First + 2, Last: r.Last}))
	}
}

func TestPassthroughRefuses(t *testing.T) {
	ps := newPassthroughs(t, nil)
	for _, tt := range []struct {
		name   string
		change func(*pinhole.Passthrough)
		want   string
	}{
		{"no client", func(p *pinhole.Passthrough) { p.From = netip.Addr{} },
			"missing the address that connects"},
		{"everywhere", func(p *pinhole.Passthrough) { p.Listen = netip.IPv4Unspecified() },
			"missing the gateway's address"},
		{"two families", func(p *pinhole.Passthrough) { p.From = relaytest.Loopback6 },
			"differ in address family"},
		{"nowhere", func(p *pinhole.Passthrough) { p.Target = netip.Addr{} }, "not a usable target"},
		{"itself", func(p *pinhole.Passthrough) { p.Target = p.Listen }, "the gateway's own address"},
		{"no ports", func(p *pinhole.Passthrough) { p.Ports = forward.PortRange{} }, "not a usable target"},
		{"backwards", func(p *pinhole.Passthrough) { p.Ports = forward.PortRange{First: 3000, Last: 2000} },
			"not a valid range"},
		{"services", func(p *pinhole.Passthrough) { p.Ports.First = 1023 }, "port 1023 is below 1024"},
		{"all ports", func(p *pinhole.Passthrough) { p.Ports = forward.AllPorts }, "below 1024"},
		{"one too many", func(p *pinhole.Passthrough) { p.Ports.Last++ }, "1025 ports are more than 1024"},
		{"the last", func(p *pinhole.Passthrough) {
			p.Ports = forward.PortRange{First: 60000,
				Last: 65535}
		}, "5536 ports are more"},
		{"not our address", func(p *pinhole.Passthrough) { p.Listen = netip.MustParseAddr("192.0.2.1") },
			"port 2000: bind: cannot assign"},
	} {
		p := passthroughTo(forward.PortRange{First: 2000, Last: 2000 + forward.MaxRelayedPorts - 1})
		if err := check(p); err != nil {
			t.Fatal(err)
		}
		tt.change(&p)
		_, err := ps.Open(p)
		t.Run(tt.name, func(t *testing.T) { wantError(t, err, tt.want, "the", "") })
	}
	wide := passthroughTo(forward.PortRange{First: 2000, Last: 4000})
	_, err := ps.Open(wide)
	wantError(t, err, "2001 ports", "more ports",
		"run as root or with CAP_NET_ADMIN so that the kernel carries it, or name a smaller range")
	wide.From, wide.Listen = relaytest.Loopback6, relaytest.Loopback6
	if _, err := ps.Open(wide); strings.Contains(err.(*Error).Remedy(), "CAP_NET_ADMIN") {
		t.Errorf("the kernel cannot carry %s, and the remedy is %q", wide, err.(*Error).Remedy())
	}
}

// sockets returns how many sockets this process has open.
func sockets(t *testing.T) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

func TestPassthroughLeavesNothing(t *testing.T) {
	r, ls := ranged(t, relaytest.Server, 64)
	ps := newPassthroughs(t, nil)
	before := sockets(t)
	for i := range 5 {
		p := pass(t, ps, passthroughTo(r))
		if got := sockets(t) - before; got != 64 {
			t.Errorf("an open passthrough of 64 ports has %d sockets", got)
		}
		c, s := through(t, relaytest.Peer, netip.AddrPortFrom(relaytest.Gateway, r.Last), ls[63])
		talk(t, c, s)
		p.Close()
		ps.await(t, int64(i+1))
		noGoroutines(t)
		if got := sockets(t); got != before {
			t.Errorf("got %d sockets after Close; want %d", got, before)
		}
	}
}

// TestPassthroughNoDescriptors takes the process every descriptor: who comes waits, and nothing spins.
func TestPassthroughNoDescriptors(t *testing.T) {
	r, ls := ranged(t, relaytest.Server, 2)
	ps := newPassthroughs(t, nil)
	p := pass(t, ps, passthroughTo(forward.PortRange{First: r.First, Last: r.First}))
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	client := os.NewFile(uintptr(fd), "client")
	defer client.Close()
	if err := unix.Bind(fd, sockaddr4(netip.AddrPortFrom(relaytest.Peer, 0))); err != nil {
		t.Fatal(err)
	}
	allow := withoutDescriptors(t)
	defer allow()
	if err := unix.Connect(fd, sockaddr4(netip.AddrPortFrom(relaytest.Gateway, r.First))); err != nil {
		t.Fatal(err)
	}
	relaytest.Await(t, func() bool { return ps.acceptErrors.Load() >= 4 },
		func() string { return "no accept fails" })
	if _, err = ps.Open(passthroughTo(forward.PortRange{First: r.Last, Last: r.Last})); err == nil {
		t.Error("a passthrough opens without a descriptor")
	} else {
		wantError(t, err, fmt.Sprintf("port %d: ", r.Last), "out of room", "LimitNOFILE")
	}
	allow()
	srv := relaytest.Accept(t, ls[0]) // who waited comes in
	if _, err := srv.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Read(fd, make([]byte, 1)); n != 1 {
		t.Errorf("got %d bytes, %v; want 1", n, err)
	}
	if got := ps.acceptErrors.Load(); got > 50 {
		t.Errorf("accept failed %d times; want a pause in between", got)
	}
	p.Close()
}

// withoutDescriptors has the process get no new ones until allow is called.
func withoutDescriptors(t *testing.T) (allow func()) {
	t.Helper()
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: was.Max}, nil); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &was, nil); err != nil {
			t.Error(err)
		}
	}
}

// sockaddr4 is an IPv4 address and port as system calls want it.
func sockaddr4(a netip.AddrPort) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
}
