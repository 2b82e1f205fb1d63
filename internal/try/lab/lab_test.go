package lab_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// exchange sends a line over TCP between two hosts, and returns each end's address as the other end sees it.
func exchange(t *testing.T, from, to *lab.Host, dst netip.Addr) (client, server netip.Addr) {
	t.Helper()
	l, err := to.Listen("tcp", netip.AddrPortFrom(dst, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := from.Dial(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(s, got); err != nil || string(got) != "hello" {
		t.Fatalf("got %q, %v; want %q", got, err, "hello")
	}
	return addrOf(s.RemoteAddr()), addrOf(c.RemoteAddr())
}

func addrOf(a net.Addr) netip.Addr { return netip.MustParseAddrPort(a.String()).Addr().Unmap() }

func TestLinks(t *testing.T) {
	l := labtest.New(t)
	tests := []struct {
		from, to *lab.Host
		src, dst netip.Addr
	}{
		{l.Client(), l.Gateway(), lab.ClientAddr4, lab.GatewayLAN4},
		{l.Client(), l.Gateway(), lab.ClientAddr6, lab.GatewayLAN6},
		{l.Gateway(), l.Client(), lab.GatewayLAN4, lab.ClientAddr4},
		{l.Gateway(), l.Client(), lab.GatewayLAN6, lab.ClientAddr6},
		{l.Gateway(), l.Server(), lab.GatewayWAN4, lab.ServerAddr4},
		{l.Gateway(), l.Server(), lab.GatewayWAN6, lab.ServerAddr6},
		{l.Server(), l.Gateway(), lab.ServerAddr4, lab.GatewayWAN4},
		{l.Server(), l.Gateway(), lab.ServerAddr6, lab.GatewayWAN6},
		{l.Server(), l.Server(), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.1")},
		{l.Client(), l.Client(), netip.IPv6Loopback(), netip.IPv6Loopback()},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s to %s", tt.src, tt.dst), func(t *testing.T) {
			src, dst := exchange(t, tt.from, tt.to, tt.dst)
			if src != tt.src || dst != tt.dst {
				t.Errorf("got %s -> %s; want %s -> %s", src, dst, tt.src, tt.dst)
			}
		})
	}
}

// TestNoRoute checks that no packet passes the gateway without translation.
func TestNoRoute(t *testing.T) {
	l := labtest.New(t)
	tests := []struct {
		from *lab.Host
		dst  netip.Addr
	}{
		{l.Client(), lab.ServerAddr4},
		{l.Client(), lab.ServerAddr6},
		{l.Client(), lab.GatewayWAN4},
		{l.Server(), lab.ClientAddr4},
		{l.Server(), lab.ClientAddr6},
		{l.Server(), lab.GatewayLAN6},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s to %s", tt.from.Name(), tt.dst), func(t *testing.T) {
			c, err := tt.from.Dial(t.Context(), "tcp", netip.AddrPortFrom(tt.dst, 21).String())
			if err == nil {
				c.Close()
			}
			if !errors.Is(err, syscall.ENETUNREACH) {
				t.Errorf("got %v; want %v", err, syscall.ENETUNREACH)
			}
		})
	}
}

func TestSysctl(t *testing.T) {
	l := labtest.New(t)
	const name = "net.ipv4.ip_forward"
	outside, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Gateway().WriteSysctl(name, "1"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		host *lab.Host
		want string
	}{{l.Client(), "0"}, {l.Gateway(), "1"}, {l.Server(), "0"}} {
		if got, err := tt.host.ReadSysctl(name); err != nil || got != tt.want {
			t.Errorf("%s: got %q, %v; want %q", tt.host.Name(), got, err, tt.want)
		}
	}
	if after, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); err != nil ||
		string(after) != string(outside) {
		t.Errorf("outside: got %q, %v; want %q", after, err, outside)
	}
}

func TestSysctlRefused(t *testing.T) {
	h := labtest.Host(t)
	for _, name := range []string{"kernel.hostname", "", "net", "net/../kernel/hostname",
		"/net/ipv4/ip_forward", "net..ipv4.ip_forward"} {
		if err := h.WriteSysctl(name, "x"); err == nil ||
			!strings.Contains(err.Error(), "only those below net") {
			t.Errorf("%q: got %v; want a refusal", name, err)
		}
	}
	if err := h.WriteSysctl("net.ipv4.no_such", "1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v; want %v", err, os.ErrNotExist)
	}
	if _, err := h.ReadSysctl("net/ipv4/conf/lo/forwarding"); err != nil {
		t.Error(err)
	}
}

