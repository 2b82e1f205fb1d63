// Package facts reads the facts about the host that packages preflight and doctor check.
//
// It changes nothing: it loads no module, writes no sysctl and opens no connection. It lists unreadable facts
// in Unread.
package facts

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

// Facts are the facts about the host. An unreadable fact has its zero value and is named in Unread.
type Facts struct {
	// of Source.ReadHost and Source.ReadTables, for a daemon before it serves
	Addresses  []netip.Addr // of this host
	Interfaces []string
	Listeners  []system.Listener // at the forwards' ports; nil: not read
	Others     []Other
	// chains that may refuse forwarded packets; without a family: iptables-legacy's
	Refusing []nftforeign.Chain

	// of Facts.ReadDetails, except those that its caller sets
	Now     time.Time
	Running bool // an ftpgate serves these forwards
	PID     int  // of its process; 0: unknown

	Host     []finding.Finding // of preflight.Check
	Names    []finding.Finding // of gateway.Resolve
	Tables   []finding.Finding // why this process cannot read the nftables ruleset
	TLS      []finding.Finding // of tlskeys.Keys.Load, with their keys
	Expiries []tlskeys.Expiry

	Kernel       string         // its release, as in uname -r; empty: unknown
	Rights       *system.Rights // of the running ftpgate, else of this process; nil: not read
	Modules      []system.Module
	Sysctls      map[string]string // by name (Sysctls); one that the kernel does not have is missing
	Expectations int               // how many data connections the kernel expects; -1: not read
	Links        []system.Link
	Routes       map[netip.Addr]system.Route // to servers and clients (Destinations)
	Lookups      []system.Lookup
	Rules        []nftforeign.Rule
	Inputs       []nftforeign.InputChain
	Legacy       []string // the tables of iptables-legacy that have rules
	Unread       []system.Unread
}

// Other is another ftpgate's table and what it publishes.
type Other struct {
	Table   string
	Running bool // a process owns it; else a stopped one left it
	PID     int  // of that process; 0: unknown
	Listens []forward.Listen
}

// Serves reports whether the running ftpgate owns a listener. Only root sees which process owns a socket: for
// other users every listener of an unknown process counts as ftpgate's.
func (f Facts) Serves(l system.Listener) bool {
	if l.Process == "" {
		return f.Running
	}
	return f.PID != 0 && strings.HasSuffix(l.Process, fmt.Sprintf("(pid %d)", f.PID))
}

// The sysctls that doctor needs for any set of forwards.
const (
	SysctlForward4    = "net.ipv4.ip_forward"
	SysctlForward6    = "net.ipv6.conf.all.forwarding"
	SysctlCount       = "net.netfilter.nf_conntrack_count"
	SysctlMax         = "net.netfilter.nf_conntrack_max"
	SysctlExpectMax   = "net.netfilter.nf_conntrack_expect_max"
	SysctlAcct        = "net.netfilter.nf_conntrack_acct"
	SysctlEvents      = "net.netfilter.nf_conntrack_events"
	SysctlHelper      = "net.netfilter.nf_conntrack_helper"
	SysctlEstablished = "net.netfilter.nf_conntrack_tcp_timeout_established"
	SysctlLowest      = "net.ipv4.ip_unprivileged_port_start"
)

// sysctls returns the names of the sysctls that doctor needs, as sysctl(8) writes them.
func sysctls(links []system.Link) []string {
	names := []string{SysctlForward4, SysctlForward6, SysctlCount, SysctlMax, SysctlExpectMax, SysctlAcct,
		SysctlEvents, SysctlHelper, SysctlEstablished, SysctlLowest, InterfaceSysctl("all", "rp_filter")}
	for _, l := range links {
		names = append(names, InterfaceSysctl(l.Name, "rp_filter"), InterfaceSysctl(l.Name, "forwarding"))
	}
	return names
}

// InterfaceSysctl names an interface's IPv4 sysctl. sysctl(8) writes the dot in a VLAN's name as a slash.
func InterfaceSysctl(link, name string) string {
	return "net.ipv4.conf." + strings.ReplaceAll(link, ".", "/") + "." + name
}

// The modules of the kernel that forwards need.
const (
	ModuleTables    = "nf_tables"
	ModuleConntrack = "nf_conntrack"
	ModuleNAT       = "nf_nat"
	ModuleHelper    = "nf_conntrack_ftp"
	ModuleHelperNAT = "nf_nat_ftp"
)

// Modules returns the names of the kernel modules that doctor checks.
func Modules() []string {
	return []string{ModuleTables, ModuleConntrack, ModuleNAT, ModuleHelper, ModuleHelperNAT}
}

// Destinations returns the addresses whose routes doctor needs, in their order: every server's, and one of
// each client range.
func Destinations(forwards []forward.Resolved) []netip.Addr {
	var all []netip.Addr
	for _, f := range forwards {
		all = append(all, f.ServerAddrs()...)
		for _, c := range f.Clients {
			all = append(all, ClientOf(c))
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// ClientOf returns an address that a client in the range can have: not the subnet's own.
func ClientOf(p netip.Prefix) netip.Addr {
	if p.IsSingleIP() {
		return p.Addr()
	}
	return p.Masked().Addr().Next()
}
