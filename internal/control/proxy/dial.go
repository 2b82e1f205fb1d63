package proxy

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
)

// attemptDelay is when the next address is tried while the one before is still silent (RFC 8305
// section 5 recommends 250 ms).
const attemptDelay = 250 * time.Millisecond

// errNotTried is said of the addresses whose turn did not come.
var errNotTried = errors.New("not tried: the time was up")

// dialFunc connects to one address.
type dialFunc func(ctx context.Context, to netip.AddrPort) (net.Conn, error)

// dialTCP connects with the kernel's choice of our address and port, and keep-alive on. The port may be
// listened at all the same (SO_REUSEADDR): it may lie among those of a passage, at the same address.
func dialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
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
		return nil, err // and not a connection that is a nil pointer
	}
	return c, nil
}

// unreachable tells of every address of a server that was tried, and why it was not reached.
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

// cause takes the address off an error of package net: it is named already.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// addresses returns where a forward's server may be reached, in the order in which to try: first the
// client's own family, so that the kernel can carry data, then the families in turn, each in the
// resolver's order (RFC 8305 section 4).
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

// dialFirst connects to the first address that answers. The next one is tried attemptDelay after the
// one before, or at once where that has failed (RFC 8305 section 5); the others are called off. The
// error is an unreachable. It returns when every attempt has ended.
func dialFirst(ctx context.Context, dial dialFunc, to []netip.AddrPort) (net.Conn, error) {
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
	turn := time.NewTimer(0)
	defer turn.Stop()
	next, running := 0, 0
	for running > 0 || won == nil && next < len(to) && ctx.Err() == nil {
		start := turn.C
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
			turn.Reset(attemptDelay)
		case a := <-attempts:
			running--
			switch {
			case a.err != nil:
				failed[a.at].err = a.err
				turn.Reset(0)
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
