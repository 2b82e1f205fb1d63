package rule

import (
	"fmt"
	"math/big"
	"net/netip"
	"strconv"
	"strings"
)

// ParsePrefixes reads an address, a prefix, an address with a mask, or a range of addresses.
func ParsePrefixes(s string) ([]netip.Prefix, error) {
	if first, last, ok := strings.Cut(s, "-"); ok {
		a, err1 := netip.ParseAddr(first)
		b, err2 := netip.ParseAddr(last)
		if err1 == nil && err2 == nil {
			return Span(a, b)
		}
		return nil, fmt.Errorf("%q is no range of addresses", s)
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}, nil
	}
	host, mask, ok := strings.Cut(s, "/")
	if m, err := netip.ParseAddr(mask); ok && err == nil && m.Is4() {
		bits, contiguous := maskBits(m)
		if !contiguous {
			return nil, fmt.Errorf("the mask of %q is no prefix", s)
		}
		s = fmt.Sprintf("%s/%d", host, bits)
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return nil, fmt.Errorf("%q is no address and no prefix", s)
	}
	return []netip.Prefix{prefix.Masked()}, nil
}

func maskBits(m netip.Addr) (int, bool) {
	n := new(big.Int).SetBytes(m.AsSlice())
	bits := 32 - int(n.TrailingZeroBits())
	if n.Sign() == 0 {
		bits = 0
	}
	p, _ := m.Prefix(bits)
	all, _ := netip.MustParseAddr("255.255.255.255").Prefix(bits)
	return bits, p.Addr() == m && all.Addr() == m
}

// ParsePorts reads one port or two, which may be left out at an end.
func ParsePorts(s, between string) (r PortRange, err error) {
	first, last, both := strings.Cut(s, between)
	r = PortRange{First: 1, Last: 65535}
	if first != "" || !both {
		if r.First, err = ParsePort(first); err != nil {
			return PortRange{}, err
		}
	}
	if !both {
		r.Last = r.First
	} else if last != "" {
		if r.Last, err = ParsePort(last); err != nil {
			return PortRange{}, err
		}
	}
	if r.First > r.Last || r.Last == 0 {
		return PortRange{}, fmt.Errorf("%q is no range of ports", s)
	}
	return r, nil
}

// ParseEndpoint reads the destination of a translation: "10.0.0.1", "10.0.0.1:21", "[2001:db8::1]:21",
// "10.0.0.1-10.0.0.9:2000-2100/3000", ":21".
func ParseEndpoint(s string) (Endpoint, error) {
	var e Endpoint
	addrs, ports := s, ""
	switch {
	case strings.HasPrefix(s, "["):
		inside, rest, ok := strings.Cut(s[1:], "]")
		if !ok || rest != "" && rest[0] != ':' {
			return e, fmt.Errorf("%q is no destination: a bracket is missing", s)
		}
		addrs, ports = inside, strings.TrimPrefix(rest, ":")
	case strings.Count(s, ":") == 1:
		addrs, ports, _ = strings.Cut(s, ":")
	}
	if addrs != "" {
		first, last, both := strings.Cut(addrs, "-")
		a, err := netip.ParseAddr(first)
		if err != nil {
			return e, fmt.Errorf("%q is no destination", s)
		}
		e.First, e.Last = a, a
		if both {
			if e.Last, err = netip.ParseAddr(last); err != nil {
				return e, fmt.Errorf("%q is no destination", s)
			}
		}
	}
	if ports == "" {
		return e, nil
	}
	ports, base, shifted := strings.Cut(ports, "/")
	r, err := ParsePorts(ports, "-")
	if err != nil {
		return e, err
	}
	if shifted {
		if _, err := ParsePort(base); err != nil {
			return e, err
		}
	}
	e.Ports, e.Shifted = r, shifted
	return e, nil
}

// ParsePort reads a port by number, or by one of the names that rules for FTP have.
func ParsePort(s string) (uint16, error) {
	switch s {
	case "ftp":
		return 21, nil
	case "ftp-data":
		return 20, nil
	case "ftps":
		return 990, nil
	case "ftps-data":
		return 989, nil
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is no port number", s)
	}
	return uint16(n), nil
}
