package doctor

import (
	"slices"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/diagnose/facts"
)

// mostAtStart bounds the warnings of a start: a missing route may be missing for thousands of forwards.
const mostAtStart = 20

// atStart are the findings that a daemon warns of when it starts: obstacles to packets of clients or servers.
// preflight, the gateway and tlskeys have reported theirs before.
var atStart = [...]string{CodeInput, CodeElsewhere, CodeRoute, CodeReverse, CodeForwarding, CodeUntracked,
	CodeHelper, CodeHelperSoon, CodeHelperAuto, CodeSequence}

// AtStart returns Examine's findings about the forwards' packets for the log of a daemon that has started.
// None is a fault: the forwards are served.
func AtStart(found facts.Facts, forwards []forward.Resolved) []finding.Finding {
	var warnings []finding.Finding
	for _, f := range Examine(found, forwards) {
		if f.Severity <= finding.Warning && slices.Contains(atStart[:], f.Code) {
			f.Severity = finding.Warning
			warnings = append(warnings, f)
		}
	}
	warnings = slices.Compact(warnings) // two rules may be the same
	if more := len(warnings) - mostAtStart; more > 0 {
		warnings = append(warnings[:mostAtStart], finding.Finding{Severity: finding.Warning,
			Text:   finding.Plural(more, "more finding") + " about the host are not listed here",
			Remedy: "ftpgate doctor lists them"})
	}
	return warnings
}
