package upstream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ftpgate/internal/core/forward"
)

func addrs(list string) []netip.Addr {
	var out []netip.Addr
	for a := range strings.FieldsSeq(list) {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// The client's own family first, then in turn (RFC 8305 section 4).
func TestAddresses(t *testing.T) {
	for name, tt := range map[string]struct {
		servers string
		f       forward.Resolved
		client  string
		want    string
	}{
		"IPv4 client": {"2001:db8::1 2001:db8::2 2001:db8::3 203.0.113.1 203.0.113.2", forward.Resolved{},
			"192.168.5.1",
			"203.0.113.1:21 [2001:db8::1]:21 203.0.113.2:21 [2001:db8::2]:21 [2001:db8::3]:21"},
		"IPv6 client": {"203.0.113.1 203.0.113.2 2001:db8::1", forward.Resolved{}, "2001:db8:5::1",
			"[2001:db8::1]:21 203.0.113.1:21 203.0.113.2:21"},
		"one of each": {"", forward.Resolved{Server4: addrs("203.0.113.1")[0],
			Server6: addrs("2001:db8::1")[0]}, "2001:db8:5::1",
			"[2001:db8::1]:21 203.0.113.1:21"},
		"one":  {"", forward.Resolved{Server4: addrs("203.0.113.1")[0]}, "2001:db8:5::1", "203.0.113.1:21"},
		"none": {"", forward.Resolved{}, "2001:db8:5::1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			tt.f.Servers, tt.f.Server.Port = addrs(tt.servers), 21
			var got []string
			for _, a := range addresses(tt.f, netip.MustParseAddr(tt.client)) {
				got = append(got, a.String())
			}
			if g := strings.Join(got, " "); g != tt.want {
				t.Errorf("got %q; want %q", g, tt.want)
			}
		})
	}
}

// behaviour is what an address does: answer after a time, or fail.
type behaviour struct {
	after time.Duration
	err   error
}

// fakeNet answers dials as the test sets it, and records when each began and its connections.
type fakeNet struct {
	mu    sync.Mutex
	began time.Time
	is    map[string]behaviour
	dials []string
	conns []*fakeConn
}

type fakeConn struct {
	net.Conn
	to     string
	closed bool
}

func (c *fakeConn) Close() error {
	c.closed = true
	return nil
}

func (n *fakeNet) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	host := to.Addr().String()
	n.mu.Lock()
	n.dials = append(n.dials, fmt.Sprintf("%s@%s", host, time.Since(n.began)))
	b := n.is[host]
	n.mu.Unlock()
	select {
	case <-time.After(b.after):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if b.err != nil {
		return nil, b.err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	c := &fakeConn{to: host}
	n.conns = append(n.conns, c)
	return c, nil
}

// The next attempt comes 250 ms after the one before or at once when that has failed; the first that
// connects wins, and the others are closed (RFC 8305 section 5).
func TestDialFirst(t *testing.T) {
	refused := errors.New("refused")
	for name, tt := range map[string]struct {
		is    map[string]behaviour
		dials string
		won   string
		took  time.Duration
	}{
		"the first": {
			map[string]behaviour{"10.0.0.1": {after: 100 * time.Millisecond}},
			"10.0.0.1@0s", "10.0.0.1", 100 * time.Millisecond,
		},
		"a silent one": {
			map[string]behaviour{"10.0.0.1": {after: time.Hour}, "10.0.0.2": {after: 20 * time.Millisecond}},
			"10.0.0.1@0s 10.0.0.2@250ms", "10.0.0.2", 270 * time.Millisecond,
		},
		"one that refuses": {
			map[string]behaviour{"10.0.0.1": {10 * time.Millisecond, refused},
				"10.0.0.2": {after: 20 * time.Millisecond}},
			"10.0.0.1@0s 10.0.0.2@10ms", "10.0.0.2", 30 * time.Millisecond,
		},
		"a slow one wins yet": {
			map[string]behaviour{"10.0.0.1": {after: 400 * time.Millisecond},
				"10.0.0.2": {after: time.Hour}, "10.0.0.3": {after: time.Hour}},
			"10.0.0.1@0s 10.0.0.2@250ms", "10.0.0.1", 400 * time.Millisecond,
		},
		"two at once": {
			map[string]behaviour{"10.0.0.1": {after: 300 * time.Millisecond},
				"10.0.0.2": {after: 50 * time.Millisecond}},
			"10.0.0.1@0s 10.0.0.2@250ms", "10.0.0.1 or 10.0.0.2", 300 * time.Millisecond,
		},
		"none": {
			map[string]behaviour{"10.0.0.1": {0, refused}, "10.0.0.2": {after: time.Hour},
				"10.0.0.3": {0, refused}},
			"10.0.0.1@0s 10.0.0.2@0s 10.0.0.3@250ms", "", 10 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &fakeNet{began: time.Now(), is: tt.is}
				won := n.dialAll(t)
				if took := time.Since(n.began); took != tt.took {
					t.Errorf("took %s; want %s", took, tt.took)
				}
				if got := strings.Join(n.dials, " "); got != tt.dials {
					t.Errorf("got dials %q; want %q", got, tt.dials)
				}
				if (won == "") != (tt.won == "") || !strings.Contains(tt.won, won) {
					t.Errorf("got %q; want %q", won, tt.won)
				}
			})
		})
	}
}

// dialAll dials all addresses of the net in order for 10 seconds and returns which one won; the others
// are to be closed.
func (n *fakeNet) dialAll(t *testing.T) (won string) {
	t.Helper()
	var to []netip.AddrPort
	for _, host := range slices.Sorted(maps.Keys(n.is)) {
		to = append(to, netip.AddrPortFrom(netip.MustParseAddr(host), 21))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := dialFirst(ctx, n.dial, to)
	if (c == nil) == (err == nil) {
		t.Errorf("got %v, error %v; want one of them", c, err)
	}
	for _, f := range n.conns {
		if f.closed == (net.Conn(f) == c) {
			t.Errorf("connection to %s: closed %t", f.to, f.closed)
		}
	}
	if c != nil {
		won = c.(*fakeConn).to
	}
	return won
}

// The error names every address and why.
func TestDialFirstSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNet{is: map[string]behaviour{
			"10.0.0.1": {0, &net.OpError{Op: "dial", Err: errors.New("connection refused")}},
			"10.0.0.2": {after: time.Hour},
			"10.0.0.3": {after: time.Hour},
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := dialFirst(ctx, n.dial, []netip.AddrPort{
			netip.MustParseAddrPort("10.0.0.1:21"),
			netip.MustParseAddrPort("10.0.0.2:21"),
			netip.MustParseAddrPort("10.0.0.3:21"),
		})
		want := "10.0.0.1:21: connection refused; 10.0.0.2:21: context deadline exceeded; " +
			"10.0.0.3:21: not tried: the time was up"
		if err == nil || err.Error() != want {
			t.Errorf("got %v; want %s", err, want)
		}
		if _, err := dialFirst(t.Context(), n.dial, nil); err == nil ||
			err.Error() != "the server's name has no address" {
			t.Errorf("no address: got %v", err)
		}
	})
}
