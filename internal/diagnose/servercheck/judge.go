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

// terms are what a judgement is made by, besides what was seen.
type terms struct {
	forward        forward.Forward
	user, password string
	active         bool // PORT and EPRT were to be tried
	limits         Timeouts
	name           string // what the certificate must name
	now            time.Time
}

// judge makes findings of what was seen at one address. It does no I/O.
type judge struct {
	terms
	at     netip.AddrPort
	prefix string           // the address, where there are several
	worst  finding.Severity // no finding is worse than this
	found  []finding.Finding
}

// judgeAll judges every address. Where another one answers, one that does not is in nobody's way.
func judgeAll(t terms, sights []sight) []finding.Finding {
	if len(sights) == 0 {
		return []finding.Finding{{Code: CodeAddress, Severity: finding.Fault, Forward: t.forward.Name,
			Text:   fmt.Sprintf("the server %s has no address that the forward can lead to", quote(t.forward.Server.Host)),
			Remedy: "look at `server` and at this host's resolver (getent ahosts NAME)"}}
	}
	greets := func(s sight) bool {
		return slices.ContainsFunc([]*visit{s.clear, s.tls}, func(v *visit) bool { return v != nil && v.greeting != nil && v.greeting.positive() })
	}
	answers := slices.ContainsFunc(sights, greets)
	var all []finding.Finding
	for _, s := range sights {
		j := &judge{terms: t, at: s.at}
		if len(sights) > 1 {
			j.prefix = s.at.String() + ": "
		}
		if answers && !greets(s) && t.forward.Tracking == forward.TrackingProxy {
			j.worst = finding.Warning
		}
		j.address(s)
		all = append(all, j.found...)
	}
	return all
}

// address judges what was seen at one address.
func (j *judge) address(s sight) {
	main := s.tls
	if s.clear != nil {
		a, demanded := s.clear.demand()
		switch {
		case s.clear.hidden:
			j.demands(`the server waits for TLS from the first byte`, forward.ServerTLSImplicit)
		case demanded:
			j.demands("the server demands TLS: "+j.said(a), forward.ServerTLSRequired)
		default:
			main = s.clear
		}
	}
	if main != nil {
		j.visit(main)
	}
	if main == s.clear && s.tls != nil {
		j.offers(s.tls)
	}
	if s.over {
		j.say(CodeUnfinished, finding.Warning, "the time for the trial was over, or it was given up, before everything had been tried",
			"look at what was found before this: something answers slowly, or not at all")
	}
}

// visit judges what was seen in one way to speak with the server, in the order of the trial.
func (j *judge) visit(v *visit) {
	if !j.connect(v.entry) {
		return
	}
	if v.security == forward.ServerTLSImplicit {
		if j.secure(v) && j.greeting(v) {
			j.features(v)
			j.session(v)
		}
		return
	}
	if j.greeting(v) {
		j.features(v)
		if v.security == forward.ServerTLSOff || j.secure(v) {
			j.session(v)
		}
	}
}

// session judges the login and what comes behind it.
func (j *judge) session(v *visit) {
	if !j.login(v) || v.security != forward.ServerTLSOff && !j.protection(v) {
		return
	}
	j.pasvAddress(v)
	j.passive(v)
	j.ports(v)
	j.active(v)
	if v.security != forward.ServerTLSOff && !j.forward.TLS.ServerDataClear {
		j.reuse(v)
		j.closeNotify(v)
	}
}

// opaque tells whether sessions in TLS go through the gateway unread.
func (j *judge) opaque() bool {
	return j.forward.Tracking == forward.TrackingNone || j.forward.PassesThrough()
}

// say adds a finding.
func (j *judge) say(code string, level finding.Severity, text, remedy string) {
	level = max(level, j.worst)
	j.found = append(j.found, finding.Finding{Code: code, Severity: level, Forward: j.forward.Name, Text: j.prefix + text, Remedy: remedy})
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

// said quotes a reply with its code.
func (j *judge) said(a answer) string {
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

// atLog is the remedy where only the server knows.
const atLog = "look at the server's log: it says why"
