package servercheck

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

// setting is the judge's input besides the reports.
type setting struct {
	forward        forward.Forward
	user, password string
	active         bool // Options.Active is set
	limits         Timeouts
	name           string // the name that the certificate must have
	now            time.Time
}

// judge makes findings of one report. It does no I/O.
type judge struct {
	setting
	at       netip.AddrPort
	prefix   string           // the address, if there are several
	worst    finding.Severity // no finding is worse than this
	findings []finding.Finding
}

// judgeAll judges every address. One that does not answer is only a warning if another one does.
func judgeAll(set setting, reports []report) []finding.Finding {
	if len(reports) == 0 {
		return []finding.Finding{{Code: CodeAddress, Severity: finding.Fault, Forward: set.forward.Name,
			Text: fmt.Sprintf("the server %s has no address that the forward can lead to",
				quote(set.forward.Server.Host)),
			Remedy: "check `server` and this host's resolver (getent ahosts NAME)"}}
	}
	greets := func(r report) bool {
		return slices.ContainsFunc([]*attempt{r.clear, r.tls}, func(try *attempt) bool {
			return try != nil && try.greeting != nil && try.greeting.positive()
		})
	}
	answers := slices.ContainsFunc(reports, greets)
	var all []finding.Finding
	for _, r := range reports {
		j := &judge{setting: set, at: r.at}
		if len(reports) > 1 {
			j.prefix = r.at.String() + ": "
		}
		if answers && !greets(r) && set.forward.Tracking == forward.TrackingProxy {
			j.worst = finding.Warning
		}
		j.address(r)
		all = append(all, j.findings...)
	}
	return all
}

func (j *judge) address(r report) {
	main := r.tls
	if r.clear != nil {
		a, demanded := r.clear.demandsTLS()
		switch {
		case r.clear.implicit:
			j.onlyTLS(`the server waits for TLS from the first byte`, forward.ServerTLSImplicit)
		case demanded:
			j.onlyTLS("the server demands TLS: "+j.quoteReply(a), forward.ServerTLSRequired)
		default:
			main = r.clear
		}
	}
	if main != nil {
		j.attempt(main)
	}
	if main == r.clear && r.tls != nil {
		j.alsoTLS(r.tls)
	}
	if r.unfinished {
		j.add(CodeUnfinished, finding.Warning,
			"the check was interrupted or timed out; not everything was tested",
			"check the findings before this one: something answers slowly, or not at all")
	}
}

// attempt judges one way to speak with the server, in the order of the steps.
func (j *judge) attempt(try *attempt) {
	if !j.connect(try.setup) {
		return
	}
	if try.security == forward.ServerTLSImplicit {
		if j.encryption(try) && j.greeting(try) {
			j.features(try)
			j.session(try)
		}
		return
	}
	if j.greeting(try) {
		j.features(try)
		if try.security == forward.ServerTLSOff || j.encryption(try) {
			j.session(try)
		}
	}
}

// session judges the login and the steps after it.
func (j *judge) session(try *attempt) {
	if !j.login(try) || try.security != forward.ServerTLSOff && !j.protection(try) {
		return
	}
	j.pasvAddress(try)
	j.passive(try)
	j.ports(try)
	j.active(try)
	if try.security != forward.ServerTLSOff && !j.forward.TLS.ServerDataClear {
		j.reuse(try)
		j.closeNotify(try)
	}
}

// passesTLS reports whether sessions in TLS pass through the gateway unread.
func (j *judge) passesTLS() bool { return passesTLS(j.forward) }

func (j *judge) add(code string, level finding.Severity, text, remedy string) {
	level = max(level, j.worst)
	j.findings = append(j.findings, finding.Finding{Code: code, Severity: level, Forward: j.forward.Name,
		Text: j.prefix + text, Remedy: remedy})
}

// note adds a finding that needs no remedy.
func (j *judge) note(code string, level finding.Severity, format string, args ...any) {
	j.add(code, level, fmt.Sprintf(format, args...), "")
}

// maxQuote is how many bytes of a server's text are quoted.
const maxQuote = 80

// quote returns a server's text for a finding. Servers may send anything, the password and the control
// sequences of a terminal included.
func (j *judge) quote(text string) string {
	clean := cleaned(text)
	for _, t := range []string{text, clean} {
		if j.password != "" && strings.Contains(strings.ToLower(t), strings.ToLower(j.password)) {
			return "(a text with the password in it)"
		}
	}
	return shortened(clean)
}

// quote is judge.quote for a text that did not come from a server.
func quote(text string) string { return shortened(cleaned(text)) }

// cleaned replaces what is not printable, and the quotation mark.
func cleaned(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			return '\''
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, strings.TrimSpace(text))
}

// shortened cuts a text to maxQuote bytes and puts it in quotation marks.
func shortened(text string) string {
	if len(text) > maxQuote {
		cut := maxQuote - len("...")
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "..."
	}
	return `"` + text + `"`
}

// quoteReply quotes a reply with its code.
func (j *judge) quoteReply(a answer) string {
	text := strings.TrimSpace(strings.Join(a.Lines, " "))
	if text == "" {
		return fmt.Sprint(a.Code)
	}
	return fmt.Sprintf("%d %s", a.Code, j.quote(text))
}

// rounded writes a time for people.
func rounded(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "less than 1ms"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

// remedyLog is the remedy if only the server knows the reason.
const remedyLog = finding.RemedyServerLog
