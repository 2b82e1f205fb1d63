package doctor

import (
	"net/netip"
	"strings"
	"time"

	"ftpgate/internal/core/forward"
)

// Facts is what a host looks like. A fact that could not be read is left out, and named in Unread. The
// structs have the fields of those that the readers return, so that they can be converted.
type Facts struct {
	Now     time.Time
	Running bool // an ftpgate serves these forwards
	PID     int  // its process; 0: cannot be told

	Host     []Judged   // of gateway.Examine
	Names    []Judged   // of gateway.Resolve
	Tables   []Judged   // what keeps nftables from being looked at
	TLS      []TLSFault // of secure.Keys.Load
	Expiries []Expiry   // of secure.Keys.Expiries

	Rights       *Rights // of the ftpgate that runs, else of this process; nil: not read
	Modules      []Module
	Sysctls      map[string]string // by name (Sysctls); one that the kernel does not have is not there
	Expectations int               // -1: not read
	Links        []Link
	Routes       map[netip.Addr]Route // to servers and clients (Destinations)
	Lookups      []Lookup
	Listeners    []Listener
	Rules        []Rule // of other programs' tables
	Inputs       []Input
	Legacy       []string // the tables of iptables-legacy
	Unread       []Unread
}

// Judged is what another package has found, in its own words (gateway.Finding).
type Judged struct {
	Forward string
	Text    string
	Remedy  string
	Warning bool
}

// TLSFault is what is wrong about the TLS of a forward (secure.Fault).
type TLSFault struct {
	Forward string
	Key     string
	Text    string
	Remedy  string
	Warning bool
}

// Expiry is until when a certificate is good (secure.Expiry).
type Expiry struct {
	Forwards []string
	File     string
	NotAfter time.Time
}

// Rights is what the serving process may do (system.Rights).
type Rights struct {
	Administer bool
	BindLow    bool
	OpenFiles  uint64
}

// Module is a kernel module.
type Module struct {
	Name     string
	Present  bool
	Unknown  bool // whether it is there cannot be told
	Loadable bool // it is not there, and installed
}

// Link is an interface of the gateway (system.Link).
type Link struct {
	Name  string
	MTU   int
	Up    bool
	Addrs []netip.Prefix
}

// Route is how the gateway reaches an address (system.Route).
type Route struct {
	Interface string
	Gateway   netip.Addr
	Source    netip.Addr
	MTU       int
	Local     bool
	Problem   string
}

// Lookup is how long a resolver took (system.Lookup).
type Lookup struct {
	Host string
	Took time.Duration
}

// Listener is a TCP socket of the gateway that takes connections.
type Listener struct {
	Addr netip.AddrPort // an unspecified address stands for all of its family
	Dual bool           // an IPv6 one that takes IPv4, too
	Who  string         // the program; empty: cannot be told
	Ours bool           // it is the running ftpgate's
}

// Rule is what another program's rule does (nftforeign.Rule).
type Rule struct {
	Family, Table, Chain string
	Owner                string
	Hook                 string
	Priority             int32
	Act                  Act
	Helper               string
	Template             bool
	To                   netip.Addr
	Ports                []forward.PortRange
	Narrow               bool
}

// Act is what a rule does to connections (nftforeign.Action).
type Act string

// The acts.
const (
	ActHelper   Act = "helper"
	ActNoTrack  Act = "notrack"
	ActDNAT     Act = "dnat"
	ActSynProxy Act = "synproxy"
)

// Input is a chain of another program that refuses packets to the gateway itself (nftforeign.InputChain).
type Input struct {
	Family, Table, Chain string
	Owner                string
	Ports                []forward.PortRange // which it lets through
	Interfaces           []string            // from which it lets everything through
}

// Unread is something of the host that could not be read (system.Unread).
type Unread struct{ What, Why string }

// The switches that are looked at, whatever the forwards are.
const (
	sysctlForward4    = "net.ipv4.ip_forward"
	sysctlForward6    = "net.ipv6.conf.all.forwarding"
	sysctlCount       = "net.netfilter.nf_conntrack_count"
	sysctlMax         = "net.netfilter.nf_conntrack_max"
	sysctlExpectMax   = "net.netfilter.nf_conntrack_expect_max"
	sysctlAcct        = "net.netfilter.nf_conntrack_acct"
	sysctlEvents      = "net.netfilter.nf_conntrack_events"
	sysctlHelper      = "net.netfilter.nf_conntrack_helper"
	sysctlEstablished = "net.netfilter.nf_conntrack_tcp_timeout_established"
	sysctlLowest      = "net.ipv4.ip_unprivileged_port_start"
)

// Sysctls returns the names of the switches that Examine wants to know, as sysctl(8) writes them.
func Sysctls(links []Link) []string {
	names := []string{sysctlForward4, sysctlForward6, sysctlCount, sysctlMax, sysctlExpectMax, sysctlAcct,
		sysctlEvents, sysctlHelper, sysctlEstablished, sysctlLowest, conf4("all", "rp_filter")}
	for _, l := range links {
		names = append(names, conf4(l.Name, "rp_filter"), conf4(l.Name, "forwarding"))
	}
	return names
}

// conf4 names a switch of an interface, for IPv4. The dot of a VLAN's name is a slash there.
func conf4(link, name string) string {
	return "net.ipv4.conf." + strings.ReplaceAll(link, ".", "/") + "." + name
}

// Modules returns the names of the kernel's modules that Examine wants to know.
func Modules() []string {
	return []string{moduleTables, moduleConntrack, moduleNAT, moduleHelper, moduleHelperNAT}
}

// Destinations returns the addresses to which Examine wants to know the route: of servers, and one of each
// range of clients.
func Destinations(forwards []forward.Resolved) []netip.Addr {
	var all []netip.Addr
	seen := map[netip.Addr]bool{{}: true}
	add := func(addrs ...netip.Addr) {
		for _, a := range addrs {
			if !seen[a] {
				seen[a] = true
				all = append(all, a)
			}
		}
	}
	for _, f := range forwards {
		add(serversOf(f)...)
		for _, c := range f.Clients {
			add(clientOf(c))
		}
	}
	return all
}

// serversOf returns every address of the server that the forward may lead to.
func serversOf(f forward.Resolved) []netip.Addr {
	if len(f.Servers) > 0 {
		return f.Servers
	}
	var all []netip.Addr
	for _, a := range []netip.Addr{f.Server4, f.Server6} {
		if a.IsValid() {
			all = append(all, a)
		}
	}
	return all
}

// clientOf returns an address that a client of a range can have: not the subnet's own.
func clientOf(p netip.Prefix) netip.Addr {
	if p.IsSingleIP() {
		return p.Addr()
	}
	return p.Masked().Addr().Next()
}
