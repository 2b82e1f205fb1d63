// Package preflight checks the host at start and at each reload; a fault that it finds keeps the daemon from
// starting.
//
// Check decides, and is pure: facts in, findings out. Two types read the facts around it:
//
//   - Prober, for a daemon that starts or reloads: it claims the table's name, loads modules and makes the
//     kernel try the ruleset. It installs nothing.
//   - Examination, for "ftpgate doctor": it reads the same facts beside a running daemon or without one, and
//     changes nothing.
//
// Both ask Linux through host and tableReader, so that tests need no root.
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
	"ftpgate/internal/diagnose/doctor"
	"ftpgate/internal/diagnose/facts"
	"ftpgate/internal/kernel/nft"
	"ftpgate/internal/kernel/system"
)

// modprobeTime bounds the loading of kernel modules, which reads them from disk.
const modprobeTime = 10 * time.Second

// Prober checks the host for a daemon. It is for one goroutine, which calls Probe first.
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

// host has the functions of Linux that preflight needs, except nftables. Tests use one of their own.
type host struct {
	facts.Source
	claim         func(table string) (*system.Claim, error)
	mayAdminister func() (bool, error) // this process has CAP_NET_ADMIN
	loadModules   func(ctx context.Context, names ...string) []system.Module
	findModules   func(names ...string) []system.Module
	kernelRelease func() string // as in uname -r
	readDetails   func(*facts.Facts, []forward.Resolved)
}

// linux returns the host that this process runs on.
func linux() host {
	return host{Source: facts.Linux(), claim: system.ClaimName, mayAdminister: system.CanAdministerNetwork,
		loadModules: system.LoadModules, findModules: system.FindModules,
		kernelRelease: system.KernelRelease,
		readDetails:   (*facts.Facts).ReadDetails}
}

// tableReader reads and compares the nftables ruleset; facts.Tables is one.
type tableReader interface {
	facts.TableReader
	Compare(ruleset.Table) ([]string, error)
}

// tableProber is a tableReader that also makes the kernel try a table.
type tableProber interface {
	tableReader
	Probe(ruleset.Table) error
}

// NewProber returns a prober for the daemon whose table has this name. kernel and errOpen are the results of
// nft.Open. The caller owns the connection.
func NewProber(table string, kernel *nft.Conn, errOpen error) *Prober {
	p := &Prober{host: linux(), table: table, errOpen: errOpen}
	if errOpen == nil {
		p.tables = facts.Tables{Conn: kernel}
	}
	return p
}

// Claim claims the table's name for this process, so that no two daemons have one table. The claim is nil if
// there are findings.
func (p *Prober) Claim() (*system.Claim, []finding.Finding) {
	claim, err := p.host.claim(p.table)
	taken, isTaken := errors.AsType[*system.ClaimedError](err)
	change := "reload it"
	if p.table != ruleset.DefaultTable { // a forward's
		change = "start it again with other flags"
	}
	switch {
	case isTaken && taken.PID == 0:
		return nil, []finding.Finding{{
			Text:   fmt.Sprintf("table inet %s belongs to an ftpgate in another container", p.table),
			Remedy: "stop that one first; to change what it serves, " + change,
		}}
	case isTaken:
		return nil, []finding.Finding{{
			Text: fmt.Sprintf("table inet %s belongs to another running ftpgate (pid %d)", p.table,
				taken.PID),
			Remedy: fmt.Sprintf("stop that one first (kill %d); to change what it serves, %s",
				taken.PID, change),
		}}
	case err != nil:
		return nil, []finding.Finding{{Text: err.Error(), Remedy: "this should not happen; please report it"}}
	}
	return claim, nil
}

// Probe returns all obstacles to the forwards on this host, and sets Dead, Usable and Unusable. If this
// process cannot have tables, that is a finding only for forwards that need them.
func (p *Prober) Probe(ctx context.Context, forwards []forward.Resolved) []finding.Finding {
	found, findings := p.readHost(forwards)
	tables := p.probeTables(ctx, &found, forwards)
	faults := finding.Faults(tables)
	p.Usable, p.Unusable = len(faults) == 0, faults
	if p.Usable || slices.ContainsFunc(forwards, forward.Resolved.NeedsKernel) {
		findings = append(findings, tables...)
	}
	return append(findings, Check(found, forwards)...)
}

