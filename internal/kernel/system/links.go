package system

import (
	"fmt"
	"net"
	"net/netip"
)

// Link is an interface of this namespace.
type Link struct {
	Name  string
	MTU   int // in bytes
	Up    bool
	Addrs []netip.Prefix // its addresses, with the prefix lengths of their subnets
}

// Links returns the interfaces of this namespace with their addresses, in the kernel's order.
func Links() ([]Link, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("system: list interfaces: %w", err)
	}
	links := make([]Link, len(interfaces))
	for i, in := range interfaces {
		links[i] = Link{Name: in.Name, MTU: in.MTU, Up: in.Flags&net.FlagUp != 0}
		addrs, err := in.Addrs()
		if err != nil {
			continue // it has just vanished
		}
		for _, a := range addrs {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				links[i].Addrs = append(links[i].Addrs, prefix)
			}
		}
	}
	return links, nil
}
