// Package doctor makes the findings of "ftpgate doctor" about a host: the obstacles to forwards there.
//
// It only decides: the caller gives it the facts (package facts) and the findings of other packages
// (preflight, gateway, tlskeys), which it repeats without a second check. An unreadable fact is a finding of
// its own, and no fault.
//
// Facts hold the values that the readers return (packages system, nftforeign, tlskeys), without copies of
// their types: doctor uses those types and never calls what reads them, so that its tests need neither root
// nor a host.
package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"ftpgate/internal/control/tlskeys"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/diagnose/facts"
)

// The codes of findings name what was checked. They are part of the interface, and so are those of
// certificates, which contain their key ("tls_cert", "tls_ca").
const (
	CodeHost       = "host"            // a daemon's checks before it starts (preflight.Check)
	CodeName       = "name_resolution" // the gateway's findings about names
	CodeNameSlow   = "name_slow"
	CodeNameMany   = "name_several_addresses"
	CodeNameIPv6   = "name_only_ipv6"
	CodeTables     = "kernel_tables" // why nftables cannot be read
	CodeKernel     = "kernel_release"
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

// Examine checks the facts: those of the host first, then those of each forward. A sound fact is a finding of
// severity OK.
func Examine(facts facts.Facts, forwards []forward.Resolved) []finding.Finding {
	x := examination{facts: facts, forwards: forwards}
	x.addFindings()
	x.kernel()
	x.capabilities()
	x.modules()
	x.openFiles()
	x.conntrack()
	x.legacy()
	for _, f := range forwards {
		x.forward = f
		x.listen()
		x.passivePorts()
		x.serverName()
		x.routes()
		x.forwarding()
		x.reversePath()
		x.timeouts()
		x.foreignRules()
		x.inputChains()
	}
	x.forward = forward.Resolved{}
	for _, u := range facts.Unread {
		x.add(CodeUnread, finding.Info, fmt.Sprintf("%s could not be read: %s", u.What, u.Why),
			"run ftpgate doctor as root")
	}
	return x.findings
}

// examination is one Examine: the facts, and the forward that is being checked.
type examination struct {
	facts    facts.Facts
	forwards []forward.Resolved
	forward  forward.Resolved // zero: the host
	findings []finding.Finding
}

func (x *examination) add(code string, level finding.Severity, text, remedy string) {
	x.findings = append(x.findings, finding.Finding{Code: code, Severity: level, Forward: x.forward.Name,
		Text: text, Remedy: remedy})
}

// note adds a finding that needs no remedy.
func (x *examination) note(code string, level finding.Severity, format string, args ...any) {
	x.add(code, level, fmt.Sprintf(format, args...), "")
}

// any reports whether a condition holds for one of the forwards.
func (x *examination) any(is func(forward.Forward) bool) bool {
	return slices.ContainsFunc(x.forwards, func(f forward.Resolved) bool { return is(f.Forward) })
}

// kernelCarries reports whether the kernel carries the forward's data, as far as this process can know.
func (x *examination) kernelCarries() bool {
	return x.forward.NeedsKernel() || x.forward.MayUseKernel() &&
		(x.facts.Rights == nil || x.facts.Rights.Administer)
}

// relayCarries reports whether ftpgate itself carries the forward's data, or that of clients that encrypt it
// with the gateway.
func (x *examination) relayCarries() bool {
	usable := x.facts.Rights == nil || x.facts.Rights.Administer
	return x.forward.UsualPath(usable) != forward.DataKernel
}

// addFindings adds the findings of other packages. Their text then begins with their key.
func (x *examination) addFindings() {
	for _, group := range []struct {
		code  string
		found []finding.Finding
	}{{CodeHost, x.facts.Host}, {CodeName, x.facts.Names}, {CodeTables, x.facts.Tables}, {"", x.facts.TLS}} {
		for _, f := range group.found {
			f.Code = cmp.Or(group.code, strings.ReplaceAll(f.Key, ".", "_"))
			f.Text, f.Key = f.Sentence(), ""
			x.findings = append(x.findings, f)
		}
	}
	for _, cert := range x.facts.Expiries {
		x.expiry(cert)
	}
}

// expiry adds how long a certificate is valid, unless it has a finding already.
func (x *examination) expiry(cert tlskeys.Expiry) {
	named := func(f finding.Finding) bool { return strings.Contains(f.Text, cert.File) }
	left := cert.NotAfter.Sub(x.facts.Now)
	if left < 0 || len(cert.Forwards) == 0 || slices.ContainsFunc(x.facts.TLS, named) {
		return
	}
	x.findings = append(x.findings, finding.Finding{Code: CodeValid, Severity: finding.OK,
		Forward: cert.Forwards[0],
		Text: fmt.Sprintf("the certificate in %s is good until %s, for %s more", cert.File,
			cert.NotAfter.UTC().Format(time.DateOnly), finding.Plural(int(left.Hours()/24), "day"))})
}
