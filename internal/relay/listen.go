package relay

import (
	"context"
	cryptorand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/dnat"
)

// backlog is how many connections may wait to be looked at. One is wanted; the others are
// strangers that are refused at once, and need no more room than that.
const backlog = 16

// listen opens a listener at addr and a port of the range, each free one as likely as the next. It
// tries every port once, so that it finds the last free one, and ends.
func (p *Path) listen(ctx context.Context, addr netip.Addr) (*net.TCPListener, error) {
	if p.Ports.IsEmpty() {
		l, err := listenAt(ctx, netip.AddrPortFrom(addr, 0))
		if errors.Is(err, unix.EADDRINUSE) {
			return nil, ErrNoPorts
		}
		return l, err
	}
	for port := range shuffled(p.Ports) {
		l, err := listenAt(ctx, netip.AddrPortFrom(addr, port))
		if errors.Is(err, unix.EADDRINUSE) {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			continue
		}
		return l, err
	}
	return nil, fmt.Errorf("%w of %s", ErrNoPorts, p.Ports)
}

// shuffled yields every port of r once, in an order that nobody can foretell. It is the shuffle of
// Fisher and Yates, of which only what is asked for is made: the first port costs the same for a
// range of any size.
func shuffled(r dnat.PortRange) iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		first := int(max(r.First, 1)) // port 0 is no port
		draw := rand.New(unforeseeable{})
		moved := map[int]int{} // what stands at an index, where it is not the index itself
		at := func(i int) int {
			if v, ok := moved[i]; ok {
				return v
			}
			return i
		}
		for left := int(r.Last) - first + 1; left > 0; left-- {
			i := draw.IntN(left)
			port := at(i)
			moved[i] = at(left - 1)
			if !yield(uint16(first + port)) {
				return
			}
		}
	}
}

// unforeseeable is a source of random numbers for a port that a third party must not guess
// (RFC 2577 section 5.2, "port stealing").
type unforeseeable struct{}

// Uint64 returns 64 bits of crypto/rand, which never fails.
func (unforeseeable) Uint64() uint64 {
	var b [8]byte
	cryptorand.Read(b[:])
	return binary.NativeEndian.Uint64(b[:])
}

// listenAt listens at exactly this address. Multipath TCP, which Go's listeners speak by default, is
// turned off: splice(2) and resets are those of plain TCP.
func listenAt(ctx context.Context, at netip.AddrPort) (*net.TCPListener, error) {
	config := net.ListenConfig{Control: inward}
	config.SetMultipathTCP(false)
	l, err := config.Listen(ctx, "tcp", at.String())
	if err != nil {
		return nil, err
	}
	tcp := l.(*net.TCPListener)
	raw, err := tcp.SyscallConn()
	if err == nil {
		// Go listens with the system's largest backlog. Listening once more changes it
		// (inet_listen in net/ipv4/af_inet.c).
		err = onSocket(raw, func(fd int) error { return unix.Listen(fd, backlog) })
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return tcp, nil
}

// inward prepares a socket that listens; what it accepts is like it.
func inward(_, _ string, raw syscall.RawConn) error { return onSocket(raw, abortive) }

// serve takes the pinhole's connection, connects it to the far end and carries data until the end.
func (p *Path) serve(t *Transfer, hole dnat.Pinhole) error {
	c, err := t.accept(hole.From, orDefault(p.WaitTime, DefaultWaitTime))
	if err != nil {
		return err
	}
	if !t.keep(From, c) {
		return ErrClosed
	}
	t.result.Connected = time.Now()
	close(t.connected)
	if err := p.reach(t.ctx, t, To, Leg{hole.As, hole.To}); err != nil {
		return err
	}
	t.splice()
	return nil
}

// accept waits for the one connection from peer. The listener is closed when it returns, so that
// nothing can come behind it: what still waited there is reset by the kernel.
func (t *Transfer) accept(peer netip.Addr, wait time.Duration) (*net.TCPConn, error) {
	defer t.listener.Close() // closed twice where Close was faster: no harm
	if err := t.listener.SetDeadline(t.result.Began.Add(wait)); err != nil {
		return nil, fmt.Errorf("wait for %s: %w", peer, err)
	}
	for {
		c, err := t.listener.AcceptTCP()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, fmt.Errorf("%w from %s in %s", ErrNobody, peer, wait)
		case err != nil:
			return nil, fmt.Errorf("wait for %s: %w", peer, err)
		case localAddrPort(c.RemoteAddr()).Addr() == peer:
			return c, nil
		}
		t.result.Strangers++
		c.Close() // a reset: see abortive
	}
}

// localAddrPort returns a socket's address, IPv4 as such.
func localAddrPort(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
