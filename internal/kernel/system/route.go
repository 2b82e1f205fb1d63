package system

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Route is how this namespace sends packets to an address, as they would leave right now.
type Route struct {
	Interface string     // by which they leave
	Gateway   netip.Addr // the next hop; not valid: the address is on the link
	Source    netip.Addr // the address that a connection from here has; not valid: not told
	MTU       int        // the largest packet in bytes, with what is known of the path
	Local     bool       // the address is this host's own
	Problem   string     // why there is no route; then nothing else is told
}

// RouteTo asks the kernel for the route to an address, for connections of this host's own. No packet is
// sent, and no privilege is needed. That there is none is no error, but the route's Problem.
func RouteTo(to netip.Addr) (Route, error) {
	if !to.IsValid() {
		return Route{}, errors.New("system: route: no address")
	}
	to = to.Unmap()
	answer, err := askRoute(to)
	if err != nil {
		return Route{}, fmt.Errorf("system: route to %s: %w", to, err)
	}
	r, err := routeOf(answer)
	if number, ok := errors.AsType[unix.Errno](err); ok && routeProblems[number] != "" {
		return Route{Problem: routeProblems[number]}, nil
	}
	if err != nil {
		return Route{}, fmt.Errorf("system: route to %s: %w", to, err)
	}
	return r, nil
}

// routeProblems are the kernel's answers instead of a route (fib_props in net/ipv4/fib_semantics.c and
// ip6_rt_type_to_error in net/ipv6/route.c).
var routeProblems = map[unix.Errno]string{
	unix.ENETUNREACH:  "there is no route, not even a default one",
	unix.EHOSTUNREACH: routeTypes[unix.RTN_UNREACHABLE],
	unix.EACCES:       routeTypes[unix.RTN_PROHIBIT],
	unix.EINVAL:       routeTypes[unix.RTN_BLACKHOLE],
	unix.EAFNOSUPPORT: "the kernel does not know this address family",
	unix.EOPNOTSUPP:   "the kernel does not know this address family",
}

// routeTypes are the routes that lead nowhere, by their rtm_type: IPv6 answers with them.
var routeTypes = map[byte]string{
	unix.RTN_UNREACHABLE: "a route of type unreachable forbids it",
	unix.RTN_PROHIBIT:    "a route of type prohibit forbids it",
	unix.RTN_BLACKHOLE:   "a route of type blackhole forbids it",
}

// askRoute sends RTM_GETROUTE (rtnetlink(7)) and returns the one message that the kernel answers with.
func askRoute(to netip.Addr) (answer []byte, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, routeQuestion(to), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("sendto", err)
	}
	// The kernel answers before sendto returns: there is nothing to wait for.
	buffer := make([]byte, os.Getpagesize())
	n, _, err := unix.Recvfrom(fd, buffer, unix.MSG_DONTWAIT)
	if err != nil {
		return nil, os.NewSyscallError("recvfrom", err)
	}
	return buffer[:n], nil
}

// routeQuestion is a netlink header, an rtmsg and the destination.
func routeQuestion(to netip.Addr) []byte {
	family, addr := byte(unix.AF_INET), to.AsSlice()
	if to.Is6() {
		family = unix.AF_INET6
	}
	const payload = unix.SizeofNlMsghdr + unix.SizeofRtMsg
	length := payload + unix.SizeofRtAttr + len(addr)
	q := make([]byte, length)
	binary.NativeEndian.PutUint32(q[0:], uint32(length))
	binary.NativeEndian.PutUint16(q[4:], unix.RTM_GETROUTE)
	binary.NativeEndian.PutUint16(q[6:], unix.NLM_F_REQUEST)
	q[unix.SizeofNlMsghdr] = family
	q[unix.SizeofNlMsghdr+1] = byte(to.BitLen()) // rtm_dst_len
	binary.NativeEndian.PutUint16(q[payload:], uint16(unix.SizeofRtAttr+len(addr)))
	binary.NativeEndian.PutUint16(q[payload+2:], unix.RTA_DST)
	copy(q[payload+unix.SizeofRtAttr:], addr)
	return q
}

// routeOf reads the kernel's answer.
func routeOf(answer []byte) (Route, error) {
	messages, err := syscall.ParseNetlinkMessage(answer)
	if err != nil || len(messages) == 0 {
		return Route{}, fmt.Errorf("answer of %d bytes: %w", len(answer), errors.Join(err, unix.EBADMSG))
	}
	m := messages[0]
	if m.Header.Type == unix.NLMSG_ERROR && len(m.Data) >= 4 {
		return Route{}, unix.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
	}
	if m.Header.Type != unix.RTM_NEWROUTE || len(m.Data) < unix.SizeofRtMsg {
		return Route{}, fmt.Errorf("answer of type %d: %w", m.Header.Type, unix.EBADMSG)
	}
	attributes, err := syscall.ParseNetlinkRouteAttr(&m)
	if err != nil {
		return Route{}, err
	}
	kind := m.Data[7] // rtm_type
	if problem := routeTypes[kind]; problem != "" {
		return Route{Problem: problem}, nil
	}
	r := Route{Local: kind == unix.RTN_LOCAL}
	for _, a := range attributes {
		switch a.Attr.Type {
		case unix.RTA_OIF:
			if err := r.leavesBy(a.Value); err != nil {
				return Route{}, err
			}
		case unix.RTA_GATEWAY:
			r.Gateway, _ = netip.AddrFromSlice(a.Value)
		case unix.RTA_VIA: // a next hop of the other family, behind the family's two bytes
			if len(a.Value) > 2 {
				r.Gateway, _ = netip.AddrFromSlice(a.Value[2:])
			}
		case unix.RTA_PREFSRC:
			r.Source, _ = netip.AddrFromSlice(a.Value)
		}
	}
	for _, a := range attributes {
		if mtu := metricOf(a, unix.RTAX_MTU); mtu > 0 {
			r.MTU = mtu
		}
	}
	return r, nil
}

// leavesBy takes in the interface, and its MTU, which holds where the route has no other.
func (r *Route) leavesBy(index []byte) error {
	if len(index) != 4 {
		return unix.EBADMSG
	}
	link, err := net.InterfaceByIndex(int(binary.NativeEndian.Uint32(index)))
	if err != nil {
		return err
	}
	r.Interface, r.MTU = link.Name, link.MTU
	return nil
}

// metricOf finds a metric in RTA_METRICS, which holds attributes of its own; 0: it has none.
func metricOf(a syscall.NetlinkRouteAttr, metric uint16) int {
	if a.Attr.Type != unix.RTA_METRICS {
		return 0
	}
	for rest := a.Value; len(rest) >= unix.SizeofRtAttr+4; {
		length, kind := int(binary.NativeEndian.Uint16(rest)), binary.NativeEndian.Uint16(rest[2:])
		if length < unix.SizeofRtAttr+4 {
			return 0
		}
		if kind == metric {
			return int(binary.NativeEndian.Uint32(rest[unix.SizeofRtAttr:]))
		}
		rest = rest[min((length+3)&^3, len(rest)):]
	}
	return 0
}
