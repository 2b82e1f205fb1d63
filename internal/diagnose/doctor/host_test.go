package doctor

import (
	"slices"
	"testing"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/diagnose/facts"
	"ftpgate/internal/kernel/system"
)

const kernel, none = forward.TrackingKernel, forward.TrackingNone

func lacking(f *Facts, _ *forward.Resolved) { f.Rights.Administer = false }

func running(f *Facts, _ *forward.Resolved) { f.Running, f.PID = true, 77 }

// module replaces a kernel module.
func module(m system.Module) func(*Facts, *forward.Resolved) {
	return func(f *Facts, _ *forward.Resolved) {
		f.Modules[slices.IndexFunc(f.Modules, func(o system.Module) bool { return o.Name == m.Name })] = m
	}
}

func TestCapabilities(t *testing.T) {
	run(t, []provoked{
		{"no right, relayed", 0, lacking, CodeRights, finding.Warning,
			"this process may not change the network", "CAP_NET_ADMIN"},
		{"no right, needed", kernel, lacking, CodeRights, finding.Fault, `forwards need that: "archive"`,
			"AmbientCapabilities"},
		{"no right, not needed", 0, both(lacking, relayed), CodeRights, finding.OK, "no forward needs that",
			""},
		{"no right of the one that runs", none, both(lacking, running), CodeRights, finding.Fault,
			"the running ftpgate (pid 77) may not", ""},
		{"a low port", 0, func(f *Facts, r *forward.Resolved) { f.Rights.BindLow, r.Listen.Port = false, 21 },
			CodeLowPort, finding.Fault, "listen at port 21: below 1024", "higher port"},
		{"a low port for every user", 0, func(f *Facts, r *forward.Resolved) {
			f.Rights.BindLow, r.Listen.Port, f.Sysctls[facts.SysctlLowest] = false, 21, "21"
		}, CodeListen, finding.OK, "", ""},
	})
}

func TestKernel(t *testing.T) {
	release := func(name string) func(*Facts, *forward.Resolved) {
		return func(f *Facts, _ *forward.Resolved) { f.Kernel = name }
	}
	for _, tracking := range []forward.Tracking{forward.TrackingProxy, kernel, none} {
		run(t, []provoked{{"old", tracking, release("5.10.0-32-amd64"), CodeKernel, finding.Info,
			"the kernel is Linux 5.10.0-32-amd64: when another program removes ftpgate's table",
			"Linux 5.12"}})
	}
	for _, silent := range []func(*Facts, *forward.Resolved){release("5.12.0"),
		both(release("5.10.0"), relayed)} {
		f, r := sound(), testForward(forward.TrackingProxy)
		silent(&f, &r)
		for _, got := range Examine(f, []forward.Resolved{r}) {
			if got.Code == CodeKernel {
				t.Errorf("Linux %s, data %v: got %+v; want nothing", f.Kernel, r.Data, got)
			}
		}
	}
}

func TestModules(t *testing.T) {
	run(t, []provoked{
		{"no nf_tables", 0, module(system.Module{Name: "nf_tables", State: system.ModuleMissing}),
			CodeModules, finding.Warning, "the kernel has no nf_tables, which the kernel's data path needs",
			"kernel-modules-extra"},
		{"no nf_tables, needed", none, module(system.Module{Name: "nf_tables", State: system.ModuleMissing}),
			CodeModules, finding.Fault, "no nf_tables", ""},
		{"no nf_tables, relayed", 0, both(relayed,
			module(system.Module{Name: "nf_tables", State: system.ModuleMissing})), CodeListen, finding.OK,
			"", ""},
		{"no helper", kernel, module(system.Module{Name: "nf_nat_ftp", State: system.ModuleMissing}),
			CodeModules, finding.Fault, `nf_nat_ftp, which tracking kernel ("archive") needs`, ""},
		{"no helper, not needed", 0, module(system.Module{Name: "nf_nat_ftp", State: system.ModuleMissing}),
			CodeModules, finding.OK, "", ""},
		{"a helper to be loaded", kernel, module(system.Module{Name: "nf_nat_ftp",
			State: system.ModuleMissing, Loadable: true}), CodeModules, finding.Info,
			"ftpgate loads it when it starts", ""},
		{"a helper that may be there", kernel,
			module(system.Module{Name: "nf_nat_ftp", State: system.ModuleUnknown}), CodeModules, finding.Info,
			"cannot tell whether the kernel has", ""},
	})
}

