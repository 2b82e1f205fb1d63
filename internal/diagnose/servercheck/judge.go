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

// setting are what a judgement is made by, besides what was seen.
type setting struct {
	forward        forward.Forward
	user, password string
	active         bool // PORT and EPRT were to be tried
	limits         Timeouts
	name           string // what the certificate must name
	now            time.Time
}

// judge makes findings of what was seen at one address. It does no I/O.
type judge struct {
	setting
	at       netip.AddrPort
	prefix   string           // the address, where there are several
	worst    finding.Severity // no finding is worse than this
	findings []finding.Finding
}

// judgeAll judges every address. Where another one answers, one that does not is in nobody's way.
func judgeAll(t setting, reports []report) []finding.Finding {
	if len(reports) == 0 {
		return []finding.Finding{{Code: CodeAddress, Severity: finding.Fault, Forward: t.forward.Name,
			Text:   fmt.Sprintf("the server %s has no address that the forward can lead to", quote(t.forward.Server.Host)),
			Remedy: "look at `server` and at this host's resolver (getent ahosts NAME)"}}
	}
	greets := func(s report) bool {
		return slices.ContainsFunc([]*attempt{s.clear, s.tls}, func(try *attempt) bool { return try != nil && try.greeting != nil && try.greeting.positive() })
	}
	answers := slices.ContainsFunc(reports, greets)
	var all []finding.Finding
	for _, s := range reports {
		j := &judge{setting: t, at: s.at}
		if len(reports) > 1 {
			j.prefix = s.at.String() + ": "
		}
		if answers && !greets(s) && t.forward.Tracking == forward.TrackingProxy {
			j.worst = finding.Warning
		}
		j.address(s)
		all = append(all, j.findings...)
	}
	return all
}

// address judges what was seen at one address.
func (j *judge) address(s report) {
	main := s.tls
	if s.clear != nil {
		a, demanded := s.clear.demandsTLS()
		switch {
		case s.clear.implicit:
			j.onlyTLS(`the server waits for TLS from the first byte`, forward.ServerTLSImplicit)
		case demanded:
			j.onlyTLS("the server demands TLS: "+j.quoteReply(a), forward.ServerTLSRequired)
		default:
			main = s.clear
		}
	}
	if main != nil {
		j.attempt(main)
	}
	if main == s.clear && s.tls != nil {
		j.alsoTLS(s.tls)
	}
	if s.unfinished {
		j.add(CodeUnfinished, finding.Warning, "the time for the trial was over, or it was given up, before everything had been tried",
			"look at what was found before this: something answers slowly, or not at all")
	}
}

// attempt judges what was seen in one way to speak with the server, in the order of the trial.
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

// session judges the login and what comes behind it.
func (j *judge) session(try *attempt) {
	if !j.login(try) || try.security != forward.ServerTLSOff && !j.protection(try) {
		return
	}
	j.pasvAddress(try)
	j.passive(try)
	j.ports(try)
	j.active(try)
	if try.security != forward.ServerTLSOff && !j.forward.TLS.ServerClear {
		j.reuse(try)
		j.closeNotify(try)
	}
}

// passesTLS tells whether sessions in TLS go through the gateway unread.
func (j *judge) passesTLS() bool {
	return j.forward.Tracking == forward.TrackingNone || j.forward.PassesThrough()
}

// add adds a finding.
func (j *judge) add(code string, level finding.Severity, text, remedy string) {
	level = max(level, j.worst)
	j.findings = append(j.findings, finding.Finding{Code: code, Severity: level, Forward: j.forward.Name, Text: j.prefix + text, Remedy: remedy})
}

// maxQuote is how many bytes of a server's text are quoted.
const maxQuote = 80

// quote returns a server's text for a finding. Servers may say anything, the password that they were sent
// and the sequences of a terminal, too.
func (j *judge) quote(text string) string {
	clean := cleaned(text)
	for _, t := range []string{text, clean} {
		if j.password != "" && strings.Contains(strings.ToLower(t), strings.ToLower(j.password)) {
			return "(a text with the password in it)"
		}
	}
	return shortened(clean)
}

// quote is judge.quote for a text that no server has said.
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

// remedyLog is the remedy where only the server knows.
const remedyLog = "look at the server's log: it says why"
