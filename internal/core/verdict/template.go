package verdict

import (
	"fmt"
	"strings"
	"time"
)

// says returns the sentence of a template. Braces enclose the name of a value of the fault (see words), and
// after a | the replacement of an empty value: another name, or text.
func says(template string) func(Fault) string {
	return func(f Fault) string {
		known := f.words()
		var b strings.Builder
		for rest := template; rest != ""; {
			var text, field string
			text, rest, _ = strings.Cut(rest, "{")
			field, rest, _ = strings.Cut(rest, "}")
			word, other, _ := strings.Cut(field, "|")
			value, isWord := known[word]
			if !isWord && field != "" {
				panic(fmt.Sprintf("verdict: %q in %q", word, template))
			}
			if value == "" {
				if value, isWord = known[other]; !isWord {
					value = other
				}
			}
			b.WriteString(text + value)
		}
		return b.String()
	}
}

// words returns the fault's values by their names in templates. A missing value is empty.
func (f Fault) words() map[string]string {
	named := ""
	if f.Named.IsValid() {
		named = fmt.Sprintf(" (its reply named %s; the gateway connects to no other host)", f.Named)
	}
	andPeer := ""
	if f.Peer.IsValid() {
		andPeer = ", " + f.Peer.String()
	}
	return map[string]string{
		"verb": f.Verb, "reason": f.Reason, "error": f.Err, "dial error": dialError(f.Err),
		"detail":     detail(f),
		"during":     enclosed("during ", f.Verb),
		"with error": enclosed("", f.Err),
		"peer":       f.Peer.String(),
		"named":      named,
		", peer":     andPeer,
		"at":         f.At.String(),
		"expected":   f.Expected.String(),
		"host":       f.At.Addr().String(),
		"ports":      f.Ports.String(),
		"waited":     seconds(f.Waited),
	}
}

// enclosed returns a value in parentheses, if there is one.
func enclosed(before, value string) string {
	if value == "" {
		return ""
	}
	return " (" + before + value + ")"
}

// dialError returns why a connection failed, without the names of system calls.
func dialError(err string) string {
	return strings.NewReplacer("connect: ", "", "i/o timeout", "no answer").Replace(err)
}

// detail returns the reply or reason, and the error.
func detail(f Fault) string {
	if f.Reason != "" {
		return f.Reason + enclosed("", f.Err)
	}
	return f.Err
}

// seconds formats a duration for a sentence: whole seconds from one second up.
func seconds(d time.Duration) string {
	if d < time.Second {
		return Round(d).String()
	}
	return fmt.Sprintf("%.0f s", d.Seconds())
}

// Round rounds a duration for people.
func Round(d time.Duration) time.Duration {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond)
	case d < time.Second:
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(10 * time.Millisecond)
}
