package conntrack_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/kernel/conntrack"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// deadline is how long a test waits for what must come.
const deadline = 30 * time.Second

// routerRules publish port 21 of the server as port 2121 of the gateway, with the kernel's ftp helper, and
// port 5000 as 5000. They masquerade.
const routerRules = `
table inet router {
	ct helper ftp { type "ftp" protocol tcp; l3proto inet; }
	chain helper {
		type filter hook prerouting priority mangle;
		ip daddr 192.168.5.2 tcp dport 2121 ct helper set "ftp"
	}
	chain prerouting {
		type nat hook prerouting priority dstnat;
		ip daddr 192.168.5.2 tcp dport 2121 dnat ip to 203.0.113.21:21
		ip daddr 192.168.5.2 tcp dport 5000 dnat ip to 203.0.113.21:5000
		ip6 daddr 2001:db8:5::2 tcp dport 5000 dnat ip6 to [2001:db8:113::21]:5000
	}
	chain postrouting {
		type nat hook postrouting priority srcnat;
		oifname "wan0" masquerade
	}
}`

// router returns a lab whose gateway has routerRules, accounting and events.
func router(t testing.TB) *lab.Lab {
	t.Helper()
	labtest.Need(t, "nft")
	l := labtest.New(t)
	for _, name := range []string{
		"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding",
		"net.netfilter.nf_conntrack_acct", "net.netfilter.nf_conntrack_events",
	} {
		sysctl(t, l.Gateway(), name, "1")
	}
	nft(t, l.Gateway(), routerRules)
	return l
}

func sysctl(t testing.TB, h *lab.Host, name, value string) {
	t.Helper()
	if err := h.WriteSysctl(name, value); err != nil {
		t.Fatal(err)
	}
}

func nft(t testing.TB, h *lab.Host, rules string) {
	t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewBufferString(rules), &out, &out
	if err := h.Run(cmd); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
}

func open(t testing.TB, h *lab.Host) *conntrack.Conn {
	t.Helper()
	return opened(t, h, conntrack.Open)
}

// opened opens something in the host's namespace, and closes it when the test ends.
func opened[T io.Closer](t testing.TB, h *lab.Host, open func() (T, error)) (c T) {
	t.Helper()
	if err := h.Do(func() (err error) { c, err = open(); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// watch runs a watcher in the host's namespace until the test ends.
func watch(t testing.TB, h *lab.Host, want netflow.Want,
	changes ...netflow.FlowChange) <-chan netflow.FlowEvent {
	t.Helper()
	w := opened(t, h, func() (*conntrack.Watcher, error) { return conntrack.Subscribe(changes...) })
	return run(t, w, want)
}

func run(t testing.TB, w *conntrack.Watcher, want netflow.Want) <-chan netflow.FlowEvent {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	events, ended := make(chan netflow.FlowEvent, 1<<16), make(chan error, 1)
	go func() { ended <- w.Run(ctx, want, func(e netflow.FlowEvent) { events <- e }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: got %v; want nil", err)
		}
	})
	return events
}

// await returns the next event for which is returns true.
func await(t testing.TB, events <-chan netflow.FlowEvent, what string,
	is func(netflow.FlowEvent) bool) netflow.FlowEvent {
	t.Helper()
	late := time.After(deadline)
	for {
		select {
		case e := <-events:
			if is(e) {
				return e
			}
		case <-late:
			t.Fatalf("no event came that says: %s", what)
		}
	}
}

// over returns a function that reports whether an event ends the flow with this original tuple.
func over(original netflow.Tuple) func(netflow.FlowEvent) bool {
	return func(e netflow.FlowEvent) bool { return e.Flow.Original == original && e.Flow.State.Over() }
}

// tupleOf returns the original tuple of a connection that was dialled.
func tupleOf(c net.Conn) netflow.Tuple {
	return netflow.Tuple{From: c.LocalAddr().(*net.TCPAddr).AddrPort(),
		To: c.RemoteAddr().(*net.TCPAddr).AddrPort()}
}

func dial(t testing.TB, h *lab.Host, address string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	c, err := h.Dial(ctx, "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	bounded(t, c)
	return c
}

func bounded(t testing.TB, c net.Conn) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatal(err)
	}
}

func listen(t testing.TB, h *lab.Host, address string) net.Listener {
	t.Helper()
	l, err := h.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// serve answers each connection until the test ends.
func serve(t testing.TB, l net.Listener, answer func(net.Conn) error) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			bounded(t, c)
			if err := errors.Join(answer(c), c.Close()); err != nil && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
}

// one looks up a single flow.
func one(t testing.TB, c *conntrack.Conn, original netflow.Tuple) netflow.Flow {
	t.Helper()
	flows, err := c.Get(nil, []netflow.Tuple{original})
	if err != nil {
		t.Fatal(err)
	}
	return flows[0]
}

func tuple(from, to string) netflow.Tuple {
	return netflow.Tuple{From: netip.MustParseAddrPort(from), To: netip.MustParseAddrPort(to)}
}
