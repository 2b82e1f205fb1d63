package doctor

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/diagnose/facts"
	"ftpgate/internal/kernel/system"
)

// kernel checks what an old kernel cannot do. That it refuses a table is preflight's finding.
func (x *examination) kernel() {
	if !system.KernelBefore(x.facts.Kernel, 5, 12) || !x.any(forward.Forward.MayUseKernel) {
		return
	}
	x.add(CodeKernel, finding.Info, fmt.Sprintf("the kernel is Linux %s: when another program removes "+
		"ftpgate's table (nft flush ruleset), transfers that the kernel carries break", x.facts.Kernel),
		"use Linux 5.12 or newer, or a firewall that replaces only its own tables")
}

// capabilities checks whether this process may use the kernel's data path.
func (x *examination) capabilities() {
	r := x.facts.Rights
	if r == nil || len(x.forwards) == 0 {
		return
	}
	const remedy = finding.RemedyPrivilege
	lacks := x.process() + " may not change the network (it lacks CAP_NET_ADMIN)"
	switch {
	case r.Administer:
		x.note(CodeRights, finding.OK, "%s may change the network (CAP_NET_ADMIN)", x.process())
	case x.any(forward.Forward.NeedsKernel):
		x.add(CodeRights, finding.Fault, lacks+", and forwards need that: "+
			x.names(forward.Forward.NeedsKernel), remedy)
	case x.any(forward.Forward.MayUseKernel):
		x.add(CodeRights, finding.Warning, lacks+
			": ftpgate itself relays all data, more slowly than the kernel", remedy)
	default:
		x.note(CodeRights, finding.OK, "%s, and no forward needs that", lacks)
	}
	for _, f := range x.forwards {
		if x.forward = f; !x.facts.Running && !r.BindLow && f.Tracking == forward.TrackingProxy &&
			int(f.Listen.Port) < x.lowestOpenPort() {
			x.add(CodeLowPort, finding.Fault,
				fmt.Sprintf("%s may not listen at port %d: below %d that takes CAP_NET_BIND_SERVICE",
					x.process(), f.Listen.Port, x.lowestOpenPort()), remedy+"; or listen at a higher port")
		}
	}
	x.forward = forward.Resolved{}
}

// process names the process whose capabilities are checked.
func (x *examination) process() string {
	if x.facts.Running && x.facts.PID != 0 {
		return fmt.Sprintf("the running ftpgate (pid %d)", x.facts.PID)
	}
	return "this process"
}

// names lists the forwards that meet a condition, up to a readable number.
func (x *examination) names(of func(forward.Forward) bool) string {
	const most = 4
	var names []string
	for _, f := range x.forwards {
		if of(f.Forward) {
			names = append(names, strconv.Quote(f.Name))
		}
	}
	if len(names) > most {
		names = append(names[:most], fmt.Sprintf("and %d more", len(names)-most))
	}
	return strings.Join(names, ", ")
}

// lowestOpenPort is the lowest port that needs no capability.
func (x *examination) lowestOpenPort() int {
	if n, known := x.sysctl(facts.SysctlLowest); known {
		return n
	}
	return 1024 // ip-sysctl.rst, ip_unprivileged_port_start
}

// sysctl returns the value of a sysctl that is a number.
func (x *examination) sysctl(name string) (int, bool) {
	n, err := strconv.Atoi(x.facts.Sysctls[name])
	return n, err == nil
}

// modules checks whether the kernel has the modules that the forwards need.
func (x *examination) modules() {
	wanted := map[string]bool{}
	level := finding.Warning
	if x.any(forward.Forward.MayUseKernel) {
		wanted[facts.ModuleTables], wanted[facts.ModuleConntrack], wanted[facts.ModuleNAT] = true, true, true
	}
	if x.any(forward.Forward.NeedsKernel) {
		level = finding.Fault
	}
	sound := len(x.facts.Modules) > 0 && len(wanted) > 0
	for _, m := range x.facts.Modules {
		helper := m.Name == facts.ModuleHelper || m.Name == facts.ModuleHelperNAT
		if m.State == system.ModulePresent || !wanted[m.Name] && !(helper && x.any(tracksInKernel)) {
			continue
		}
		at, who := level, "the kernel's data path"
		if helper {
			at, who = finding.Fault, "tracking kernel ("+x.names(tracksInKernel)+")"
		}
		switch {
		case m.Loadable:
			x.note(CodeModules, finding.Info, "the kernel module %s is not loaded yet: ftpgate loads it "+
				"when it starts", m.Name)
		case m.State == system.ModuleUnknown:
			sound = false
			x.add(CodeModules, finding.Info, "this process cannot tell whether the kernel has "+m.Name,
				"ftpgate checks that when it starts as root")
		default:
			sound = false
			x.add(CodeModules, at, fmt.Sprintf("the kernel has no %s, which %s needs", m.Name, who),
				finding.RemedyModules)
		}
	}
	if sound {
		x.note(CodeModules, finding.OK, "the kernel has the modules that the forwards need")
	}
}

// How many descriptors a session needs: its two control connections, and for a relayed transfer a listener,
// two data connections and the pipe of splice(2).
const (
	sessionFiles  = 2
	transferFiles = 5
	ownFiles      = 64 // of the process itself
	fewSessions   = 1000
)

// openFiles checks whether there are descriptors for the sessions that are allowed.
func (x *examination) openFiles() {
	if x.facts.Rights == nil || x.facts.Rights.OpenFiles == 0 {
		return
	}
	most, each, asked := 0, sessionFiles, false
	for _, f := range x.forwards {
		if f.Tracking != forward.TrackingProxy {
			continue
		}
		most = max(most, f.Limits.OrDefault().Sessions)
		asked = asked || f.Limits.Sessions != 0
		if !f.MayUseKernel() || !x.facts.Rights.Administer {
			each = sessionFiles + transferFiles
		}
	}
	limit := x.facts.Rights.OpenFiles
	need := uint64(most*each + ownFiles)
	switch {
	case most == 0:
	case limit < need:
		room := (max(limit, ownFiles) - ownFiles) / uint64(each)
		level := finding.Info // a default, which the operator did not choose
		if asked || room < fewSessions {
			level = finding.Warning
		}
		x.add(CodeOpenFiles, level,
			fmt.Sprintf("%s may have %d open files, enough for about %d sessions, and max_sessions allows %d",
				x.process(), limit, room, most),
			fmt.Sprintf("LimitNOFILE=%d in the unit (ulimit -n), or a lower max_sessions", need))
	case limit > math.MaxInt32: // more than the kernel has (fs.nr_open)
		x.note(CodeOpenFiles, finding.OK, "open files are not limited")
	default:
		x.note(CodeOpenFiles, finding.OK, "%d open files are enough for the %d sessions that max_sessions "+
			"allows", limit, most)
	}
}

// legacy notes that iptables-legacy has rules, which nftables does not show.
func (x *examination) legacy() {
	if len(x.facts.Legacy) > 0 {
		x.add(CodeLegacy, finding.Info,
			"iptables-legacy has rules that nftables does not show, in the tables "+
				strings.Join(x.facts.Legacy, ", "),
			"check them (iptables-legacy-save): a helper, a DNAT or a drop at a forward's ports is in "+
				"its way")
	}
}
