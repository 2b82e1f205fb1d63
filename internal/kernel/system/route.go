package system

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"ftpgate/internal/kernel/netlink"
)

// Route is the way that packets from this namespace take to an address.
type Route struct {
	Interface string     // through which they leave
	Gateway   netip.Addr // the next hop; not valid: the address is on the link
	Source    netip.Addr // the source address of connections from here; not valid: unknown
	MTU       int        // the largest packet in bytes, as far as the path is known
	Local     bool       // the address is this host's own
	Problem   string     // why there is no route; all other fields are zero then
}

// RouteTo asks the kernel for the route of this host's own connections to an address. It sends no packet and
// needs no privilege. If there is no route, the error is nil and Route.Problem says why.
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

// routeProblems are the errors that the kernel answers instead of a route (fib_props in
// net/ipv4/fib_semantics.c and ip6_rt_type_to_error in net/ipv6/route.c).
var routeProblems = map[unix.Errno]string{
	unix.ENETUNREACH:  "there is no route, not even a default one",
	unix.EHOSTUNREACH: routeTypes[unix.RTN_UNREACHABLE],
	unix.EACCES:       routeTypes[unix.RTN_PROHIBIT],
	unix.EINVAL:       routeTypes[unix.RTN_BLACKHOLE],
	unix.EAFNOSUPPORT: "the kernel does not know this address family",
	unix.EOPNOTSUPP:   "the kernel does not know this address family",
}

// routeTypes are the types of routes that lead nowhere (rtm_type). IPv6 answers with such a route.
var routeTypes = map[byte]string{
	unix.RTN_UNREACHABLE: "a route of type unreachable forbids it",
	unix.RTN_PROHIBIT:    "a route of type prohibit forbids it",
	unix.RTN_BLACKHOLE:   "a route of type blackhole forbids it",
}

// askRoute sends RTM_GETROUTE (rtnetlink(7)) and returns the kernel's answer, which is one message.
func askRoute(to netip.Addr) (answer []byte, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	if err := unix.Sendto(fd, routeRequest(to), 0, kernel); err != nil {
		return nil, os.NewSyscallError("sendto", err)
	}
	// The kernel answers before sendto returns.
	buffer := make([]byte, os.Getpagesize())
	n, _, err := unix.Recvfrom(fd, buffer, unix.MSG_DONTWAIT)
	if err != nil {
		return nil, os.NewSyscallError("recvfrom", err)
	}
	return buffer[:n], nil
}

// routeRequest returns a message with an rtmsg and the destination.
func routeRequest(to netip.Addr) []byte {
	family := byte(unix.AF_INET)
	if to.Is6() {
		family = unix.AF_INET6
	}
	var b netlink.Buffer
	start := b.BeginMessage(netlink.Header{Type: unix.RTM_GETROUTE, Flags: unix.NLM_F_REQUEST})
	rtmsg := [unix.SizeofRtMsg]byte{0: family, 1: byte(to.BitLen())} // rtm_family, rtm_dst_len
	b = append(b, rtmsg[:]...)
	b.Addr(unix.RTA_DST, to)
	b.EndMessage(start)
	return b
}

// routeOf reads the kernel's answer.
func routeOf(answer []byte) (Route, error) {
	for h, body := range netlink.Messages(answer) {
		if number, ok := netlink.ErrorNumber(body); h.Type == unix.NLMSG_ERROR && ok {
			return Route{}, number
		}
		if h.Type != unix.RTM_NEWROUTE || len(body) < unix.SizeofRtMsg {
			return Route{}, fmt.Errorf("answer of type %d: %w", h.Type, unix.EBADMSG)
		}
		return parseRoute(body)
	}
	return Route{}, fmt.Errorf("answer of %d bytes: %w", len(answer), unix.EBADMSG)
}

// parseRoute reads an rtmsg and its attributes.
func parseRoute(body []byte) (Route, error) {
	kind := body[7] // rtm_type
	if problem := routeTypes[kind]; problem != "" {
		return Route{Problem: problem}, nil
	}
	r := Route{Local: kind == unix.RTN_LOCAL}
	attributes := body[unix.SizeofRtMsg:]
	for typ, value := range netlink.Attributes(attributes) {
		switch typ {
		case unix.RTA_OIF:
			if err := r.setInterface(value); err != nil {
				return Route{}, err
			}
		case unix.RTA_GATEWAY:
			r.Gateway, _ = netip.AddrFromSlice(value)
		case unix.RTA_VIA: // a next hop of the other family, after two bytes for the family
			if len(value) > 2 {
				r.Gateway, _ = netip.AddrFromSlice(value[2:])
			}
		case unix.RTA_PREFSRC:
			r.Source, _ = netip.AddrFromSlice(value)
		}
	}
	if mtu := netlink.Find(attributes, unix.RTA_METRICS, unix.RTAX_MTU); len(mtu) == 4 {
		if n := binary.NativeEndian.Uint32(mtu); n > 0 {
			r.MTU = int(n)
		}
	}
	return r, nil
}

// setInterface sets the interface and its MTU, which is valid if the route has none of its own.
func (r *Route) setInterface(index []byte) error {
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
