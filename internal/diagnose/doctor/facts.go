package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"ftpgate/internal/control/tlskeys"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/nftforeign"
	"ftpgate/internal/kernel/system"
)

// Facts is what the host looks like. A fact that could not be read is left at its zero value and named in
// Unread.
type Facts struct {
	Now     time.Time
	Running bool // an ftpgate serves these forwards
	PID     int  // of its process; 0: unknown

	Host     []finding.Finding // of preflight.Check
	Names    []finding.Finding // of gateway.Resolve
	Tables   []finding.Finding // what keeps this process from reading the nftables ruleset
	TLS      []finding.Finding // of tlskeys.Keys.Load, with their keys
	Expiries []tlskeys.Expiry

	Rights       *system.Rights // of the running ftpgate, else of this process; nil: not read
	Modules      []system.Module
	Sysctls      map[string]string // by name (Sysctls); one that the kernel does not have is missing
	Expectations int               // how many data connections the kernel expects; -1: not read
	Links        []system.Link
	Routes       map[netip.Addr]system.Route // to servers and clients (Destinations)
	Lookups      []system.Lookup
	Listeners    []system.Listener // nil: not read
	Rules        []nftforeign.Rule
	Inputs       []nftforeign.InputChain
	Legacy       []string // the tables of iptables-legacy that have rules
	Unread       []system.Unread
}

// serves reports whether the running ftpgate owns a listener. A user who is not root cannot see which process
// owns a socket: then every unknown one counts as its own.
func (f Facts) serves(l system.Listener) bool {
	if l.Process == "" {
		return f.Running
	}
	return f.PID != 0 && strings.HasSuffix(l.Process, fmt.Sprintf("(pid %d)", f.PID))
}

// The sysctls that Examine reads for any set of forwards.
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

// Sysctls returns the names of the sysctls that Examine needs, as sysctl(8) writes them.
func Sysctls(links []system.Link) []string {
	names := []string{sysctlForward4, sysctlForward6, sysctlCount, sysctlMax, sysctlExpectMax, sysctlAcct,
		sysctlEvents, sysctlHelper, sysctlEstablished, sysctlLowest, conf4("all", "rp_filter")}
	for _, l := range links {
		names = append(names, conf4(l.Name, "rp_filter"), conf4(l.Name, "forwarding"))
	}
	return names
}

// conf4 names an interface's IPv4 sysctl. sysctl(8) writes the dot in a VLAN's name as a slash.
func conf4(link, name string) string {
	return "net.ipv4.conf." + strings.ReplaceAll(link, ".", "/") + "." + name
}

// Modules returns the names of the kernel modules that Examine needs to know about.
func Modules() []string {
	return []string{moduleTables, moduleConntrack, moduleNAT, moduleHelper, moduleHelperNAT}
}

// Destinations returns the addresses whose routes Examine needs, in their order: every server's, and one of
// each client range.
func Destinations(forwards []forward.Resolved) []netip.Addr {
	var all []netip.Addr
	for _, f := range forwards {
		all = append(all, f.ServerAddrs()...)
		for _, c := range f.Clients {
			all = append(all, clientOf(c))
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// clientOf returns an address that a client in the range can have, which the subnet's own is not.
func clientOf(p netip.Prefix) netip.Addr {
	if p.IsSingleIP() {
		return p.Addr()
	}
	return p.Masked().Addr().Next()
}
