package preflight

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

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/kernel/nft"
	"ftpgate/internal/kernel/nftforeign"
	"ftpgate/internal/kernel/system"
)

// modprobeTime bounds the loading of kernel modules, which reads them from disk.
const modprobeTime = 10 * time.Second

// Prober looks at the host before anything is changed, and gives the gateway the kernel's tables where
// they can be had.
type Prober struct {
	kernel   *nft.Conn // nil: there is no connection to nftables
	errOpen  error     // why
	table    string
	Ours     func(netip.AddrPort) bool // tells this process's own listeners
	Dead     []string                  // tables of ftpgates that no longer run, to be swept
	Usable   bool                      // this process can have tables in the kernel
	Unusable []finding.Finding         // why not
	unlogged bool                      // the kernel has tables, but logs no packets
}

func OpenProber(table string) *Prober {
	p := &Prober{table: table}
	p.kernel, p.errOpen = nft.Open()
	return p
}

func (p *Prober) Close() {
	if p.kernel != nil {
		p.kernel.Close()
	}
}

// Apply installs a table as nft.Conn does, where that is possible at all: the gateway asks for it
// only where a forward can do without (probe).
func (p *Prober) Apply(t ruleset.Table, sweep ...string) error {
	if !p.Usable {
		return nil
	}
	if p.unlogged {
		t = t.WithoutLog()
	}
	return p.kernel.Apply(t, sweep...)
}

// Remove takes a table away, if there can be one.
func (p *Prober) Remove(name string) error {
	if !p.Usable {
		return nil
	}
	return p.kernel.Remove(name)
}

// Claim makes the table's name this process's own, so that two daemons cannot have one table.
func (p *Prober) Claim() (*system.Claim, []finding.Finding) {
	claim, err := system.ClaimName(p.table)
	var taken *system.ClaimedError
	switch {
	case errors.As(err, &taken):
		return nil, []finding.Finding{{
			Text:   fmt.Sprintf("table inet %s belongs to another running ftpgate (pid %d)", p.table, taken.PID),
			Remedy: fmt.Sprintf("stop that one first (kill %d); to change what it serves, reload it", taken.PID),
		}}
	case err != nil:
		return nil, []finding.Finding{{Text: err.Error(), Remedy: "this should not happen; please report it"}}
	}
	return claim, nil
}

// Probe returns everything that is in the forwards' way on this host. What keeps the kernel's tables
// from use is in the way of those only that cannot do without.
func (p *Prober) Probe(ctx context.Context, forwards []forward.Resolved) []finding.Finding {
	facts, findings := p.hostFacts(forwards)
	tables := p.tables(ctx, &facts, forwards)
	faults := finding.Faults(tables)
	p.Usable, p.Unusable = len(faults) == 0, faults
	if p.Usable || slices.ContainsFunc(forwards, func(f forward.Resolved) bool { return f.NeedsKernel() }) {
		findings = append(findings, tables...)
	}
	return append(findings, Check(facts, forwards)...)
}

// tables looks whether this process can have what the forwards' table needs.
func (p *Prober) tables(ctx context.Context, facts *Facts, forwards []forward.Resolved) []finding.Finding {
	if ok, err := system.CanAdministerNetwork(); err != nil || !ok {
		return []finding.Finding{{
			Text:   "this process may not change the network: it lacks CAP_NET_ADMIN",
			Remedy: "run it as root, or as a unit with AmbientCapabilities=CAP_NET_ADMIN",
		}}
	}
	if p.kernel == nil {
		return []finding.Finding{noNftables(p.errOpen)}
	}
	if findings := p.kernelFacts(facts); len(findings) > 0 {
		return findings
	}
	return p.features(ctx, forwards)
}

// Examine holds forwards whose addresses have changed against what the host and its tables look like now.
func (p *Prober) Examine(forwards []forward.Resolved) []finding.Finding {
	facts, findings := p.hostFacts(forwards)
	if p.Usable {
		findings = append(findings, p.kernelFacts(&facts)...)
	}
	return append(findings, Check(facts, forwards)...)
}