// Examine checks forwards whose addresses have changed against the current state of the host and its tables.
func (p *Prober) Examine(forwards []forward.Resolved) []finding.Finding {
	found, findings := p.readHost(forwards)
	if p.Usable {
		findings = append(findings, p.readTables(&found)...)
	}
	return append(findings, Check(found, forwards)...)
}

// Inspect returns the obstacles to the forwards' packets on this host while they are served: the findings of
// "ftpgate doctor", as warnings for the log. It reads more than Probe, and takes longer on a host with many
// rules. Any goroutine may call it.
func (p *Prober) Inspect(forwards []forward.Resolved) []finding.Finding {
	found := facts.Facts{Now: time.Now(), Running: true, PID: os.Getpid()}
	p.host.readDetails(&found, forwards)
	return doctor.AtStart(found, forwards)
}

// FilterRemedy names the chains of other programs that refuse forwarded connections by default, and how to
// accept those to the server, each by the program that made the chain; empty: there are none, or they cannot
// be read. Any goroutine may call it.
func (p *Prober) FilterRemedy(server string) string {
	if p.tables == nil {
		return ""
	}
	chains, err := p.host.RefusingChains(p.tables)
	if err != nil {
		return ""
	}
	var remedies []string
	for _, c := range chains {
		remedies = append(remedies, c.String()+" refuses by default: "+facts.PassRemedy(c, server))
	}
	return strings.Join(remedies, "; ")
}

// readHost reads the facts that need no privilege. An unreadable fact is a finding.
func (p *Prober) readHost(forwards []forward.Resolved) (found facts.Facts, findings []finding.Finding) {
	p.host.ReadHost(&found, func(at netip.AddrPort) bool {
		return !p.Ours(at) && slices.ContainsFunc(forwards, func(f forward.Resolved) bool {
			return f.Listen.Port == at.Port() || f.ServerPorts.Contains(at.Port())
		})
	})
	for _, u := range found.Unread {
		findings = append(findings, finding.Finding{Text: fmt.Sprintf("cannot read %s: %s", u.What, u.Why),
			Remedy: "see that /proc is mounted and readable"})
	}
	self := fmt.Sprintf("(pid %d)", os.Getpid())
	found.Listeners = slices.DeleteFunc(found.Listeners, func(l system.Listener) bool {
		// the relay's, for encrypted sessions that it passes through
		return strings.HasSuffix(l.Process, self)
	})
	return found, findings
}

// readTables reads nftables' facts, and finds the tables of dead ftpgates.
func (p *Prober) readTables(found *facts.Facts) []finding.Finding {
	var err error
	if p.Dead, err = p.host.ReadTables(found, p.tables, p.table); err != nil {
		return []finding.Finding{noNftables(err)}
	}
	return nil
}

func noNftables(err error) finding.Finding {
	return finding.Finding{
		Text:   fmt.Sprintf("the kernel's nftables cannot be used: %v", err),
		Remedy: "use a kernel with CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET (modprobe nf_tables)",
	}
}

// probeTables finds out whether this process can have the table that the forwards need.
func (p *Prober) probeTables(ctx context.Context, found *facts.Facts,
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
	if findings := p.readTables(found); len(findings) > 0 {
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
		findings = append(findings, tableRefused(p.host.kernelRelease(), err))
	}
	return findings
}

// tableRefused says why the kernel refuses a table. Linux 5.9 is the oldest that has all that a table needs:
// it rejects packets at prerouting.
func tableRefused(kernelRelease string, err error) finding.Finding {
	if !system.KernelBefore(kernelRelease, 5, 9) {
		return noNftables(err)
	}
	return finding.Finding{
		Text: fmt.Sprintf("the kernel, Linux %s, refuses the table that the forwards need: %v",
			kernelRelease, err),
		Remedy: "use Linux 5.9 or newer",
	}
}

// tryTable makes the kernel check the forwards' table without installing it.
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
var helperModules = [...]string{facts.ModuleHelper, facts.ModuleHelperNAT}

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
