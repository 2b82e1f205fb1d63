// Package forward defines a forward (one published FTP server) and validates it.
//
// It is pure: it parses, compares and checks values. It never reads a file, resolves a name,
// opens a socket or asks the kernel.
package forward

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode"
)

// Forward is one published server: a listen address on the gateway and the server behind it. An outbound is a
// forward without a server: its clients choose one.
type Forward struct {
	Name     string         // in log lines and faults; unique within a configuration
	Listen   Listen         // where clients connect
	Server   Server         // the server that they reach; zero for an outbound
	Tracking Tracking       // how the gateway follows the FTP dialogue
	Clients  []netip.Prefix // the clients that may use it; empty: all
	// ServerPorts is the server's passive ports, translated one to one: for all clients with tracking none,
	// and with tracking proxy for a client while it has an encrypted session.
	ServerPorts PortRange

	// The rest is for tracking proxy.
	Data         DataPath    // what carries data connections
	PassivePorts PortRange   // the gateway's ports for them; empty: DefaultPassivePorts
	Advertise    []Advertise // the address in a 227; empty: the address that the client dialled
	ServerMode   ServerMode  // how the gateway asks the server for data connections
	Source       Source      // whose address the server sees
	Outbound     *Outbound   // what makes it an outbound; nil: it is none
	// Balancers are whose connections begin with a PROXY protocol header, which names the client; empty:
	// there is none in front of the gateway.
	Balancers []netip.Prefix
	// SendProxyProtocol is the version of the header that the server gets on control connections, and with
	// SendProxyProtocolData also on the data connections that the gateway opens to it.
	SendProxyProtocol     ProxyProtocol
	SendProxyProtocolData bool
	Limits                Limits
	TLS                   TLS
}

// Resolved is a forward with its current addresses. It has at most one server address of each family, and
// none of a family that the forward cannot reach. An invalid address is absent.
type Resolved struct {
	Forward
	Server4, Server6 netip.Addr
	Servers          []netip.Addr // tracking proxy: all of the server's addresses, in the resolver's order
	Advertised       []Advertised // of Advertise, in its order
	Reach            Reach        // of an outbound
}

// HasServer reports whether the server has an address: without one the forward is not served. The servers of
// an outbound need none.
func (r Resolved) HasServer() bool {
	return r.Outbound != nil || r.Server4.IsValid() || r.Server6.IsValid()
}

// ToServer returns an outbound as the forward to the server that a client has chosen.
func (r Resolved) ToServer(server netip.AddrPort) Resolved {
	addr := server.Addr()
	r.Server = Server{Host: addr.String(), Port: server.Port()}
	r.Servers = []netip.Addr{addr}
	r.Server4, r.Server6 = netip.Addr{}, netip.Addr{}
	if addr.Is4() {
		r.Server4 = addr
	} else {
		r.Server6 = addr
	}
	return r
}

// ServerAddrs returns the server's addresses in the order in which to try them; nil: it has none.
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

// CanReach reports whether the forward can connect clients to a server's address. Only a proxy opens
// connections of its own, and so can change the address family.
func (f Forward) CanReach(server netip.Addr) bool {
	return f.Tracking == TrackingProxy || f.Listen.AcceptsFamily(server)
}

// NeedsKernel reports whether the forward cannot be served without the kernel's tables.
func (f Forward) NeedsKernel() bool {
	return f.Tracking != TrackingProxy || f.Data == DataKernel || f.HidesGateway()
}

// MayUseKernel reports whether the forward uses the kernel's tables if they are available.
func (f Forward) MayUseKernel() bool {
	return f.Tracking != TrackingProxy || f.Data != DataRelay || f.HidesGateway()
}

// DataPorts returns the range of the gateway's ports that the forward's data connections use.
func (f Forward) DataPorts() PortRange {
	if f.PassivePorts.IsEmpty() {
		return DefaultPassivePorts
	}
	return f.PassivePorts
}

// maxName is the longest name of a forward, in bytes: every log line has it.
const maxName = 64

// CheckName returns what is wrong with the name of a forward, or nil.
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

// CheckInterface returns what is wrong with the name of an interface, or nil. It accepts what the
// kernel accepts (dev_valid_name in net/core/dev.c), except characters with a meaning of their own
// to nft: quotes, a backslash, and "*" (lan* matches all of them).
func CheckInterface(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("interface is empty: leave it out for any")
	case len(name) > maxInterface:
		return fmt.Errorf("interface %q: the kernel's names have at most %d bytes", name, maxInterface)
	case strings.ContainsAny(name, typographicQuotes):
		return fmt.Errorf("interface %q: %w", name, errQuotes)
	case name == "." || name == ".." || strings.ContainsAny(name, "/:\"\\* "),
		strings.ContainsFunc(name, notPrintable):
		return fmt.Errorf("interface %q is not a valid name", name)
	}
	return nil
}

func notPrintable(c rune) bool { return !unicode.IsPrint(c) }
