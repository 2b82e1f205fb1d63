package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"ftpgate/internal/kernel/system"
)

// ShowSource makes the next connection from an address and port of the gateway to a target come from another
// address. The caller calls forget once the connection is established, or is not.
type ShowSource func(own, target netip.AddrPort, source netip.Addr) (forget func(), err error)

// DialAs returns a function that connects as DialTCP does, but from an address that is not the gateway's: the
// server's packets to that address must come through the gateway.
func DialAs(source netip.Addr, show ShowSource) DialFunc {
	return func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		if source.Is4() != to.Addr().Is4() {
			return nil, fmt.Errorf("the server cannot see the client's address %s: "+
				"one of them has IPv4 and the other IPv6", source)
		}
		if show == nil {
			return nil, errors.New("ftpgate may not change the kernel's tables")
		}
		own, err := ownAddress(to)
		if err != nil {
			return nil, err
		}
		var forget func()
		d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
			var inner error
			err := raw.Control(func(fd uintptr) { forget, inner = bind(int(fd), own, to, source, show) })
			return cmp.Or(err, inner)
		}}
		c, err := d.DialContext(ctx, "tcp", to.String()) // DialTCP would bind once more
		if forget != nil {
			forget()
		}
		return c, err
	}
}

// ownAddress returns the gateway's address towards a server. It sends nothing.
func ownAddress(to netip.AddrPort) (netip.Addr, error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// bind binds a socket to the gateway's own address and a port that the kernel chooses, and makes its
// connection come from another address.
func bind(fd int, own netip.Addr, to netip.AddrPort, source netip.Addr, show ShowSource) (func(), error) {
	bound, err := system.Bind(fd, netip.AddrPortFrom(own, 0))
	if err != nil {
		return nil, err
	}
	return show(bound, to, source)
}
