package doctor

import (
	"fmt"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/diagnose/facts"
)

const (
	// warnPercent is how full a table may be: in a failure the rest fills up within minutes.
	warnPercent = 80
	// faultPercent is the fill level at which the kernel begins to drop new connections.
	faultPercent = 98
	// sessionConnections is how many entries a session has in conntrack: two control connections, and one for
	// data.
	sessionConnections = 3
)

// conntrack checks the connection tables and their sysctls.
func (x *examination) conntrack() {
	if !x.any(forward.Forward.MayUseKernel) {
		return
	}
	count, known := x.sysctl(facts.SysctlCount)
	limit, limited := x.sysctl(facts.SysctlMax)
	if known && limited && limit > 0 {
		x.tableFill(CodeTable, "connections", facts.SysctlMax, count, limit)
		x.tableSize(limit)
	}
	if !x.any(tracksInKernel) {
		return
	}
	if limit, limited := x.sysctl(facts.SysctlExpectMax); limited && limit > 0 && x.facts.Expectations >= 0 {
		x.tableFill(CodeExpected, "expected data connections", facts.SysctlExpectMax, x.facts.Expectations,
			limit)
	}
	x.sysctlOff(CodeAccounting, facts.SysctlAcct, "sessions of tracking kernel have no byte counts")
	x.sysctlOff(CodeEvents, facts.SysctlEvents, "sessions of tracking kernel are not seen")
}

func tracksInKernel(f forward.Forward) bool { return f.Tracking == forward.TrackingKernel }

// tableFill checks how full a table is.
func (x *examination) tableFill(code string, what, sysctl string, count, limit int) {
	percent := count * 100 / limit
	text := fmt.Sprintf("the kernel's table of %s is %d%% full (%d of %d)", what, percent, count, limit)
	remedy := fmt.Sprintf("sysctl -w %s=%d, and find out who opens so many (conntrack -L)", sysctl, 2*limit)
	switch {
	case percent >= faultPercent:
		x.add(code, finding.Fault, text+": new connections are dropped silently", remedy)
	case percent >= warnPercent:
		x.add(code, finding.Warning, text+": when it is full, new connections are dropped silently", remedy)
	default:
		x.note(code, finding.OK, "%s", text)
	}
}

// tableSize warns of a table that is too small for the sessions that are allowed.
func (x *examination) tableSize(limit int) {
	most, asked := 0, false
	for _, f := range x.forwards {
		if f.Tracking == forward.TrackingProxy && f.MayUseKernel() {
			most = max(most, f.Limits.OrDefault().Sessions)
			asked = asked || f.Limits.Sessions != 0
		}
	}
	if need := most * sessionConnections; need > limit {
		level := finding.Info // a default, which the operator did not choose
		if asked || limit < fewSessions*sessionConnections {
			level = finding.Warning
		}
		x.add(CodeTableSmall, level,
			fmt.Sprintf("the kernel follows %d connections at most, and the %d sessions that max_sessions "+
				"allows take up to %d",
				limit, most, need), fmt.Sprintf("sysctl -w %s=%d, or a lower max_sessions", facts.SysctlMax,
				2*need))
	}
}

// sysctlOff checks a sysctl that ftpgate switches on when it starts.
func (x *examination) sysctlOff(code string, sysctl, loses string) {
	switch value, known := x.sysctl(sysctl); {
	case !known:
	case value != 0:
		x.note(code, finding.OK, "%s is on", sysctl)
	case x.facts.Running:
		x.add(code, finding.Warning, sysctl+" is off: "+loses,
			"sysctl -w "+sysctl+"=1; connections that exist already stay uncounted")
	default:
		x.add(code, finding.Info, sysctl+" is off: as long as it is, "+loses,
			"ftpgate switches it on when it starts; or sysctl -w "+sysctl+"=1")
	}
}

const (
	// minControlTimeout is how long a control connection may be silent during a transfer, in seconds. If
	// conntrack forgets it sooner, the transfer of a large file fails at its end.
	minControlTimeout = 3600
	// minDataTimeout is how long a data connection may be silent, in seconds: a tape, a slow disk.
	minDataTimeout = 300
	// minIdle is the least that RFC 1123 section 4.1.3.2 allows for a server's idle time, in minutes.
	minIdle = 5
)

// timeouts checks how long connections may be silent.
func (x *examination) timeouts() {
	seconds, known := x.sysctl(facts.SysctlEstablished)
	remedy := fmt.Sprintf("sysctl -w %s=86400", facts.SysctlEstablished)
	switch {
	case !known:
	case x.forward.Tracking != forward.TrackingProxy && seconds < minControlTimeout:
		x.add(CodeTimeout, finding.Warning,
			fmt.Sprintf("conntrack forgets connections after %d s of silence: a transfer that takes longer "+
				"ends without its reply, "+
				"since the control connection is silent meanwhile", seconds), remedy)
	case x.forward.Tracking == forward.TrackingProxy && x.kernelCarries() && seconds < minDataTimeout:
		x.add(CodeTimeout, finding.Warning,
			fmt.Sprintf("conntrack forgets connections after %d s of silence: a transfer that pauses for "+
				"longer breaks off", seconds), remedy)
	}
	if idle := x.forward.Limits.Idle; x.forward.Tracking == forward.TrackingProxy && idle > 0 &&
		idle.Minutes() < minIdle {
		x.add(CodeIdle, finding.Info,
			fmt.Sprintf("idle_time is %s: clients that keep a session open between transfers lose it", idle),
			fmt.Sprintf("idle_time = \"%dm\" or more (RFC 1123 section 4.1.3.2)", minIdle))
	}
}
