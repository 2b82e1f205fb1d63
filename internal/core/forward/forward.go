// Package dnat holds the domain's values: what a forward is, and what makes one sound.
//
// It is pure: it parses, compares and checks values. It never reads a file, resolves a name,
// opens a socket or asks the kernel.
package forward

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
)

// DefaultServerPort is the port of an FTP server that does not name one (RFC 959 section 5.2).
const DefaultServerPort = 21

// Forward is one published server: a listen address on the gateway and the server behind it.
type Forward struct {
	Name        string         // what log lines and faults call it; unique within a configuration
	Listen      Listen         // where clients connect
	Server      Server         // the server that they reach
	Tracking    Tracking       // how the gateway follows the FTP dialogue
	Clients     []netip.Prefix // who may use it; empty: everybody
	ServerPorts PortRange      // the server's passive ports, translated one to one: for everybody with tracking none, with tracking proxy for a client while it has an encrypted session

	// The rest is for tracking proxy.
	Data         DataPath    // what carries data connections
	PassivePorts PortRange   // the gateway's ports for them; empty: DefaultPassivePorts
	Advertise    []Advertise // what a 227 names; empty: the address that the client dialled
	ServerMode   ServerMode  // how the server is asked for data connections
	Limits       Limits
	TLS          TLS
}

// Resolved is a forward with the addresses of the moment: of its server at most one of each family,
// and none of a family that the forward cannot lead to. An address that is not valid is not there.
type Resolved struct {
	Forward
	Server4, Server6 netip.Addr
	Servers          []netip.Addr // tracking proxy: all of the server's addresses, as the resolver orders them
	Advertised       []Advertised // of Advertise, in its order
}

// HasServer reports whether the server has an address: without one the forward cannot be served.
func (r Resolved) HasServer() bool { return r.Server4.IsValid() || r.Server6.IsValid() }

// ServerAddrs returns the server's addresses in the order in which they are tried; nil: it has none.
func (r Resolved) ServerAddrs() []netip.Addr {
	if len(r.Servers) > 0 {
		return r.Servers
	}
	var all []netip.Addr
	for _, a := range []netip.Addr{r.Server4, r.Server6} {
		if a.IsValid() {
			all = append(all, a)
		}
	}
	return all
}

// Tracking is how the gateway follows the FTP dialogue of a forward.
type Tracking uint8

const (
	// TrackingProxy ends the control connection in ftpgate, which passes the dialogue on line by line.
	TrackingProxy Tracking = iota
	// TrackingKernel leaves the dialogue to the kernel's ftp helper (nf_conntrack_ftp, nf_nat_ftp).
	TrackingKernel
	// TrackingNone follows nothing: the server's passive ports are translated one to one.
	TrackingNone
)

var trackingNames = []string{TrackingProxy: "proxy", TrackingKernel: "kernel", TrackingNone: "none"}

// String returns the word that ParseTracking reads.
func (t Tracking) String() string { return enumWord(trackingNames, t, "Tracking") }

// ParseTracking reads "proxy", "kernel" or "none".
func ParseTracking(s string) (Tracking, error) {
	return parseEnum[Tracking](trackingNames, s, "tracking")
}

// Listen is where a forward takes connections: an address of the gateway, or all of them.
type Listen struct {
	Addr      netip.Addr // not valid: every address of the gateway, IPv4 and IPv6
	Port      uint16
	Interface string // only connections that arrive there; empty: any
}

// ParseListen reads "ADDR:PORT", "[ADDR]:PORT", ":PORT" or "PORT".
func ParseListen(s string) (Listen, error) {
	host, port, bracketed, err := splitHostPort(s)
	if err != nil {
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
			return Listen{}, fmt.Errorf("listen %q: %q is not an IP address: want ADDR:PORT, :PORT or PORT", s, host)
		}
		if addr.Zone() != "" {
			return Listen{}, fmt.Errorf("listen %q: an address with a zone cannot be translated: name the interface apart", s)
		}
		if addr = addr.Unmap(); !addr.IsUnspecified() {
			l.Addr = addr
		}
	}
	return l, nil
}

// String returns what ParseListen reads; the interface is added in words.
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

// Overlaps tells whether one connection could belong to both.
func (l Listen) Overlaps(o Listen) bool {
	return l.Port == o.Port && l.sameHost(o)
}

// sameHost is Overlaps without the port.
func (l Listen) sameHost(o Listen) bool {
	if l.Interface != "" && o.Interface != "" && l.Interface != o.Interface {
		return false
	}
	return !l.Addr.IsValid() || !o.Addr.IsValid() || l.Addr == o.Addr
}

// CanReach tells whether the forward can lead to a server's address: only a proxy has connections of
// its own, and can change the family.
func (f Forward) CanReach(server netip.Addr) bool {
	return f.Tracking == TrackingProxy || f.Listen.AcceptsFamily(server)
}

// AcceptsFamily tells whether connections of addr's family can arrive here.
func (l Listen) AcceptsFamily(addr netip.Addr) bool {
	return !l.Addr.IsValid() || l.Addr.Is4() == addr.Is4()
}

// Server is the FTP server behind a forward, by address or by name.
type Server struct {
	Host string // an address (without brackets) or a name
	Port uint16
}

