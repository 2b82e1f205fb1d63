// Package doctor says what on a host is in the way of forwards, before a client meets it.
//
// It is pure: the caller reads the facts (internal/system, internal/nft), and what other packages have
// already judged (gateway.Examine, secure.Keys.Load) is passed in and not judged again. It changes nothing,
// asks nobody, and a fact that could not be read is a finding of its own and no fault.
package doctor

import (
	"fmt"
	"slices"
	"strings"

	"ftpgate/internal/core/forward"
)

// Level is how much a finding matters.
type Level string

// The levels.
const (
	OK      Level = "ok"      // looked at, and sound
	Info    Level = "info"    // good to know, or could not be looked at
	Warning Level = "warning" // may be in a client's way
	Fault   Level = "fault"   // is in every client's way
)

// Finding is one thing that was looked at.
type Finding struct {
	Code    Code   `json:"code"`
	Level   Level  `json:"level"`
	Forward string `json:"forward,omitempty"` // the forward's name; empty where it is about the host
	Text    string `json:"text"`              // what is so, in one sentence
	Remedy  string `json:"remedy,omitempty"`  // what to do about it; empty where nothing is to be done
}

// Code names what was looked at. Codes are part of the interface; those of certificates are made of the key
// of the forward that they are about ("tls_cert", "tls_ca").
type Code string

// The codes.
const (
	CodeHost       Code = "host"            // what the gateway itself finds before it starts (gateway.Examine)
	CodeName       Code = "name_resolution" // what the gateway itself says of names (gateway.Resolve)
	CodeNameSlow   Code = "name_slow"
	CodeNameMany   Code = "name_several_addresses"
	CodeNameIPv6   Code = "name_only_ipv6"
	CodeTables     Code = "kernel_tables" // what nftables says of being looked at
	CodeRights     Code = "capabilities"
	CodeLowPort    Code = "low_port"
	CodeModules    Code = "kernel_modules"
	CodeOpenFiles  Code = "open_files"
	CodeForwarding Code = "ip_forward"
	CodeReverse    Code = "rp_filter"
	CodeTable      Code = "conntrack_table"
	CodeTableSmall Code = "conntrack_max"
	CodeExpected   Code = "expectation_table"
	CodeAccounting Code = "conntrack_acct"
	CodeEvents     Code = "conntrack_events"
	CodeTimeout    Code = "conntrack_timeout"
	CodeIdle       Code = "idle_time"
	CodeHelper     Code = "helper_foreign"
	CodeHelperSoon Code = "helper_too_early"
	CodeHelperAuto Code = "helper_automatic"
	CodeSequence   Code = "sequence_adjustment"
	CodeUntracked  Code = "untracked"
	CodeElsewhere  Code = "translated_elsewhere"
	CodeInput      Code = "input_refused"
	CodeLegacy     Code = "iptables_legacy"
	CodeListen     Code = "listen_taken"
	CodeNotServed  Code = "not_listening"
	CodePassive    Code = "passive_ports"
	CodeRoute      Code = "route"
	CodeMTU        Code = "mtu"
	CodeValid      Code = "certificate"
	CodeUnread     Code = "not_read"
)

// Examine returns what is to be said of forwards on a host: of the host first, then of each forward. What
// is sound comes as findings of level OK.
func Examine(facts Facts, forwards []forward.Resolved) []Finding {
	e := examiner{facts: facts, forwards: forwards}
	e.judged()
	e.rights()
	e.modules()
	e.openFiles()
	e.conntrack()
	e.legacy()
	for _, f := range forwards {
		e.of = f
		e.listen()
		e.passive()
		e.name()
		e.routes()
		e.forwarding()
		e.reverse()
		e.times()
		e.foreign()
		e.inputs()
	}
	e.of = forward.Resolved{}
	for _, u := range facts.Unread {
		e.say(CodeUnread, Info, fmt.Sprintf("%s could not be read: %s", u.What, u.Why), "run ftpgate doctor as root")
	}
	return e.findings
}

// Worst returns the highest level among the findings; OK where there is none.
func Worst(findings []Finding) Level {
	order := []Level{OK, Info, Warning, Fault}
	worst := 0
	for _, f := range findings {
		worst = max(worst, slices.Index(order, f.Level))
	}
	return order[worst]
}

// examiner carries the facts, and the forward that is looked at.
type examiner struct {
	facts    Facts
	forwards []forward.Resolved
	of       forward.Resolved // zero: the host
	findings []Finding
}

func (e *examiner) say(code Code, level Level, text, remedy string) {
	e.findings = append(e.findings, Finding{Code: code, Level: level, Forward: e.of.Name, Text: text, Remedy: remedy})
}

// any tells whether something is so of one of the forwards.
func (e *examiner) any(is func(forward.Forward) bool) bool {
	return slices.ContainsFunc(e.forwards, func(f forward.Resolved) bool { return is(f.Forward) })
}

// carries tells whether the kernel carries data of the forward that is looked at, as far as can be told.
func (e *examiner) carries() bool {
	return e.of.NeedsKernel() || e.of.MayUseKernel() && (e.facts.Rights == nil || e.facts.Rights.Administer)
}

// judged shows what others have found.
func (e *examiner) judged() {
	for _, j := range []struct {
		code  Code
		found []Judged
	}{{CodeHost, e.facts.Host}, {CodeName, e.facts.Names}, {CodeTables, e.facts.Tables}} {
		for _, f := range j.found {
			e.findings = append(e.findings, Finding{j.code, levelOf(f.Warning), f.Forward, f.Text, f.Remedy})
		}
	}
	for _, f := range e.facts.TLS {
		code := Code(strings.ReplaceAll(f.Key, ".", "_"))
		e.findings = append(e.findings, Finding{code, levelOf(f.Warning), f.Forward, f.Key + ": " + f.Text, f.Remedy})
	}
	for _, x := range e.facts.Expiries {
		e.expiry(x)
	}
}

func levelOf(warning bool) Level {
	if warning {
		return Warning
	}
	return Fault
}

// expiry says until when a certificate is good, unless something is said of it already.
func (e *examiner) expiry(x Expiry) {
	said := slices.ContainsFunc(e.facts.TLS, func(f TLSFault) bool { return strings.Contains(f.Text, x.File) })
	left := x.NotAfter.Sub(e.facts.Now)
	if said || left < 0 || len(x.Forwards) == 0 {
		return
	}
	e.findings = append(e.findings, Finding{Code: CodeValid, Level: OK, Forward: x.Forwards[0],
		Text: fmt.Sprintf("the certificate in %s is good until %s, for %s more", x.File,
			x.NotAfter.UTC().Format("2006-01-02"), plural(int(left.Hours()/24), "day"))})
}

// plural counts things.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
