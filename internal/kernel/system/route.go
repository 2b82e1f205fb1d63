package system

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
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
	routes, err := netlink.RouteGet(to.AsSlice())
	if number, ok := errors.AsType[unix.Errno](err); ok && routeProblems[number] != "" {
		return Route{Problem: routeProblems[number]}, nil
	}
	if err == nil && len(routes) != 1 {
		err = fmt.Errorf("%d routes in the answer: %w", len(routes), unix.EBADMSG)
	}
	if err != nil {
		return Route{}, fmt.Errorf("system: route to %s: %w", to, err)
	}
	r, err := routeOf(routes[0])
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
var routeTypes = map[int]string{
	unix.RTN_UNREACHABLE: "a route of type unreachable forbids it",
	unix.RTN_PROHIBIT:    "a route of type prohibit forbids it",
	unix.RTN_BLACKHOLE:   "a route of type blackhole forbids it",
}

// routeOf reads the kernel's answer (rtnetlink(7)).
func routeOf(answer netlink.Route) (Route, error) {
	if problem := routeTypes[answer.Type]; problem != "" {
		return Route{Problem: problem}, nil
	}
	link, err := net.InterfaceByIndex(answer.LinkIndex)
	if err != nil {
		return Route{}, err
	}
	r := Route{Interface: link.Name, MTU: cmp.Or(answer.MTU, link.MTU), Local: answer.Type == unix.RTN_LOCAL}
	r.Source, _ = netip.AddrFromSlice(answer.Src)
	r.Gateway, _ = netip.AddrFromSlice(answer.Gw)
	if via, ok := answer.Via.(*netlink.Via); ok { // a next hop of the other family
		r.Gateway, _ = netip.AddrFromSlice(via.Addr)
	}
	return r, nil
}
