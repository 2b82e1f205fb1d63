package facts

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/nftforeign"
	"ftpgate/internal/kernel/system"
)

// ReadDetails adds the facts that only doctor checks, in the network namespace of the calling thread. Call it
// after Source has read its facts and the caller has set its own (Now, Host, Names, Tables, TLS, Expiries,
// Lookups).
func (f *Facts) ReadDetails(forwards []forward.Resolved) {
	f.rights()
	set(f, "the interfaces", &f.Links, system.Links)
	f.routes(forwards)
	values, unread := system.Sysctls(sysctls(f.Links)...)
	f.Sysctls, f.Unread = values, append(f.Unread, unread...)
	f.expectations(forwards)
	f.Kernel = system.KernelRelease()
	f.Modules = system.FindModules(Modules()...)
	f.foreign()
}

// rights reads those of the running ftpgate, else of this process.
func (f *Facts) rights() {
	read, what := system.OwnRights, "what this process may do"
	if f.Running {
		what = "what the running ftpgate may do"
		read = func() (system.Rights, error) { return system.RightsOf(f.PID) }
	}
	if rights, err := read(); !f.failed(what, err) {
		f.Rights = &rights
	}
}

func (f *Facts) routes(forwards []forward.Resolved) {
	f.Routes = map[netip.Addr]system.Route{}
	for _, to := range Destinations(forwards) {
		if route, err := system.RouteTo(to); !f.failed(fmt.Sprintf("the route to %s", to), err) {
			f.Routes[to] = route
		}
	}
}

// expectations counts the data connections that the kernel's helper expects. Only forwards with kernel
// tracking have any.
func (f *Facts) expectations(forwards []forward.Resolved) {
	f.Expectations = -1
	tracked := func(f forward.Resolved) bool { return f.Tracking == forward.TrackingKernel }
	if !slices.ContainsFunc(forwards, tracked) {
		return
	}
	n, err := system.Expectations()
	if errors.Is(err, fs.ErrNotExist) { // even root cannot read it
		err = errors.New("the kernel has no /proc/net/nf_conntrack_expect")
	}
	if !f.failed("how many data connections the kernel expects", err) {
		f.Expectations = n
	}
}

// foreign reads other programs' tables. It does not ask a kernel without nf_tables, which would load the
// module.
func (f *Facts) foreign() {
	set(f, "what iptables-legacy has", &f.Legacy, system.LegacyTables)
	missing := func(m system.Module) bool { return m.Name == ModuleTables && m.State == system.ModuleMissing }
	if slices.ContainsFunc(f.Modules, missing) {
		return
	}
	rules, inputs, err := nftforeign.Read()
	if !f.failed("what other programs' nftables tables do", err) {
		f.Rules, f.Inputs = rules, inputs
	}
}