func TestOpenFiles(t *testing.T) {
	run(t, []provoked{
		{"few files", 0, func(f *Facts, _ *forward.Resolved) { f.Rights.OpenFiles = 1024 }, CodeOpenFiles,
			finding.Warning, "1024 open files, enough for about 480 sessions, and max_sessions allows 20000",
			"LimitNOFILE=40064"},
		{"few files for the relay", 0, both(relayed,
			func(f *Facts, r *forward.Resolved) { f.Rights.OpenFiles, r.Limits.Sessions = 1024, 500 }),
			CodeOpenFiles, finding.Warning, "about 137 sessions", "LimitNOFILE=3564"},
		{"fewer files than by default", 0, func(f *Facts, _ *forward.Resolved) { f.Rights.OpenFiles = 20000 },
			CodeOpenFiles, finding.Info, "about 9968 sessions", ""},
		{"no limit of files", 0, func(f *Facts, _ *forward.Resolved) { f.Rights.OpenFiles = 1<<64 - 1 },
			CodeOpenFiles, finding.OK, "not limited", ""},
		{"hardly a file", 0, func(f *Facts, _ *forward.Resolved) { f.Rights.OpenFiles = 16 }, CodeOpenFiles,
			finding.Warning, "about 0 sessions", ""},
	})
}

func TestConntrack(t *testing.T) {
	run(t, []provoked{
		{"a table filling", 0, sysctl(facts.SysctlCount, "209716"), CodeTable, finding.Warning,
			"80% full (209716 of 262144)", "nf_conntrack_max=524288"},
		{"a table almost filling", 0, sysctl(facts.SysctlCount, "207000"), CodeTable, finding.OK, "78% full",
			""},
		{"a full table", 0, sysctl(facts.SysctlCount, "262144"), CodeTable, finding.Fault,
			"are dropped silently",
			""},
		{"a small table", 0, sysctl(facts.SysctlMax, "8192"), CodeTableSmall, finding.Info,
			"follows 8192 connections at most, and the 20000 sessions", "nf_conntrack_max=120000"},
		{"a table too small for what is asked for", 0,
			both(sysctl(facts.SysctlMax, "8192"), func(_ *Facts,
				r *forward.Resolved) {
				r.Limits.Sessions = 5000
			}),
			CodeTableSmall, finding.Warning, "the 5000 sessions that max_sessions allows take up to 15000",
			"nf_conntrack_max=30000"},
		{"a tiny table", 0, sysctl(facts.SysctlMax, "1024"), CodeTableSmall, finding.Warning,
			"follows 1024 connections", ""},
		{"expectations", kernel, func(f *Facts, _ *forward.Resolved) { f.Expectations = 4000 }, CodeExpected,
			finding.Warning, "expected data connections is 97% full", facts.SysctlExpectMax},
		{"no accounting", kernel, both(running, sysctl(facts.SysctlAcct, "0")), CodeAccounting,
			finding.Warning,
			"no byte counts", "nf_conntrack_acct=1"},
		{"no accounting yet", kernel, sysctl(facts.SysctlAcct, "0"), CodeAccounting, finding.Info,
			"as long as it is", "when it starts"},
		{"no events", kernel, both(running, sysctl(facts.SysctlEvents, "0")), CodeEvents, finding.Warning,
			"are not seen", "nf_conntrack_events=1"},
	})
}

func TestAdopt(t *testing.T) {
	run(t, []provoked{
		{"older iptables", 0, func(f *Facts, _ *forward.Resolved) { f.Legacy = []string{"filter", "raw"} },
			CodeLegacy, finding.Info, "filter, raw", "iptables-legacy-save"},
		{"checked by the gateway", 0, func(f *Facts, _ *forward.Resolved) {
			f.Host = []finding.Finding{{Forward: "archive", Text: "a text", Remedy: "a remedy"}}
		}, CodeHost, finding.Fault, "a text", "a remedy"},
		{"checked: names", 0, func(f *Facts, _ *forward.Resolved) {
			f.Names = []finding.Finding{{Forward: "archive", Text: "a text", Remedy: "a remedy",
				Severity: finding.Warning}}
		}, CodeName, finding.Warning, "a text", "a remedy"},
		{"checked: tables", 0, func(f *Facts, _ *forward.Resolved) {
			f.Tables = []finding.Finding{{Text: "a text", Remedy: "a remedy", Severity: finding.Warning}}
		}, CodeTables, finding.Warning, "a text", "a remedy"},
		{"checked: TLS", 0, func(f *Facts, _ *forward.Resolved) {
			f.TLS = []finding.Finding{{Forward: "archive", Key: "tls.client_cert", Text: "a text",
				Remedy: "a remedy"}}
		}, "tls_client_cert", finding.Fault, "tls.client_cert: a text", "a remedy"},
	})
}