func TestRunAndOutput(t *testing.T) {
	l := labtest.New(t)
	want := namespace(t, l.Server())
	got, err := l.Server().Output(t.Context(), "readlink", "/proc/self/ns/net")
	if err != nil || strings.TrimSpace(string(got)) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	_, err = l.Server().Output(t.Context(), "sh", "-c", "echo out; echo the reason >&2; exit 7")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 || !strings.Contains(err.Error(), "the reason") {
		t.Errorf("got %v; want exit status 7 with the reason", err)
	}
	if err := l.Client().Start(exec.Command("/no/such/program")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v; want %v", err, os.ErrNotExist)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "sleep", "1000")
	if err := l.Client().Start(cmd); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := cmd.Wait(); err == nil {
		t.Error("a cancelled command ended well")
	}
}

// namespace returns the identity of a host's network namespace, like net:[4026532000].
func namespace(t *testing.T, h *lab.Host) string {
	t.Helper()
	var ns string
	if err := h.Do(func() (err error) {
		ns, err = os.Readlink("/proc/thread-self/ns/net")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return ns
}

func TestHostByName(t *testing.T) {
	l := labtest.New(t)
	for name, want := range map[string]*lab.Host{"client": l.Client(), "gateway": l.Gateway(),
		"server": l.Server()} {
		if got, err := l.Host(name); err != nil || got != want || got.Name() != name {
			t.Errorf("%s: got %v, %v; want %v", name, got, err, want)
		}
	}
	_, err := l.Host("gate")
	if want := `lab: no host "gate": there are client, gateway and server`; err == nil ||
		err.Error() != want {
		t.Errorf("got %v; want %s", err, want)
	}
}

func TestLiteralAddressesOnly(t *testing.T) {
	h := labtest.Host(t)
	for _, address := range []string{"localhost:21", ":21", "127.0.0.1"} {
		if c, err := h.Dial(t.Context(), "tcp", address); err == nil {
			c.Close()
			t.Errorf("dial %q: got no error", address)
		}
	}
	if l, err := h.Listen("unix", "/run/x"); err == nil {
		l.Close()
		t.Error("listen on a unix socket: got no error")
	}
	l, err := h.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestAddAddress(t *testing.T) {
	l := labtest.New(t)
	second := netip.MustParsePrefix("192.168.5.9/24")
	if err := l.Gateway().AddAddress(lab.GatewayLANLink, second); err != nil {
		t.Fatal(err)
	}
	if src, _ := exchange(t, l.Client(), l.Gateway(), second.Addr()); src != lab.ClientAddr4 {
		t.Errorf("got %s; want %s", src, lab.ClientAddr4)
	}
	if err := l.Gateway().AddAddress(lab.GatewayLANLink, second); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("again: got %v; want %v", err, syscall.EEXIST)
	}
	if err := l.Gateway().AddAddress("eth7", second); err == nil || !strings.Contains(err.Error(), "eth7") {
		t.Errorf("got %v; want an error that names eth7", err)
	}
}

// TestParallel runs many goroutines through all hosts at once. It checks that each is always in the right
// namespace, and that no thread stays in a wrong one.
func TestParallel(t *testing.T) {
	l := labtest.New(t)
	home := threads(t)
	hosts := []*lab.Host{l.Client(), l.Gateway(), l.Server()}
	want := make([]string, len(hosts))
	for i, h := range hosts {
		want[i] = namespace(t, h)
	}
	var wg sync.WaitGroup
	for n := range 60 {
		wg.Go(func() {
			for i := range 20 {
				k := (n + i) % len(hosts)
				err := hosts[k].Do(func() error {
					inner := (k + 1) % len(hosts)
					if err := hosts[inner].Do(func() error { return isHere(want[inner]) }); err != nil {
						return err
					}
					return isHere(want[k])
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := threads(t); !slices.Equal(got, home) {
		t.Errorf("namespaces of this process's threads: got %v; want %v", got, home)
	}
}

func isHere(want string) error {
	got, err := os.Readlink("/proc/thread-self/ns/net")
	if err == nil && got != want {
		err = fmt.Errorf("got %s; want %s", got, want)
	}
	return err
}

// threads returns the network namespaces of this process's threads, without duplicates.
func threads(t *testing.T) []string {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, task := range tasks {
		// A thread may end between the listing and this.
		if ns, err := os.Readlink("/proc/self/task/" + task.Name() + "/ns/net"); err == nil &&
			!slices.Contains(all, ns) {
			all = append(all, ns)
		}
	}
	return all
}

// TestGoexit checks that t.FailNow inside Do ends the test's goroutine, and not only that of the thread.
func TestGoexit(t *testing.T) {
	h := labtest.Host(t)
	home := threads(t)
	passed := make(chan bool, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() { passed <- false }()
		_ = h.Do(func() error { runtime.Goexit(); return nil })
		passed <- true
	})
	wg.Wait()
	if <-passed {
		t.Error("the caller of Do went on after a Goexit in it")
	}
	if got := threads(t); !slices.Equal(got, home) {
		t.Errorf("namespaces of this process's threads: got %v; want %v", got, home)
	}
}

// TestCloseLeavesNothing checks that no file descriptor or namespace is left, and that a closed host fails.
func TestCloseLeavesNothing(t *testing.T) {
	use := func() *lab.Lab {
		l, err := lab.New()
		if err != nil {
			t.Fatal(err)
		}
		exchange(t, l.Client(), l.Gateway(), lab.GatewayLAN4)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return l
	}
	labtest.Host(t) // skips where there are no labs
	use()           // the runtime's own descriptors are open from here on
	before, home := descriptors(t), threads(t)
	for range 5 {
		l := use()
		if err := l.Client().Do(func() error { return nil }); !errors.Is(err, os.ErrClosed) {
			t.Errorf("after Close: got %v; want %v", err, os.ErrClosed)
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("got %d descriptors; want %d", after, before)
	}
	if got := threads(t); !slices.Equal(got, home) {
		t.Errorf("namespaces of this process's threads: got %v; want %v", got, home)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}
