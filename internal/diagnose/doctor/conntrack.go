package doctor

import (
	"fmt"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

const (
	// fillWarn is from what fill on a table is warned of, in percent: what is left is gone within minutes
	// when something goes wrong.
	fillWarn = 80
	// fillFault is where new connections are dropped already, now and then.
	fillFault = 98
	// sessionFlows is what a session has in conntrack: its two control connections, and one for data.
	sessionFlows = 3
)

// conntrack looks at the tables of connections, and at what is told of them.
func (e *examiner) conntrack() {
	if !e.any(forward.Forward.MayUseKernel) {
		return
	}
	count, known := e.number(sysctlCount)
	limit, limited := e.number(sysctlMax)
	if known && limited && limit > 0 {
		e.fill(CodeTable, "connections", sysctlMax, count, limit)
		e.small(limit)
	}
	if !e.any(tracksInKernel) {
		return
	}
	if limit, limited := e.number(sysctlExpectMax); limited && limit > 0 && e.facts.Expectations >= 0 {
		e.fill(CodeExpected, "expected data connections", sysctlExpectMax, e.facts.Expectations, limit)
	}
	e.off(CodeAccounting, sysctlAcct, "sessions of tracking kernel have no byte counts")
	e.off(CodeEvents, sysctlEvents, "sessions of tracking kernel are not seen")
}

func tracksInKernel(f forward.Forward) bool { return f.Tracking == forward.TrackingKernel }

// fill judges how full a table is.
func (e *examiner) fill(code string, what, sysctl string, count, limit int) {
	percent := count * 100 / limit
	text := fmt.Sprintf("the kernel's table of %s is %d%% full (%d of %d)", what, percent, count, limit)
	remedy := fmt.Sprintf("sysctl -w %s=%d, and look who opens so many (conntrack -L)", sysctl, 2*limit)
	switch {
	case percent >= fillFault:
		e.say(code, finding.Fault, text+": new connections are dropped without a word", remedy)
	case percent >= fillWarn:
		e.say(code, finding.Warning, text+": when it is full, new connections are dropped without a word", remedy)
	default:
		e.say(code, finding.OK, text, "")
	}
}

// small warns of a table in which the sessions that are allowed have no room.
func (e *examiner) small(limit int) {
	most, asked := 0, false
	for _, f := range e.forwards {
		if f.Tracking == forward.TrackingProxy && f.MayUseKernel() {
			most = max(most, f.Limits.OrDefault().Sessions)
			asked = asked || f.Limits.Sessions != 0
		}
	}
	if need := most * sessionFlows; need > limit {
		level := finding.Info // nobody has asked for so many sessions
		if asked || limit < fewSessions*sessionFlows {
			level = finding.Warning
		}
		e.say(CodeTableSmall, level, fmt.Sprintf("the kernel follows %d connections at most, and the %d sessions that max_sessions allows take up to %d",
			limit, most, need), fmt.Sprintf("sysctl -w %s=%d, or a lower max_sessions", sysctlMax, 2*need))
	}
}

// off says that a switch is off which ftpgate switches on when it starts.
func (e *examiner) off(code string, sysctl, loses string) {
	switch value, known := e.number(sysctl); {
	case !known:
	case value != 0:
		e.say(code, finding.OK, sysctl+" is on", "")
	case e.facts.Running:
		e.say(code, finding.Warning, sysctl+" is off: "+loses, "sysctl -w "+sysctl+"=1; connections that are up are not counted afterwards")
	default:
		e.say(code, finding.Info, sysctl+" is off: as long as it is, "+loses, "ftpgate switches it on when it starts; or sysctl -w "+sysctl+"=1")
	}
}

const (
	// silentControl is how long a control connection is silent during one transfer, in seconds: whoever
	// forgets it within an hour breaks the transfer of a large file at its end.
	silentControl = 3600
	// silentData is how long a data connection may be silent, in seconds: a tape, a slow disk.
	silentData = 300
	// shortIdle is the least that RFC 1123 section 4.1.3.2 asks of a server's idle time, in minutes.
	shortIdle = 5
)

// times looks how long silence is borne.
func (e *examiner) times() {
	seconds, known := e.number(sysctlEstablished)
	remedy := fmt.Sprintf("sysctl -w %s=86400", sysctlEstablished)
	switch {
	case !known:
	case e.of.Tracking != forward.TrackingProxy && seconds < silentControl:
		e.say(CodeTimeout, finding.Warning, fmt.Sprintf("conntrack forgets connections after %d s of silence: a transfer that takes longer ends without its reply, "+
			"since the control connection is silent meanwhile", seconds), remedy)
	case e.of.Tracking == forward.TrackingProxy && e.carries() && seconds < silentData:
		e.say(CodeTimeout, finding.Warning, fmt.Sprintf("conntrack forgets connections after %d s of silence: a transfer that pauses for longer breaks off", seconds), remedy)
	}
	if idle := e.of.Limits.Idle; e.of.Tracking == forward.TrackingProxy && idle > 0 && idle.Minutes() < shortIdle {
		e.say(CodeIdle, finding.Info, fmt.Sprintf("idle_time is %s: clients that keep a session open between transfers lose it", idle),
			fmt.Sprintf("idle_time = \"%dm\" or more (RFC 1123 section 4.1.3.2)", shortIdle))
	}
}
