package forward

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// DefaultServerPort is the port of an FTP server that does not name one (RFC 959 section 5.2).
const DefaultServerPort = 21

// Listen is where a forward accepts connections: an address of the gateway, or all of them.
type Listen struct {
	Addr      netip.Addr // not valid: every address of the gateway, IPv4 and IPv6
	Port      uint16
	Interface string // only connections that arrive at this interface; empty: at any
}

// ParseListen reads "ADDR:PORT", "[ADDR]:PORT", ":PORT" or "PORT".
func ParseListen(s string) (Listen, error) {
	host, port, bracketed, err := splitHostPort(s)
	if err = cmp.Or(checkWritten(s, "one ADDR:PORT, and a forward for each"), err); err != nil {
		return Listen{}, fmt.Errorf("listen %q: %w", s, err)
	}
	if port == "" && !bracketed { // a bare word is a port
		if _, err := netip.ParseAddr(host); err == nil {
			return Listen{}, fmt.Errorf("listen %q: no port: want ADDR:PORT", s)
		}
		host, port = "", host
	}
	l := Listen{}
	if l.Port, err = parsePort(port); err != nil {
		return Listen{}, fmt.Errorf("listen %q: %w", s, err)
	}
	if host != "" {
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return Listen{}, fmt.Errorf(
				"listen %q: %q is not an IP address: want ADDR:PORT, :PORT or PORT", s, host)
		}
		if addr.Zone() != "" {
			return Listen{}, fmt.Errorf(
				"listen %q: an address with a zone cannot be translated: name the interface apart", s)
		}
		if addr = addr.Unmap(); !addr.IsUnspecified() {
			l.Addr = addr
		}
	}
	return l, nil
}

// String returns what ParseListen reads, followed by the interface in words.
func (l Listen) String() string {
	s := ":" + strconv.Itoa(int(l.Port))
	if l.Addr.IsValid() {
		s = netip.AddrPortFrom(l.Addr, l.Port).String()
	}
	if l.Interface != "" {
		s += " on " + l.Interface
	}
	return s
}

// Overlaps reports whether one connection could belong to both.
func (l Listen) Overlaps(o Listen) bool {
	return l.Port == o.Port && l.sameHost(o)
}

// sameHost reports whether the addresses overlap, whatever the ports.
func (l Listen) sameHost(o Listen) bool {
	if l.Interface != "" && o.Interface != "" && l.Interface != o.Interface {
		return false
	}
	return !l.Addr.IsValid() || !o.Addr.IsValid() || l.Addr == o.Addr
}

// AcceptsFamily reports whether connections of addr's family can arrive here.
func (l Listen) AcceptsFamily(addr netip.Addr) bool {
	return !l.Addr.IsValid() || l.Addr.Is4() == addr.Is4()
}

// Server is the FTP server behind a forward, by address or by name. The zero value is any server, of an
// outbound.
type Server struct {
	Host string // an address (without brackets) or a name
	Port uint16
}

// ParseServer reads "HOST", "HOST:PORT", "[ADDR]" or "[ADDR]:PORT"; an IPv6 address without a port needs no
// brackets. The default port is DefaultServerPort.
func ParseServer(s string) (Server, error) {
	srv := Server{Host: s, Port: DefaultServerPort}
	if _, err := netip.ParseAddr(s); err != nil {
		host, port, _, err := splitHostPort(s)
		if err = cmp.Or(checkWritten(s, "one HOST:PORT, and a forward for each server"), err); err != nil {
			return Server{}, fmt.Errorf("server %q: %w", s, err)
		}
		srv.Host = host
		if port != "" {
			if srv.Port, err = parsePort(port); err != nil {
				return Server{}, fmt.Errorf("server %q: %w", s, err)
			}
		}
	}
	addr, err := netip.ParseAddr(srv.Host)
	switch {
	case err == nil && addr.Zone() != "":
		return Server{}, fmt.Errorf("server %q: an address with a zone cannot be translated", s)
	case err == nil && (addr.IsUnspecified() || addr.IsMulticast()):
		return Server{}, fmt.Errorf("server %q: %s cannot be a server's address", s, addr)
	case err == nil:
		srv.Host = addr.Unmap().String()
	case !isHostName(srv.Host):
		return Server{}, fmt.Errorf("server %q: %q is neither an IP address nor a host name", s, srv.Host)
	}
	return srv, nil
}