// ParseServer reads "HOST", "HOST:PORT", "[ADDR]" or "[ADDR]:PORT"; an IPv6 address without a
// port may stand without brackets. A port that is left out is DefaultServerPort.
func ParseServer(s string) (Server, error) {
	srv := Server{Host: s, Port: DefaultServerPort}
	if _, err := netip.ParseAddr(s); err != nil {
		host, port, _, err := splitHostPort(s)
		if err != nil {
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
		return Server{}, fmt.Errorf("server %q: %s is no server's address", s, addr)
	case err == nil:
		srv.Host = addr.Unmap().String()
	case !isHostName(srv.Host):
		return Server{}, fmt.Errorf("server %q: %q is neither an IP address nor a host name", s, srv.Host)
	}
	return srv, nil
}

// String returns what ParseServer reads, with the port.
func (s Server) String() string {
	if addr, ok := s.Addr(); ok {
		return netip.AddrPortFrom(addr, s.Port).String()
	}
	return s.Host + ":" + strconv.Itoa(int(s.Port))
}

// Addr returns the server's address, and false where it is known by name only.
func (s Server) Addr() (netip.Addr, bool) {
	addr, err := netip.ParseAddr(s.Host)
	return addr, err == nil
}

// PortRange is a range of TCP ports with both ends in it. The zero value is empty.
type PortRange struct{ First, Last uint16 }

// AllPorts is every port that a connection can go to.
var AllPorts = PortRange{1, 65535}

// ParsePortRange reads "50000-50100", "50000" or "all".
func ParsePortRange(s string) (PortRange, error) {
	if s == "all" {
		return AllPorts, nil
	}
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	var r PortRange
	var err error
	if r.First, err = parsePort(first); err != nil {
		return PortRange{}, fmt.Errorf("ports %q: %w", s, err)
	}
	if r.Last, err = parsePort(last); err != nil {
		return PortRange{}, fmt.Errorf("ports %q: %w", s, err)
	}
	if r.First > r.Last {
		return PortRange{}, fmt.Errorf("ports %q: the first is above the last", s)
	}
	return r, nil
}

// IsEmpty tells whether no port is in the range.
func (r PortRange) IsEmpty() bool { return r.Last == 0 }

// Contains tells whether port is in the range.
func (r PortRange) Contains(port uint16) bool {
	return !r.IsEmpty() && r.First <= port && port <= r.Last
}

// Overlaps tells whether a port is in both.
func (r PortRange) Overlaps(o PortRange) bool {
	return !r.IsEmpty() && !o.IsEmpty() && r.First <= o.Last && o.First <= r.Last
}

// String returns what ParsePortRange reads, and "" for the empty range.
func (r PortRange) String() string {
	switch {
	case r.IsEmpty():
		return ""
	case r == AllPorts:
		return "all"
	case r.First == r.Last:
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// ParseClient reads a prefix ("192.168.5.0/24") or one address. Bits behind the prefix's length
// are an error: they are a typing mistake more often than not.
func ParseClient(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("client %q: want an address or a prefix like 192.168.5.0/24", s)
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("client %q: the address has bits behind /%d: want %s", s, p.Bits(), p.Masked())
	}
	return p, nil
}

// splitHostPort cuts "host:port", "[host]:port", "[host]" and "host". Unlike net.SplitHostPort
// it says which of the two an operator has left out, and it knows a bare IPv6 address.
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
			return "", "", true, fmt.Errorf("want :PORT behind the bracket, not %q", port)
		}
		return host, port[1:], true, nil
	}
	if strings.Count(s, ":") > 1 {
		return "", "", false, fmt.Errorf("an IPv6 address with a port stands in brackets: [ADDR]:PORT")
	}
	host, port, found := strings.Cut(s, ":")
	if found && port == "" {
		return "", "", false, fmt.Errorf("no port behind the colon")
	}
	if host == "" && !found {
		return "", "", false, fmt.Errorf("empty")
	}
	return host, port, false, nil
}

// parsePort reads a port from 1 to 65535, in digits only.
func parsePort(s string) (uint16, error) {
	if s == "" {
		return 0, fmt.Errorf("no port")
	}
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("%q is not a port number", s)
		}
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("port %s is not between 1 and 65535", s)
	}
	return uint16(n), nil
}

// isHostName tells whether s can stand as a host name (RFC 1123 section 2.1, and underscores,
// which exist). A name that is all digits and dots is a mistyped address.
func isHostName(s string) bool {
	if len(s) == 0 || len(s) > 253 || strings.Trim(s, "0123456789.") == "" {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range label {
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// maxName is how long the name of a forward may be, in bytes: it stands in every log line.
const maxName = 64

// CheckName tells what is wrong with the name of a forward.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("name is empty: leave it out, or give one")
	case len(name) > maxName:
		return fmt.Errorf("name %q is %d bytes long: want at most %d", name[:maxName], len(name), maxName)
	}
	if i := strings.IndexFunc(name, notPrintable); i >= 0 {
		return fmt.Errorf("name %q has a character that cannot be printed: %U", name, []rune(name[i:])[0])
	}
	return nil
}

// maxInterface is IFNAMSIZ without the closing NUL (include/uapi/linux/if.h).
const maxInterface = 15

// CheckInterface tells what is wrong with the name of an interface: it takes what the kernel takes
// (dev_valid_name in net/core/dev.c) without what means something else to nft: quotes, a
// backslash, and "*", with which lan* is all of them.
func CheckInterface(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("interface is empty: leave it out for any")
	case len(name) > maxInterface:
		return fmt.Errorf("interface %q: the kernel's names have at most %d bytes", name, maxInterface)
	case name == "." || name == ".." || strings.ContainsAny(name, "/:\"\\* ") || strings.ContainsFunc(name, notPrintable):
		return fmt.Errorf("interface %q is no interface's name", name)
	}
	return nil
}

func notPrintable(c rune) bool { return !unicode.IsPrint(c) }
