package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/dnat"
	"ftpgate/internal/gateway"
	"ftpgate/internal/nft"
	"ftpgate/internal/ruleset"
	"ftpgate/internal/system"
)

// modprobeTime bounds the loading of kernel modules, which reads them from disk.
const modprobeTime = 10 * time.Second

// prober looks at the host before anything is changed, and gives the gateway the kernel's tables where
// they can be had.
type prober struct {
	kernel   *nft.Conn // nil: there is no connection to nftables
	errOpen  error     // why
	table    string
	ours     func(netip.AddrPort) bool // tells this process's own listeners
	dead     []string                  // tables of ftpgates that no longer run, to be swept
	usable   bool                      // this process can have tables in the kernel
	unusable []gateway.Finding         // why not
	unlogged bool                      // the kernel has tables, but logs no packets
}

func openProber(table string) *prober {
	p := &prober{table: table}
	p.kernel, p.errOpen = nft.Open()
	return p
}

func (p *prober) close() {
	if p.kernel != nil {
		p.kernel.Close()
	}
}

// Apply installs a table as nft.Conn does, where that is possible at all: the gateway asks for it
// only where a forward can do without (probe).
func (p *prober) Apply(t ruleset.Table, sweep ...string) error {
	if !p.usable {
		return nil
	}
	if p.unlogged {
		t = t.WithoutLog()
	}
	return p.kernel.Apply(t, sweep...)
}

// Remove takes a table away, if there can be one.
func (p *prober) Remove(name string) error {
	if !p.usable {
		return nil
	}
	return p.kernel.Remove(name)
}

// claim makes the table's name this process's own, so that two daemons cannot have one table.
func (p *prober) claim() (*system.Claim, []gateway.Finding) {
	claim, err := system.ClaimName(p.table)
	var taken *system.ClaimedError
	switch {
	case errors.As(err, &taken):
		return nil, []gateway.Finding{{
			Text:   fmt.Sprintf("table inet %s belongs to another running ftpgate (pid %d)", p.table, taken.PID),
			Remedy: fmt.Sprintf("stop that one first (kill %d); to change what it serves, reload it", taken.PID),
		}}
	case err != nil:
		return nil, []gateway.Finding{{Text: err.Error(), Remedy: "this should not happen; please report it"}}
	}
	return claim, nil
}

// probe returns everything that is in the forwards' way on this host. What keeps the kernel's tables
// from use is in the way of those only that cannot do without.
func (p *prober) probe(ctx context.Context, forwards []dnat.Resolved) []gateway.Finding {
	facts, findings := p.hostFacts(forwards)
	tables := p.tables(ctx, &facts, forwards)
	faults := slices.DeleteFunc(slices.Clone(tables), func(f gateway.Finding) bool { return f.Warning })
	p.usable, p.unusable = len(faults) == 0, faults
	if p.usable || slices.ContainsFunc(forwards, func(f dnat.Resolved) bool { return f.NeedsKernel() }) {
		findings = append(findings, tables...)
	}
	return append(findings, gateway.Examine(facts, forwards)...)
}

// tables looks whether this process can have what the forwards' table needs.
func (p *prober) tables(ctx context.Context, facts *gateway.Facts, forwards []dnat.Resolved) []gateway.Finding {
	if ok, err := system.CanAdministerNetwork(); err != nil || !ok {
		return []gateway.Finding{{
			Text:   "this process may not change the network: it lacks CAP_NET_ADMIN",
			Remedy: "run it as root, or as a unit with AmbientCapabilities=CAP_NET_ADMIN",
		}}
	}
	if p.kernel == nil {
		return []gateway.Finding{noNftables(p.errOpen)}
	}
	if findings := p.kernelFacts(facts); len(findings) > 0 {
		return findings
	}
	return p.features(ctx, forwards)
}

// examine holds forwards whose addresses have changed against what the host and its tables look like now.
func (p *prober) examine(forwards []dnat.Resolved) []gateway.Finding {
	facts, findings := p.hostFacts(forwards)
	if p.usable {
		findings = append(findings, p.kernelFacts(&facts)...)
	}
	return append(findings, gateway.Examine(facts, forwards)...)
}

