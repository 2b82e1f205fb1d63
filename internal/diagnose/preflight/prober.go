// Package preflight checks the host at start and at each reload; a fault that it finds keeps the daemon from
// starting.
//
// Check decides, and is pure: facts in, findings out. Two types read the facts around it:
//
//   - Prober, for a daemon that starts or reloads: it claims the table's name, loads modules and has the
//     kernel try the ruleset. It installs nothing.
//   - Examination, for "ftpgate doctor": it reads the same facts beside a running daemon or without one, and
//     changes nothing.
//
// Both ask Linux by way of host and tableReader, so that tests need no root.
package preflight

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/kernel/nft"
	"ftpgate/internal/kernel/system"
)

// modprobeTime bounds the loading of kernel modules, which reads them from disk.
const modprobeTime = 10 * time.Second

// Prober looks at the host for a daemon. It is for one goroutine, which calls Probe first.
type Prober struct {
	Ours     func(netip.AddrPort) bool // reports whether this process listens there; set before Probe
	Dead     []string                  // tables of ftpgates that no longer run, to be removed
	Usable   bool                      // this process can have tables in the kernel
	Unusable []finding.Finding         // why not

	host    host
	table   string
	tables  tableProber // nil: no connection to nftables
	errOpen error       // why there is none
}

// tableProber has the kernel try a table, beside what a tableReader does.
type tableProber interface {
	tableReader
	Probe(ruleset.Table) error
}

// NewProber returns a prober for the daemon whose table has this name. kernel and errOpen are what nft.Open
// returned. The connection stays the caller's.
func NewProber(table string, kernel *nft.Conn, errOpen error) *Prober {
	p := &Prober{host: linux(), table: table, errOpen: errOpen}
	if errOpen == nil {
		p.tables = tables{kernel}
	}
	return p
}

// Claim makes the table's name this process's own, so that no two daemons have one table. The claim is nil if
// there are findings.
func (p *Prober) Claim() (*system.Claim, []finding.Finding) {
	claim, err := p.host.claim(p.table)
	taken, isTaken := errors.AsType[*system.ClaimedError](err)
	switch {
	case isTaken && taken.PID == 0:
		return nil, []finding.Finding{{
			Text:   fmt.Sprintf("table inet %s belongs to an ftpgate in another container", p.table),
			Remedy: "stop that one first; to change what it serves, reload it",
		}}
	case isTaken:
		return nil, []finding.Finding{{
			Text: fmt.Sprintf("table inet %s belongs to another running ftpgate (pid %d)", p.table,
				taken.PID),
			Remedy: fmt.Sprintf("stop that one first (kill %d); to change what it serves, reload it",
				taken.PID),
		}}
	case err != nil:
		return nil, []finding.Finding{{Text: err.Error(), Remedy: "this should not happen; please report it"}}
	}
	return claim, nil
}

// Probe returns everything that is in the forwards' way on this host, and sets Dead, Usable and Unusable.
// Where this process cannot have tables, that is a finding only for forwards that need them.
func (p *Prober) Probe(ctx context.Context, forwards []forward.Resolved) []finding.Finding {
	facts, findings := p.host.readHost(forwards, p.Ours)
	tables := p.probeTables(ctx, &facts, forwards)
	faults := finding.Faults(tables)
	p.Usable, p.Unusable = len(faults) == 0, faults
	if p.Usable || slices.ContainsFunc(forwards, forward.Resolved.NeedsKernel) {
		findings = append(findings, tables...)
	}
	return append(findings, Check(facts, forwards)...)
}

// Examine checks forwards whose addresses have changed against the host and its tables as they are now.
func (p *Prober) Examine(forwards []forward.Resolved) []finding.Finding {
	facts, findings := p.host.readHost(forwards, p.Ours)
	if p.Usable {
		findings = append(findings, p.readTables(&facts)...)
	}
	return append(findings, Check(facts, forwards)...)
}

// readTables reads nftables' facts, and finds the tables of dead ftpgates.
func (p *Prober) readTables(facts *Facts) (findings []finding.Finding) {
	p.Dead, findings = p.host.readTables(p.tables, p.table, facts)
	return findings
}

// probeTables finds out whether this process can have the table that the forwards need.
func (p *Prober) probeTables(ctx context.Context, facts *Facts,
	forwards []forward.Resolved) []finding.Finding {
	if ok, err := p.host.mayAdminister(); err != nil || !ok {
		return []finding.Finding{{
			Text:   "this process may not change the network: it lacks CAP_NET_ADMIN",
			Remedy: finding.RemedyPrivilege,
		}}
	}
	if p.tables == nil {
		return []finding.Finding{noNftables(p.errOpen)}
	}
	if findings := p.readTables(facts); len(findings) > 0 {
		return findings
	}
	findings := p.loadHelper(ctx, forwards)
	switch err := p.tryTable(forwards); {
	case err == nil:
	case errors.Is(err, unix.EPERM):
		findings = append(findings, finding.Finding{
			Text:   "the kernel does not let this process change nftables, though it has CAP_NET_ADMIN",
			Remedy: "run it in the host's user namespace, or in a network namespace of its own",
		})
	case finding.Worst(findings) != finding.Fault: // else the missing helper explains it
		findings = append(findings, noNftables(err))
	}
	return findings
}

// tryTable has the kernel check the forwards' table without installing it.
func (p *Prober) tryTable(forwards []forward.Resolved) error {
	table := ruleset.Build(p.table, forwards)
	for i := range table.Sets { // one element needs as much of the kernel as all of them
		elements := table.Sets[i].Elements
		table.Sets[i].Elements = elements[:min(1, len(elements))]
	}
	return p.tables.Probe(table)
}

// helperModules are the helper that kernel tracking needs, and its part that rewrites the dialogue: nothing
// loads that one by itself, and without it the helper fails silently.
var helperModules = [...]string{"nf_conntrack_ftp", "nf_nat_ftp"}

// loadHelper loads the modules of kernel tracking, if a forward has that.
func (p *Prober) loadHelper(ctx context.Context, forwards []forward.Resolved) []finding.Finding {
	tracked := func(f forward.Resolved) bool { return f.Tracking == forward.TrackingKernel }
	if !slices.ContainsFunc(forwards, tracked) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, modprobeTime)
	defer cancel()
	var findings []finding.Finding
	for _, m := range p.host.loadModules(ctx, helperModules[:]...) {
		if m.State == system.ModuleMissing || m.State == system.ModuleUnknown {
			findings = append(findings, noHelper(m))
		}
	}
	return findings
}

func noHelper(m system.Module) finding.Finding {
	f := finding.Finding{
		Text: fmt.Sprintf("tracking kernel needs the kernel module %s, which is %s: %s", m.Name, m.State,
			m.Why),
		Remedy: finding.RemedyModules + ", or use tracking none with server_ports",
	}
	if m.State == system.ModuleUnknown {
		f.Severity = finding.Warning
	}
	return f
}
