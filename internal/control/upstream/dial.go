// Package upstream reaches the server of a forward for a session: it connects to one of the server's
// addresses and, if the forward asks for it, begins TLS before the client's dialogue.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/proxyprotocol"
)

// attemptDelay is when the next address is tried while the one before is still silent (RFC 8305
// section 5 recommends 250 ms).
const attemptDelay = 250 * time.Millisecond

// errNotTried is the error for an address that was not tried.
var errNotTried = errors.New("not tried: the time was up")

// DialFunc connects to one address. The connection is a *net.TCPConn.
type DialFunc func(ctx context.Context, to netip.AddrPort) (net.Conn, error)

// Dial connects to the first address of a forward's server that answers, within the forward's time limit, and
// sends the header if the forward has one: it names the client, or nobody for a connection of the gateway's
// own. Addresses of family's are tried first. The error names every address, and why it was not reached. A
// nil dial is DialTCP.
func Dial(ctx context.Context, dial DialFunc, f forward.Resolved, family netip.Addr,
	header proxyprotocol.Header) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, f.Limits.OrDefault().Dial)
	defer cancel()
	if dial == nil {
		dial = DialTCP
	}
	c, err := dialFirst(ctx, dial, addresses(f, family))
	if err != nil {
		return nil, err
	}
	if first := proxyprotocol.Append(nil, f.SendProxyProtocol, header); len(first) > 0 {
		if _, err := c.Write(first); err != nil { // it fits into the send buffer: Write does not wait
			c.Close()
			return nil, fmt.Errorf("PROXY protocol header: %w", err)
		}
	}
	return c.(*net.TCPConn), nil
}

// DialTCP connects with keep-alive on; the kernel chooses our address and port. A listener may still bind
// that port (SO_REUSEADDR): it may be one of a passthrough's ports, at the same address.
func DialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var inner error
		if err := raw.Control(func(fd uintptr) {
			inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		}); err != nil {
			return err
		}
		return inner
	}}
	c, err := d.DialTCP(ctx, "tcp", netip.AddrPort{}, to)
	if err != nil {
		return nil, err // not a nil pointer in an interface
	}
	return c, nil
}

// unreachable is the error for a server: each of its addresses, and why it was not reached.
type unreachable []failure

type failure struct {
	to  netip.AddrPort
	err error
}

func (u unreachable) Error() string {
	if len(u) == 0 {
		return "the server's name has no address"
	}
	var b strings.Builder
	for i, f := range u {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s: %v", f.to, cause(f.err))
	}
	return b.String()
}

// cause removes the address from an error of package net: unreachable names it already.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// addresses returns the addresses of a forward's server in the order in which to try them: first the client's
// own family, so that the kernel can carry data, then the families in turn, each in the resolver's order
// (RFC 8305 section 4).
func addresses(f forward.Resolved, client netip.Addr) []netip.AddrPort {
	all := f.Servers
	if len(all) == 0 {
		all = []netip.Addr{f.Server4, f.Server6}
	}
	var own, other []netip.AddrPort
	for _, a := range all {
		switch to := netip.AddrPortFrom(a.Unmap(), f.Server.Port); {
		case !a.IsValid():
		case to.Addr().Is4() == client.Is4():
			own = append(own, to)
		default:
			other = append(other, to)
		}
	}
	var order []netip.AddrPort
	for i := range max(len(own), len(other)) {
		if i < len(own) {
			order = append(order, own[i])
		}
		if i < len(other) {
			order = append(order, other[i])
		}
	}
	return slices.Clip(order)
}

// dialFirst connects to the first address that answers. It tries the next one attemptDelay after the one
// before, or at once if that failed (RFC 8305 section 5). The first success cancels the others. The error is
// an unreachable. dialFirst returns after every attempt has ended.
func dialFirst(ctx context.Context, dial DialFunc, to []netip.AddrPort) (net.Conn, error) {
	if len(to) == 1 {
		c, err := dial(ctx, to[0])
		if err != nil {
			return nil, unreachable{{to[0], err}}
		}
		return c, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type attempt struct {
		at   int
		conn net.Conn
		err  error
	}
	attempts := make(chan attempt)
	failed := make(unreachable, len(to))
	for i, a := range to {
		failed[i] = failure{a, errNotTried}
	}
	var won net.Conn
	nextAttempt := time.NewTimer(0)
	defer nextAttempt.Stop()
	next, running := 0, 0
	for running > 0 || won == nil && next < len(to) && ctx.Err() == nil {
		start := nextAttempt.C
		if won != nil || next == len(to) {
			start = nil
		}
		select {
		case <-start:
			go func(i int) {
				c, err := dial(ctx, to[i])
				attempts <- attempt{i, c, err}
			}(next)
			next++
			running++
			nextAttempt.Reset(attemptDelay)
		case a := <-attempts:
			running--
			switch {
			case a.err != nil:
				failed[a.at].err = a.err
				nextAttempt.Reset(0)
			case won != nil:
				a.conn.Close()
			default:
				won = a.conn
				cancel()
			}
		}
	}
	if won == nil {
		return nil, failed
	}
	return won, nil
}
