package system

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
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
			if n, ok := a.(*net.IPNet); ok {
				links[i].Addrs = append(links[i].Addrs, prefixOf(n))
			}
		}
		links[i].Addrs = slices.DeleteFunc(links[i].Addrs, func(p netip.Prefix) bool { return !p.IsValid() })
	}
	return links, nil
}

// prefixOf returns an address with its prefix length. The result is not valid if n has no address.
func prefixOf(n *net.IPNet) netip.Prefix {
	addr, _ := netip.AddrFromSlice(n.IP)
	addr = addr.Unmap()
	ones, bits := n.Mask.Size()
	if !addr.IsValid() || bits == 0 {
		return netip.Prefix{}
	}
	if addr.Is4() && bits == 128 {
		ones -= 96
	}
	return netip.PrefixFrom(addr, ones)
}
