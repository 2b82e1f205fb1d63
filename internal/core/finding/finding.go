// Package finding describes the result of a check of a host, a configuration file, an FTP server or a
// certificate: its severity, one sentence, and the remedy. Every check in ftpgate returns findings; only the
// edges (log, command line, API) print them.
package finding

import (
	"fmt"
	"slices"
	"strings"
)

// Severity says how much a finding matters. The zero value is Fault: a finding without a severity keeps the
// gateway from starting.
type Severity uint8

// The severities, the worst first.
const (
	Fault   Severity = iota // keeps the gateway from serving, or affects every client
	Warning                 // may affect some clients
	Info                    // good to know, or could not be checked
	OK                      // was checked, and is sound
)

var severityNames = [...]string{Fault: "fault", Warning: "warning", Info: "info", OK: "ok"}

// String returns the word for the severity: "fault", "warning", "info" or "ok".
func (s Severity) String() string {
	if int(s) < len(severityNames) {
		return severityNames[s]
	}
	return fmt.Sprintf("Severity(%d)", uint8(s))
}

// MarshalText returns the word that String returns, for JSON.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a word that MarshalText wrote.
func (s *Severity) UnmarshalText(text []byte) error {
	i := slices.Index(severityNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("finding: unknown severity %q", text)
	}
	*s = Severity(i)
	return nil
}

// Finding is the result of one check.
type Finding struct {
	// a stable name for programs ("ip_forward"); empty: it has none
	Code     string   `json:"code,omitempty"`
	Severity Severity `json:"level"`             // the severity
	Forward  string   `json:"forward,omitempty"` // the forward's name; empty: it is about the host, or a file
	// the key at fault ("tls.cert"); empty: it is about none
	Key    string `json:"-"`
	Place  Place  `json:"-"`                // in a configuration file; zero: it is about none
	Text   string `json:"text"`             // one sentence, without the forward's name and the key
	Remedy string `json:"remedy,omitempty"` // what to do about it; empty: there is nothing to do
}

// Place is the position of a finding in a file. Line and column count from 1, columns in characters.
type Place struct {
	File         string
	Line, Column int
}

// String returns FILE:LINE:COLUMN, the form that editors jump to.
func (p Place) String() string { return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column) }

// String returns the finding in one line.
func (f Finding) String() string {
	s := f.Sentence()
	if f.Remedy != "" {
		s += ": " + f.Remedy
	}
	if f.Forward != "" {
		s = fmt.Sprintf("forward %q: %s", f.Forward, s)
	}
	if f.Place != (Place{}) {
		s = f.Place.String() + ": " + s
	}
	return s
}

// Sentence returns the text, preceded by the key unless the place shows it.
func (f Finding) Sentence() string {
	if f.Key != "" && f.Place == (Place{}) {
		return f.Key + ": " + f.Text
	}
	return f.Text
}

// IsFault reports whether the finding keeps the gateway from serving.
func (f Finding) IsFault() bool { return f.Severity == Fault }

// Faults returns the findings that are faults, in their order.
func Faults(all []Finding) []Finding {
	return slices.DeleteFunc(slices.Clone(all), func(f Finding) bool { return !f.IsFault() })
}

// Worst returns the highest severity among the findings; OK if there are none.
func Worst(all []Finding) Severity {
	worst := OK
	for _, f := range all {
		worst = min(worst, f.Severity)
	}
	return worst
}

// Plural counts things: "1 fault", "2 faults".
func Plural[N int | int64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// Join lists things.
func Join[T fmt.Stringer](things []T, separator string) string {
	texts := make([]string, len(things))
	for i, t := range things {
		texts[i] = t.String()
	}
	return strings.Join(texts, separator)
}
