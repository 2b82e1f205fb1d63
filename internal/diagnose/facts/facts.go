// Package facts reads the facts that package doctor judges from the host that it runs on.
//
// It changes nothing: it loads no module, writes no sysctl and opens no connection. It lists what it cannot
// read among the facts.
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
	"ftpgate/internal/kernel/nftforeign"
	"ftpgate/internal/kernel/system"
)

// Read returns what the host looks like to the forwards, in the network namespace of the calling thread.
// table is the name that a running ftpgate's table has. given holds the facts that the caller knows already
// (Now, Host, Names, Tables, TLS, Expiries, Lookups); they are passed on.
func Read(table string, forwards []forward.Resolved, given doctor.Facts) doctor.Facts {
	r := reader{facts: given, forwards: forwards}
	r.running(table)
	r.rights()
	set(&r, "the interfaces", &r.facts.Links, system.Links)
	r.routes()
	r.sysctls()
	r.expectations()
	r.facts.Modules = system.FindModules(doctor.Modules()...)
	r.listeners()
	r.foreign()
	return r.facts
}

type reader struct {
	facts    doctor.Facts
	forwards []forward.Resolved
}

// failed adds a read that failed to Unread, and reports whether it did.
func (r *reader) failed(what string, err error) bool {
	if err != nil {
		why := strings.TrimPrefix(err.Error(), "system: ")
		r.facts.Unread = append(r.facts.Unread, system.Unread{What: what, Why: why})
	}
	return err != nil
}

// set stores what a system call returned, unless it failed.
func set[T any](r *reader, what string, fact *T, read func() (T, error)) {
	if value, err := read(); !r.failed(what, err) {
		*fact = value
	}
}

// running finds out whether an ftpgate serves.
func (r *reader) running(table string) {
	if held, pid, err := system.Claimed(table); !r.failed("whether an ftpgate is running", err) {
		r.facts.Running, r.facts.PID = held, pid
	}
}

// rights reads those of the running ftpgate, else of this process.
func (r *reader) rights() {
	read, what := system.OwnRights, "what this process may do"
	if r.facts.Running {
		what = "what the running ftpgate may do"
		read = func() (system.Rights, error) { return system.RightsOf(r.facts.PID) }
	}
	if rights, err := read(); !r.failed(what, err) {
		r.facts.Rights = &rights
	}
}

func (r *reader) routes() {
	r.facts.Routes = map[netip.Addr]system.Route{}
	for _, to := range doctor.Destinations(r.forwards) {
		if route, err := system.RouteTo(to); !r.failed(fmt.Sprintf("the route to %s", to), err) {
			r.facts.Routes[to] = route
		}
	}
}

func (r *reader) sysctls() {
	values, unread := system.Sysctls(doctor.Sysctls(r.facts.Links)...)
	r.facts.Sysctls = values
	r.facts.Unread = append(r.facts.Unread, unread...)
}

// expectations counts the data connections that the kernel's helper expects. Only forwards with kernel
// tracking have any.
func (r *reader) expectations() {
	r.facts.Expectations = -1
	if !r.any(func(f forward.Forward) bool { return f.Tracking == forward.TrackingKernel }) {
		return
	}
	n, err := system.Expectations()
	if errors.Is(err, fs.ErrNotExist) { // root cannot read it either
		err = errors.New("the kernel has no /proc/net/nf_conntrack_expect")
	}
	if !r.failed("how many data connections the kernel expects", err) {
		r.facts.Expectations = n
	}
}

// any reports whether a condition holds for one of the forwards.
func (r *reader) any(is func(forward.Forward) bool) bool {
	return slices.ContainsFunc(r.forwards, func(f forward.Resolved) bool { return is(f.Forward) })
}

// listeners reads the listeners at the forwards' ports. It asks for the programs of those only, because that
// reads the descriptors of every process.
func (r *reader) listeners() {
	all, err := system.Listeners()
	if r.failed("which programs listen", err) {
		return
	}
	all = slices.DeleteFunc(all, func(l system.Listener) bool {
		return !r.any(func(f forward.Forward) bool {
			return f.Listen.Port == l.Addr.Port() || f.DataPorts().Contains(l.Addr.Port())
		})
	})
	r.facts.Listeners = append([]system.Listener{}, system.WithProcesses(all...)...) // not nil: it was read
}

// foreign reads other programs' tables. It does not ask a kernel without nf_tables, which would load the
// module.
func (r *reader) foreign() {
	set(r, "what iptables-legacy has", &r.facts.Legacy, system.LegacyTables)
	missing := func(m system.Module) bool { return m.Name == "nf_tables" && m.State == system.ModuleMissing }
	if slices.ContainsFunc(r.facts.Modules, missing) {
		return
	}
	rules, inputs, err := nftforeign.Read()
	if !r.failed("what other programs' nftables tables do", err) {
		r.facts.Rules, r.facts.Inputs = rules, inputs
	}
}