// hostFacts reads what anybody may read.
func (p *Prober) hostFacts(forwards []forward.Resolved) (Facts, []finding.Finding) {
	var facts Facts
	var findings []finding.Finding
	check := func(err error) {
		if err != nil {
			findings = append(findings, finding.Finding{Text: err.Error(), Remedy: "see that /proc is mounted and readable"})
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
		return p.Ours(l.Addr) || !slices.ContainsFunc(forwards, func(f forward.Resolved) bool {
			return f.Listen.Port == l.Addr.Port() || f.ServerPorts.Contains(l.Addr.Port())
		})
	})
	self := fmt.Sprintf("(pid %d)", os.Getpid())
	for _, l := range system.WithProcesses(listeners...) {
		if strings.HasSuffix(l.Process, self) { // of passages that the relay carries
			continue
		}
		facts.Listeners = append(facts.Listeners, Listener{Addr: l.Addr, Dual: l.Dual, Who: l.Process})
	}
	return facts, findings
}

// kernelFacts reads the tables: other ftpgates', and what may refuse forwarded packets.
func (p *Prober) kernelFacts(facts *Facts) []finding.Finding {
	tables, err := p.kernel.Tables()
	if err != nil {
		return []finding.Finding{noNftables(err)}
	}
	p.Dead = nil
	for _, name := range tables {
		if name == p.table {
			continue
		}
		held, pid, err := system.Claimed(name)
		if err == nil && !held && name != ruleset.DefaultTable {
			p.Dead = append(p.Dead, name)
			continue
		}
		other := Other{Table: name, Running: held || err != nil, PID: pid}
		if other.Listens, err = p.kernel.Listens(name); err != nil {
			return []finding.Finding{noNftables(err)}
		}
		facts.Others = append(facts.Others, other)
	}
	chains, err := nftforeign.RefusingForwardChains()
	if err != nil {
		return []finding.Finding{noNftables(err)}
	}
	for _, c := range chains {
		facts.Refusing = append(facts.Refusing, Refusing{c.Family, c.Table, c.Name, c.Owner})
	}
	if system.LegacyIptablesFilter() {
		facts.Refusing = append(facts.Refusing, Refusing{Chain: "FORWARD"})
	}
	return nil
}

func noNftables(err error) finding.Finding {
	return finding.Finding{
		Text:   fmt.Sprintf("the kernel's nftables cannot be used: %v", err),
		Remedy: "use a kernel with CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET (modprobe nf_tables)",
	}
}

// helperModules are what kernel tracking needs: the helper, and its part that rewrites the
// dialogue, which nothing loads by itself and whose absence nothing tells.
var helperModules = []string{"nf_conntrack_ftp", "nf_nat_ftp"}

// features asks the kernel for what the forwards' table needs.
func (p *Prober) features(ctx context.Context, forwards []forward.Resolved) []finding.Finding {
	var findings []finding.Finding
	if slices.ContainsFunc(forwards, func(f forward.Resolved) bool { return f.Tracking == forward.TrackingKernel }) {
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
		findings = append(findings, finding.Finding{
			Text:   "the kernel does not let this process change nftables, though it has CAP_NET_ADMIN",
			Remedy: "run it in the host's user namespace, or in a network namespace of its own",
		})
	case !alreadyFound(findings):
		findings = append(findings, noNftables(err))
	}
	return findings
}

// alreadyFound tells whether a fault of the helper explains why a table is refused.
func alreadyFound(findings []finding.Finding) bool {
	return slices.ContainsFunc(findings, finding.Finding.IsFault)
}

func noHelper(m system.Module) finding.Finding {
	f := finding.Finding{
		Text: fmt.Sprintf("tracking kernel needs the kernel module %s, which is %s: %s", m.Name, m.State, m.Why),
		Remedy: "install the kernel's extra modules (linux-modules-extra-$(uname -r), kernel-modules-extra), " +
			"or use tracking none with server_ports",
	}
	if m.State == system.ModuleUnknown {
		f.Severity = finding.Warning
	}
	return f
}