// String returns what ParseServer reads, with the port; "any server" for the zero value.
func (s Server) String() string {
	if s.Host == "" {
		return anyServer
	}
	if addr, ok := s.Addr(); ok {
		return netip.AddrPortFrom(addr, s.Port).String()
	}
	return s.Host + ":" + strconv.Itoa(int(s.Port))
}

// anyServer is the text of an outbound's server.
const anyServer = "any server"

// Addr returns the server's address, and false if only its name is known.
func (s Server) Addr() (netip.Addr, bool) {
	addr, err := netip.ParseAddr(s.Host)
	return addr, err == nil
}

// ParseClient reads a prefix ("192.168.5.0/24") or one address. Bits after the prefix's length are an error:
// they are usually a typing mistake.
func ParseClient(s string) (netip.Prefix, error) { return parsePrefix("client", s) }

// parsePrefix is ParseClient; what names the value in the error.
func parsePrefix(what, s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		err := checkWritten(s, "an address or a prefix, and each one apart")
		if err == nil {
			err = errors.New("want an address or a prefix like 192.168.5.0/24")
		}
		return netip.Prefix{}, fmt.Errorf("%s %q: %w", what, s, err)
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf(
			"%s %q: the address has bits behind /%d: want %s", what, s, p.Bits(), p.Masked())
	}
	return p, nil
}

// LastAddr returns the highest address of a prefix.
func LastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

// splitHostPort splits "host:port", "[host]:port", "[host]" and "host". Unlike net.SplitHostPort it
// says which of the two is missing, and it knows a bare IPv6 address.
func splitHostPort(s string) (host, port string, bracketed bool, err error) {
	if rest, ok := strings.CutPrefix(s, "["); ok {
		host, port, ok = strings.Cut(rest, "]")
		if !ok {
			return "", "", true, fmt.Errorf("the bracket is not closed")
		}
		if port == "" {
			return host, "", true, nil
		}
		if port[0] != ':' || len(port) == 1 {
			return "", "", true, fmt.Errorf("want :PORT after the bracket, not %q", port)
		}
		return host, port[1:], true, nil
	}
	if strings.Count(s, ":") > 1 {
		if address, _, _ := strings.Cut(s, "%"); strings.Trim(address, ":0123456789abcdefABCDEF") != "" {
			return "", "", false, fmt.Errorf("more than one colon: want HOST:PORT")
		}
		return "", "", false, fmt.Errorf("an IPv6 address with a port needs brackets: [ADDR]:PORT")
	}
	host, port, found := strings.Cut(s, ":")
	if found && port == "" {
		return "", "", false, fmt.Errorf("no port after the colon")
	}
	if host == "" && !found {
		return "", "", false, fmt.Errorf("empty")
	}
	return host, port, false, nil
}

// parsePort reads a port from 1 to 65535, in digits only.
func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	switch {
	case s == "":
		return 0, fmt.Errorf("no port")
	case strings.Trim(s, "0123456789") != "":
		return 0, fmt.Errorf("%q is not a port number", s)
	case err != nil || n == 0:
		return 0, fmt.Errorf("port %s is not between 1 and 65535", s)
	}
	return uint16(n), nil
}

// isHostName reports whether s is a possible host name (RFC 1123 section 2.1, and underscores, which
// exist). A name of only digits and dots is a mistyped address.
func isHostName(s string) bool {
	if len(s) == 0 || len(s) > 253 || strings.Trim(s, "0123456789.") == "" {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range label {
			letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
			if !letter && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// CheckServerName returns what is wrong with the name that a server's certificate must have, or nil. It
// is a host name (RFC 6125 section 6.4) or an address.
func CheckServerName(name string) error {
	if addr, err := netip.ParseAddr(name); err == nil && addr.Zone() == "" {
		return nil
	}
	if !isHostName(name) {
		return fmt.Errorf("tls.server_name %q is neither an IP address nor a host name", name)
	}
	return nil
}
