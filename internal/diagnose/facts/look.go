// Package look reads the facts that package doctor judges, from the host that it runs on.
//
// It changes nothing: it loads no module, writes no switch and opens no connection. What it may not read it
// names among the facts.
package facts

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/diagnose/doctor"
	"ftpgate/internal/kernel/nft"
	"ftpgate/internal/kernel/nftforeign"
	"ftpgate/internal/kernel/system"
)

// Facts returns what the host looks like to forwards, in the network namespace of the calling thread. table
// is the one that a running ftpgate would have. given are the facts that others have judged (Host, Names,
// Tables, TLS, Expiries, Lookups) and the time; they are passed on.
func Facts(table string, forwards []forward.Resolved, given doctor.Facts) doctor.Facts {
	l := looking{facts: given, forwards: forwards}
	l.running(table)
	l.rights()
	l.links()
	l.routes()
	l.switches()
	l.modules()
	l.listeners()
	l.foreign()
	return l.facts
}

// looking is one look.
type looking struct {
	facts    doctor.Facts
	forwards []forward.Resolved
}

// unread takes down what could not be read, and tells whether that is so.
func (l *looking) unread(what string, err error) bool {
	if err != nil {
		l.facts.Unread = append(l.facts.Unread, doctor.Unread{What: what, Why: strings.TrimPrefix(err.Error(), "system: ")})
	}
	return err != nil
}

// running looks for an ftpgate that serves.
func (l *looking) running(table string) {
	held, pid, err := system.Claimed(table)
	if l.unread("whether an ftpgate is running", err) {
		return
	}
	l.facts.Running, l.facts.PID = held, pid
}

// rights are those of the process that serves, or would.
func (l *looking) rights() {
	read, what := system.OwnRights, "what this process may do"
	if l.facts.Running {
		what = "what the running ftpgate may do"
		read = func() (system.Rights, error) { return system.RightsOf(l.facts.PID) }
	}
	r, err := read()
	if l.unread(what, err) {
		return
	}
	rights := doctor.Rights(r)
	l.facts.Rights = &rights
}

func (l *looking) links() {
	links, err := system.Links()
	if l.unread("the interfaces", err) {
		return
	}
	for _, link := range links {
		l.facts.Links = append(l.facts.Links, doctor.Link(link))
	}
}

func (l *looking) routes() {
	for _, to := range doctor.Destinations(l.forwards) {
		r, err := system.RouteTo(to)
		if l.unread(fmt.Sprintf("the route to %s", to), err) {
			continue
		}
		if l.facts.Routes == nil {
			l.facts.Routes = map[netip.Addr]doctor.Route{}
		}
		l.facts.Routes[to] = doctor.Route(r)
	}
}

func (l *looking) switches() {
	values, unread := system.Sysctls(doctor.Sysctls(l.facts.Links)...)
	l.facts.Sysctls = values
	for _, u := range unread {
		l.facts.Unread = append(l.facts.Unread, doctor.Unread(u))
	}
	l.facts.Expectations = -1
	if !l.any(func(f forward.Forward) bool { return f.Tracking == forward.TrackingKernel }) {
		return
	}
	n, err := system.Expectations()
	if errors.Is(err, fs.ErrNotExist) { // a kernel without that file: nobody can read it
		err = errors.New("the kernel has no /proc/net/nf_conntrack_expect")
	}
	if !l.unread("how many data connections the kernel expects", err) {
		l.facts.Expectations = n
	}
}

func (l *looking) any(is func(forward.Forward) bool) bool {
	return slices.ContainsFunc(l.forwards, func(f forward.Resolved) bool { return is(f.Forward) })
}

func (l *looking) modules() {
	for _, m := range system.FindModules(doctor.Modules()...) {
		l.facts.Modules = append(l.facts.Modules, doctor.Module{
			Name: m.Name, Present: m.State == system.ModulePresent, Unknown: m.State == system.ModuleUnknown, Loadable: m.Loadable})
	}
}

// listeners reads those that matter: asking for their programs reads every process's descriptors.
func (l *looking) listeners() {
	all, err := system.Listeners()
	if l.unread("which programs listen", err) {
		return
	}
	all = slices.DeleteFunc(all, func(s system.Listener) bool {
		return !l.any(func(f forward.Forward) bool {
			return f.Listen.Port == s.Addr.Port() || f.DataPorts().Contains(s.Addr.Port())
		})
	})
	l.facts.Listeners = []doctor.Listener{} // known, and maybe none
	for _, s := range system.WithProcesses(all...) {
		l.facts.Listeners = append(l.facts.Listeners, doctor.Listener{Addr: s.Addr, Dual: s.Dual, Who: s.Process,
			Ours: l.facts.PID != 0 && strings.HasSuffix(s.Process, fmt.Sprintf("(pid %d)", l.facts.PID))})
	}
}

// foreign reads other programs' tables. Asking a kernel without nf_tables would have it loaded.
func (l *looking) foreign() {
	legacy, err := system.LegacyTables()
	if !l.unread("what iptables-legacy has", err) {
		l.facts.Legacy = legacy
	}
	if slices.ContainsFunc(l.facts.Modules, func(m doctor.Module) bool { return m.Name == "nf_tables" && !m.Present && !m.Unknown }) {
		return
	}
	const what = "what other programs' nftables tables do"
	c, err := nft.Open()
	if l.unread(what, err) {
		return
	}
	defer c.Close()
	found, err := nftforeign.Read(c)
	if l.unread(what, err) {
		return
	}
	for _, r := range found.Rules {
		l.facts.Rules = append(l.facts.Rules, doctor.Rule{Family: r.Family, Table: r.Table, Chain: r.Chain, Owner: r.Owner,
			Hook: r.Hook, Priority: r.Priority, Act: doctor.Act(r.Act), Helper: r.Helper, Template: r.Template,
			To: r.To, Ports: r.Ports, Narrow: r.Narrow})
	}
	for _, in := range found.Inputs {
		l.facts.Inputs = append(l.facts.Inputs, doctor.Input{Family: in.Family, Table: in.Table, Chain: in.Chain,
			Owner: in.Owner, Ports: in.Ports, Interfaces: in.Interfaces})
	}
}
