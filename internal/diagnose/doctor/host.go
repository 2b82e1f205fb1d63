package doctor

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/system"
)

const (
	moduleTables    = "nf_tables"
	moduleConntrack = "nf_conntrack"
	moduleNAT       = "nf_nat"
	moduleHelper    = "nf_conntrack_ftp"
	moduleHelperNAT = "nf_nat_ftp"
)

// rights looks whether the kernel can be had for data.
func (e *examiner) rights() {
	r := e.facts.Rights
	if r == nil || len(e.forwards) == 0 {
		return
	}
	const remedy = finding.RemedyPrivilege
	lacks := e.process() + " may not change the network (it lacks CAP_NET_ADMIN)"
	switch {
	case r.Administer:
		e.say(CodeRights, finding.OK, e.process()+" may change the network (CAP_NET_ADMIN)", "")
	case e.any(forward.Forward.NeedsKernel):
		e.say(CodeRights, finding.Fault, lacks+", and forwards need that: "+e.named(forward.Forward.NeedsKernel), remedy)
	case e.any(forward.Forward.MayUseKernel):
		e.say(CodeRights, finding.Warning, lacks+": ftpgate itself relays all data, more slowly than the kernel", remedy)
	default:
		e.say(CodeRights, finding.OK, lacks+", and no forward needs that", "")
	}
	for _, f := range e.forwards {
		if e.of = f; !e.facts.Running && !r.BindLow && f.Tracking == forward.TrackingProxy && int(f.Listen.Port) < e.lowest() {
			e.say(CodeLowPort, finding.Fault, fmt.Sprintf("%s may not listen at port %d: below %d that takes CAP_NET_BIND_SERVICE",
				e.process(), f.Listen.Port, e.lowest()), remedy+"; or listen at a higher port")
		}
	}
	e.of = forward.Resolved{}
}

// process names whose rights are looked at.
func (e *examiner) process() string {
	if e.facts.Running && e.facts.PID != 0 {
		return fmt.Sprintf("the running ftpgate (pid %d)", e.facts.PID)
	}
	return "this process"
}

// named lists forwards, as long as that can be read.
func (e *examiner) named(of func(forward.Forward) bool) string {
	const most = 4
	var names []string
	for _, f := range e.forwards {
		if of(f.Forward) {
			names = append(names, strconv.Quote(f.Name))
		}
	}
	if len(names) > most {
		names = append(names[:most], fmt.Sprintf("and %d more", len(names)-most))
	}
	return strings.Join(names, ", ")
}

// lowest is the first port that everybody may listen at.
func (e *examiner) lowest() int {
	if n, known := e.number(sysctlLowest); known {
		return n
	}
	return 1024 // ip-sysctl.rst, ip_unprivileged_port_start
}

// number returns the value of a switch.
func (e *examiner) number(name string) (int, bool) {
	n, err := strconv.Atoi(e.facts.Sysctls[name])
	return n, err == nil
}

// modules looks for what the kernel must have.
func (e *examiner) modules() {
	wanted := map[string]bool{}
	use, level := "the kernel's data path", finding.Warning
	if e.any(forward.Forward.MayUseKernel) {
		wanted[moduleTables], wanted[moduleConntrack], wanted[moduleNAT] = true, true, true
	}
	if e.any(forward.Forward.NeedsKernel) {
		level = finding.Fault
	}
	tracked := func(f forward.Forward) bool { return f.Tracking == forward.TrackingKernel }
	sound := len(e.facts.Modules) > 0 && len(wanted) > 0
	for _, m := range e.facts.Modules {
		helper := m.Name == moduleHelper || m.Name == moduleHelperNAT
		if m.State == system.ModulePresent || !wanted[m.Name] && !(helper && e.any(tracked)) {
			continue
		}
		at, who := level, use
		if helper {
			at, who = finding.Fault, "tracking kernel ("+e.named(tracked)+")"
		}
		switch {
		case m.Loadable:
			e.say(CodeModules, finding.Info, fmt.Sprintf("the kernel module %s is not loaded yet, and is loaded when ftpgate starts", m.Name), "")
		case m.State == system.ModuleUnknown:
			sound = false
			e.say(CodeModules, finding.Info, "whether the kernel has "+m.Name+" cannot be told from here", "ftpgate looks for it when it starts as root")
		default:
			sound = false
			e.say(CodeModules, at, fmt.Sprintf("the kernel has no %s, which %s needs", m.Name, who),
				"install the kernel's extra modules (linux-modules-extra-$(uname -r), kernel-modules-extra)")
		}
	}
	if sound {
		e.say(CodeModules, finding.OK, "the kernel has the modules that the forwards need", "")
	}
}

// The descriptors of a session: its two control connections, and with a relayed transfer a listener, two
// data connections and the pipe that splice(2) needs.
const (
	sessionFiles  = 2
	transferFiles = 5
	ownFiles      = 64 // of the process itself
	fewSessions   = 1000
)

// openFiles looks whether the sessions that are allowed have descriptors.
func (e *examiner) openFiles() {
	if e.facts.Rights == nil || e.facts.Rights.OpenFiles == 0 {
		return
	}
	most, each, asked := 0, sessionFiles, false
	for _, f := range e.forwards {
		if f.Tracking != forward.TrackingProxy {
			continue
		}
		most = max(most, f.Limits.OrDefault().Sessions)
		asked = asked || f.Limits.Sessions != 0
		if !f.MayUseKernel() || !e.facts.Rights.Administer {
			each = sessionFiles + transferFiles
		}
	}
	limit := e.facts.Rights.OpenFiles
	need := uint64(most*each + ownFiles)
	switch {
	case most == 0:
	case limit < need:
		room := (max(limit, ownFiles) - ownFiles) / uint64(each)
		level := finding.Info // nobody has asked for so many sessions
		if asked || room < fewSessions {
			level = finding.Warning
		}
		e.say(CodeOpenFiles, level, fmt.Sprintf("%s may have %d open files, enough for about %d sessions, and max_sessions allows %d",
			e.process(), limit, room, most), fmt.Sprintf("LimitNOFILE=%d in the unit (ulimit -n), or a lower max_sessions", need))
	case limit > math.MaxInt32: // more than the kernel has (fs.nr_open)
		e.say(CodeOpenFiles, finding.OK, "open files are not limited", "")
	default:
		e.say(CodeOpenFiles, finding.OK, fmt.Sprintf("%d open files are enough for the %d sessions that max_sessions allows", limit, most), "")
	}
}

// legacy says what cannot be seen.
func (e *examiner) legacy() {
	if len(e.facts.Legacy) > 0 {
		e.say(CodeLegacy, finding.Info, "iptables-legacy has rules that nftables does not show, in the tables "+strings.Join(e.facts.Legacy, ", "),
			"look at them (iptables-legacy-save): a helper, a DNAT or a drop at the ports of a forward is in its way")
	}
}
