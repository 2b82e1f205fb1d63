package forward

import (
	"fmt"
	"net/netip"
	"slices"
)

// ProxyProtocol is a version of the PROXY protocol: the header before all data, in which a balancer or a
// gateway names the client of a connection that it opens.
type ProxyProtocol uint8

const (
	ProxyProtocolOff ProxyProtocol = iota // no header
	ProxyProtocolV1                       // a line of text
	ProxyProtocolV2                       // binary
)

var proxyProtocolNames = []string{ProxyProtocolOff: "off", ProxyProtocolV1: "v1", ProxyProtocolV2: "v2"}

func (ProxyProtocol) words() []string { return proxyProtocolNames }

// String returns the word for p.
func (p ProxyProtocol) String() string { return wordOf(p) }

// DataProxyProtocol returns the version of the header on data connections that the gateway opens to the
// server.
func (f Forward) DataProxyProtocol() ProxyProtocol {
	if !f.SendProxyProtocolData {
		return ProxyProtocolOff
	}
	return f.SendProxyProtocol
}

// IsBalancer reports whether connections from an address begin with a header.
func (f Forward) IsBalancer(addr netip.Addr) bool {
	return slices.ContainsFunc(f.Balancers, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// ParseBalancer reads an address or a prefix of balancers.
func ParseBalancer(s string) (netip.Prefix, error) {
	p, err := parsePrefix("accept_proxy_protocol", s)
	if err == nil && p.Bits() == 0 {
		return netip.Prefix{}, fmt.Errorf("accept_proxy_protocol %q is every address: "+
			"anybody could then claim to be any client; name your balancers", s)
	}
	return p, err
}

// checkProxyProtocol finds the faults of the keys about the PROXY protocol.
func checkProxyProtocol(f Forward, report reportFunc) {
	for _, b := range f.Balancers {
		if !f.Listen.AcceptsFamily(b.Addr()) {
			report("accept_proxy_protocol", "balancer %s is %s and can never reach listen %s", b,
				family(b.Addr()), f.Listen)
		}
	}
	if len(f.Balancers) > 0 && f.Transparent() {
		report("accept_proxy_protocol", "accept_proxy_protocol is not for an outbound with interface: "+
			"the address that its clients dial is the server's; leave accept_proxy_protocol out")
	}
	switch {
	case f.SendProxyProtocolData && f.SendProxyProtocol == ProxyProtocolOff:
		report("send_proxy_protocol_data", "send_proxy_protocol_data has no effect while "+
			"send_proxy_protocol is off: set it to v1 or v2, or leave send_proxy_protocol_data out")
	case f.SendProxyProtocolData && f.Data == DataKernel:
		report("data", "send_proxy_protocol_data has ftpgate send a header first on each data connection: "+
			"the kernel cannot do that; set data = \"auto\"")
	}
}