// hostFacts reads what anybody may read.
func (p *prober) hostFacts(forwards []dnat.Resolved) (gateway.Facts, []gateway.Finding) {
	var facts gateway.Facts
	var findings []gateway.Finding
	check := func(err error) {
		if err != nil {
			findings = append(findings, gateway.Finding{Text: err.Error(), Remedy: "see that /proc is mounted and readable"})
		}
	}
	var err error
	facts.Addresses, err = system.Addresses()
	check(err)
	facts.Interfaces, err = system.Interfaces()
	check(err)
	listeners, err := system.Listeners()
	check(err)
	// Only those that matter are asked for their programs: that reads every process's descriptors.
	listeners = slices.DeleteFunc(listeners, func(l system.Listener) bool {
		return p.ours(l.Addr) || !slices.ContainsFunc(forwards, func(f dnat.Resolved) bool {
			return f.Listen.Port == l.Addr.Port() || f.ServerPorts.Contains(l.Addr.Port())
		})
	})
	self := fmt.Sprintf("(pid %d)", os.Getpid())
	for _, l := range system.WithProcesses(listeners...) {
		if strings.HasSuffix(l.Process, self) { // of passages that the relay carries
			continue
		}
		facts.Listeners = append(facts.Listeners, gateway.Listener{Addr: l.Addr, Dual: l.Dual, Who: l.Process})
	}
	return facts, findings
}

// kernelFacts reads the tables: other ftpgates', and what may refuse forwarded packets.
func (p *prober) kernelFacts(facts *gateway.Facts) []gateway.Finding {
	tables, err := p.kernel.Tables()
	if err != nil {
		return []gateway.Finding{noNftables(err)}
	}
	p.dead = nil
	for _, name := range tables {
		if name == p.table {
			continue
		}
		held, pid, err := system.Claimed(name)
		if err == nil && !held && name != nft.Prefix {
			p.dead = append(p.dead, name)
			continue
		}
		other := gateway.Other{Table: name, Running: held || err != nil, PID: pid}
		if other.Listens, err = p.kernel.Listens(name); err != nil {
			return []gateway.Finding{noNftables(err)}
		}
		facts.Others = append(facts.Others, other)
	}
	chains, err := p.kernel.RefusingForwardChains()
	if err != nil {
		return []gateway.Finding{noNftables(err)}
	}
	for _, c := range chains {
		facts.Refusing = append(facts.Refusing, gateway.Refusing(c))
	}
	if system.LegacyIptablesFilter() {
		facts.Refusing = append(facts.Refusing, gateway.Refusing{Chain: "FORWARD"})
	}
	return nil
}

func noNftables(err error) gateway.Finding {
	return gateway.Finding{
		Text:   fmt.Sprintf("the kernel's nftables cannot be used: %v", err),
		Remedy: "use a kernel with CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET (modprobe nf_tables)",
	}
}

// helperModules are what kernel tracking needs: the helper, and its part that rewrites the
// dialogue, which nothing loads by itself and whose absence nothing tells.
var helperModules = []string{"nf_conntrack_ftp", "nf_nat_ftp"}

// features asks the kernel for what the forwards' table needs.
func (p *prober) features(ctx context.Context, forwards []dnat.Resolved) []gateway.Finding {
	var findings []gateway.Finding
	if slices.ContainsFunc(forwards, func(f dnat.Resolved) bool { return f.Tracking == dnat.TrackingKernel }) {
		ctx, cancel := context.WithTimeout(ctx, modprobeTime)
		defer cancel()
		for _, m := range system.LoadModules(ctx, helperModules...) {
			if m.State == system.ModuleMissing || m.State == system.ModuleUnknown {
				findings = append(findings, noHelper(m))
			}
		}
	}
	// Elements need nothing of the kernel that one of them does not.
	table := ruleset.Build(p.table, forwards)
	for i := range table.Sets {
		elements := table.Sets[i].Elements
		table.Sets[i].Elements = elements[:min(1, len(elements))]
	}
	err := p.kernel.Probe(table)
	if p.unlogged = err != nil && p.kernel.Probe(table.WithoutLog()) == nil; p.unlogged {
		err = nil // and the observer says what follows from that
	}
	switch {
	case err == nil:
	case errors.Is(err, unix.EPERM):
		findings = append(findings, gateway.Finding{
			Text:   "the kernel does not let this process change nftables, though it has CAP_NET_ADMIN",
			Remedy: "run it in the host's user namespace, or in a network namespace of its own",
		})
	case !alreadyFound(findings):
		findings = append(findings, noNftables(err))
	}
	return findings
}

// alreadyFound tells whether a fault of the helper explains why a table is refused.
func alreadyFound(findings []gateway.Finding) bool {
	return slices.ContainsFunc(findings, func(f gateway.Finding) bool { return !f.Warning })
}

func noHelper(m system.Module) gateway.Finding {
	f := gateway.Finding{
		Text: fmt.Sprintf("tracking kernel needs the kernel module %s, which is %s: %s", m.Name, m.State, m.Why),
		Remedy: "install the kernel's extra modules (linux-modules-extra-$(uname -r), kernel-modules-extra), " +
			"or use tracking none with server_ports",
		Warning: m.State == system.ModuleUnknown,
	}
	return f
}
