// Package doctor says what on a host is in the way of forwards, before a client meets it.
//
// It is pure: the caller reads the facts (internal/system, internal/nft), and what other packages have
// already judged (gateway.Examine, secure.Keys.Load) is passed in and not judged again. It changes nothing,
// asks nobody, and a fact that could not be read is a finding of its own and no fault.
package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"ftpgate/internal/control/tlskeys"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

// The codes of findings name what was looked at. They are part of the interface, and so are those of certificates,
// which are made of the key that they are about ("tls_cert", "tls_ca").
const (
	CodeHost       = "host"            // what the gateway itself finds before it starts (gateway.Examine)
	CodeName       = "name_resolution" // what the gateway itself says of names (gateway.Resolve)
	CodeNameSlow   = "name_slow"
	CodeNameMany   = "name_several_addresses"
	CodeNameIPv6   = "name_only_ipv6"
	CodeTables     = "kernel_tables" // what nftables says of being looked at
	CodeRights     = "capabilities"
	CodeLowPort    = "low_port"
	CodeModules    = "kernel_modules"
	CodeOpenFiles  = "open_files"
	CodeForwarding = "ip_forward"
	CodeReverse    = "rp_filter"
	CodeTable      = "conntrack_table"
	CodeTableSmall = "conntrack_max"
	CodeExpected   = "expectation_table"
	CodeAccounting = "conntrack_acct"
	CodeEvents     = "conntrack_events"
	CodeTimeout    = "conntrack_timeout"
	CodeIdle       = "idle_time"
	CodeHelper     = "helper_foreign"
	CodeHelperSoon = "helper_too_early"
	CodeHelperAuto = "helper_automatic"
	CodeSequence   = "sequence_adjustment"
	CodeUntracked  = "untracked"
	CodeElsewhere  = "translated_elsewhere"
	CodeInput      = "input_refused"
	CodeLegacy     = "iptables_legacy"
	CodeListen     = "listen_taken"
	CodeNotServed  = "not_listening"
	CodePassive    = "passive_ports"
	CodeRoute      = "route"
	CodeMTU        = "mtu"
	CodeValid      = "certificate"
	CodeUnread     = "not_read"
)

// Examine returns what is to be said of forwards on a host: of the host first, then of each forward. What
// is sound comes as findings of level OK.
func Examine(facts Facts, forwards []forward.Resolved) []finding.Finding {
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
		e.say(CodeUnread, finding.Info, fmt.Sprintf("%s could not be read: %s", u.What, u.Why), "run ftpgate doctor as root")
	}
	return e.findings
}

// examiner carries the facts, and the forward that is looked at.
type examiner struct {
	facts    Facts
	forwards []forward.Resolved
	of       forward.Resolved // zero: the host
	findings []finding.Finding
}

func (e *examiner) say(code string, level finding.Severity, text, remedy string) {
	e.findings = append(e.findings, finding.Finding{Code: code, Severity: level, Forward: e.of.Name, Text: text, Remedy: remedy})
}

// any tells whether something is so of one of the forwards.
func (e *examiner) any(is func(forward.Forward) bool) bool {
	return slices.ContainsFunc(e.forwards, func(f forward.Resolved) bool { return is(f.Forward) })
}

// carries tells whether the kernel carries data of the forward that is looked at, as far as can be told.
func (e *examiner) carries() bool {
	return e.of.NeedsKernel() || e.of.MayUseKernel() && (e.facts.Rights == nil || e.facts.Rights.Administer)
}

// judged takes over what other packages have found. A sentence names the key that it is about.
func (e *examiner) judged() {
	for _, group := range []struct {
		code  string
		found []finding.Finding
	}{{CodeHost, e.facts.Host}, {CodeName, e.facts.Names}, {CodeTables, e.facts.Tables}, {"", e.facts.TLS}} {
		for _, f := range group.found {
			f.Code = cmp.Or(group.code, strings.ReplaceAll(f.Key, ".", "_"))
			f.Text, f.Key = f.Sentence(), ""
			e.findings = append(e.findings, f)
		}
	}
	for _, x := range e.facts.Expiries {
		e.expiry(x)
	}
}

// expiry says until when a certificate is good, unless something is said of it already.
func (e *examiner) expiry(x tlskeys.Expiry) {
	said := slices.ContainsFunc(e.facts.TLS, func(f finding.Finding) bool { return strings.Contains(f.Text, x.File) })
	left := x.NotAfter.Sub(e.facts.Now)
	if said || left < 0 || len(x.Forwards) == 0 {
		return
	}
	e.findings = append(e.findings, finding.Finding{Code: CodeValid, Severity: finding.OK, Forward: x.Forwards[0],
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
