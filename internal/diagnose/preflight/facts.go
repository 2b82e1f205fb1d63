package preflight

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/kernel/nft"
	"ftpgate/internal/kernel/nftforeign"
	"ftpgate/internal/kernel/system"
)

// Facts is what the host looks like, as far as Check needs to know.
type Facts struct {
	Addresses  []netip.Addr // of this host
	Interfaces []string
	Listeners  []system.Listener // at the forwards' ports, this process's own left out
	Others     []Other
	// chains that may refuse forwarded packets; without a family: iptables-legacy's
	Refusing []nftforeign.Chain
}

// Other is another ftpgate's table and what it publishes.
type Other struct {
	Table   string
	Running bool // a process owns it; else a stopped one left it behind
	PID     int  // of that process; 0: unknown
	Listens []forward.Listen
}

// host is what preflight asks of Linux beside nftables. Tests give one of their own.
type host struct {
	addresses     func() ([]netip.Addr, error)
	interfaces    func() ([]string, error)
	listeners     func() ([]system.Listener, error)
	withProcesses func(...system.Listener) []system.Listener
	legacyFilter  func() bool // iptables-legacy has rules for forwarded packets
	claim         func(table string) (*system.Claim, error)
	claimed       func(table string) (held bool, pid int, err error)
	mayAdminister func() (bool, error) // this process has CAP_NET_ADMIN
	loadModules   func(ctx context.Context, names ...string) []system.Module
	findModules   func(names ...string) []system.Module
}

// linux returns the host that this process runs on.
func linux() host {
	return host{
		addresses: system.Addresses, interfaces: system.Interfaces,
		listeners: system.Listeners, withProcesses: system.WithProcesses,
		legacyFilter: system.LegacyIptablesFilter,
		claim:        system.ClaimName, claimed: system.Claimed, mayAdminister: system.CanAdministerNetwork,
		loadModules: system.LoadModules, findModules: system.FindModules,
	}
}

// tableReader reads what nftables has; tables implements it.
type tableReader interface {
	Tables() ([]string, error)
	Listens(table string) ([]forward.Listen, error)
	RefusingForwardChains() ([]nftforeign.Chain, error)
	Compare(ruleset.Table) ([]string, error)
}

// tables reads ftpgate's own tables over a connection, and those of other programs.
type tables struct{ *nft.Conn }

// RefusingForwardChains returns the chains of other programs that may refuse forwarded packets.
func (tables) RefusingForwardChains() ([]nftforeign.Chain, error) {
	return nftforeign.RefusingForwardChains()
}

// readHost reads the facts that anybody may read. ours reports whether this process listens at an address.
func (h host) readHost(forwards []forward.Resolved, ours func(netip.AddrPort) bool) (Facts,
	[]finding.Finding) {
	var facts Facts
	var findings []finding.Finding
	check := func(err error) {
		if err != nil {
			findings = append(findings, finding.Finding{Text: err.Error(),
				Remedy: "see that /proc is mounted and readable"})
		}
	}
	var err error
	facts.Addresses, err = h.addresses()
	check(err)
	facts.Interfaces, err = h.interfaces()
	check(err)
	listeners, err := h.listeners()
	check(err)
	// Only those that matter are asked for their programs: that reads the descriptors of every process.
	listeners = slices.DeleteFunc(listeners, func(l system.Listener) bool {
		return ours(l.Addr) || !slices.ContainsFunc(forwards, func(f forward.Resolved) bool {
			return f.Listen.Port == l.Addr.Port() || f.ServerPorts.Contains(l.Addr.Port())
		})
	})
	self := fmt.Sprintf("(pid %d)", os.Getpid())
	facts.Listeners = slices.DeleteFunc(h.withProcesses(listeners...), func(l system.Listener) bool {
		// the relay's, for encrypted sessions that it passes through
		return strings.HasSuffix(l.Process, self)
	})
	return facts, findings
}

// readTables adds what nftables has: other ftpgates' tables, and chains that may refuse forwarded packets.
// own is this process's table. dead are the tables of ftpgates that no longer run.
func (h host) readTables(t tableReader, own string, facts *Facts) (dead []string,
	findings []finding.Finding) {
	names, err := t.Tables()
	if err != nil {
		return nil, []finding.Finding{noNftables(err)}
	}
	for _, name := range names {
		if name == own {
			continue
		}
		held, pid, err := h.claimed(name)
		if err == nil && !held && name != ruleset.DefaultTable {
			dead = append(dead, name)
			continue
		}
		other := Other{Table: name, Running: held || err != nil, PID: pid}
		if other.Listens, err = t.Listens(name); err != nil {
			return dead, []finding.Finding{noNftables(err)}
		}
		facts.Others = append(facts.Others, other)
	}
	chains, err := t.RefusingForwardChains()
	if err != nil {
		return dead, []finding.Finding{noNftables(err)}
	}
	facts.Refusing = append(facts.Refusing, chains...)
	if h.legacyFilter() {
		facts.Refusing = append(facts.Refusing, nftforeign.Chain{Name: "FORWARD"})
	}
	return dead, nil
}

func noNftables(err error) finding.Finding {
	return finding.Finding{
		Text:   fmt.Sprintf("the kernel's nftables cannot be used: %v", err),
		Remedy: "use a kernel with CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET (modprobe nf_tables)",
	}
}
