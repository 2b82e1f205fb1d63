package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"ftpgate/internal/config"
	"ftpgate/internal/core/finding"
)

// keyFlag is a key of the configuration as a flag. Package config parses its values.
type keyFlag struct {
	config.Key
	given []string
}

// keyFlags returns a flag for each key but LISTEN and SERVER, in the order of the help.
func keyFlags(keys []config.Key) []*keyFlag {
	var flags []*keyFlag
	for _, k := range keys {
		if k.Flag() != "" {
			flags = append(flags, &keyFlag{Key: k})
		}
	}
	return flags
}

func addKeyFlags(cmd *cobra.Command, flags []*keyFlag) {
	set := cmd.Flags()
	set.SortFlags = false
	for _, k := range flags {
		f := set.VarPF(k, k.Flag(), "", k.HelpText())
		if f.DefValue = k.Default; k.FlagDefault != "" {
			f.DefValue = k.FlagDefault
		}
		if k.IsBool() {
			f.NoOptDefVal = "true"
		}
		completeKey(cmd, k.Key)
	}
}

// Set records a value from the command line; config checks all of them together. A list takes several, in
// one value with commas or in several.
func (k *keyFlag) Set(s string) error {
	if k.IsList() {
		k.given = append(k.given, strings.Split(s, ",")...)
	} else {
		k.given = []string{s} // the last one counts
	}
	return nil
}

// Type returns the help's name of the value. "bool" makes the value optional in pflag.
func (k *keyFlag) Type() string {
	if k.IsBool() {
		return "bool"
	}
	return k.Argument
}

// String returns the given values.
func (k *keyFlag) String() string { return strings.Join(k.given, ",") }

// fromFlags returns the configuration that LISTEN, SERVER and the flags ask for; the error names every fault.
func fromFlags(listen, server string, flags []*keyFlag) (*config.Config, error) {
	arguments := []config.Value{{Key: "listen", Text: listen}, {Key: "server", Text: server}}
	return fromValues(false, arguments, flags)
}

// outboundFromFlags is fromFlags for an outbound.
func outboundFromFlags(flags []*keyFlag) (*config.Config, error) { return fromValues(true, nil, flags) }

func fromValues(outbound bool, values []config.Value, flags []*keyFlag) (*config.Config, error) {
	for _, k := range flags {
		for _, text := range k.given {
			values = append(values, config.Value{Key: k.Name, Text: text})
		}
	}
	c, err := config.FromValues(outbound, values)
	var faults config.Faults
	if !errors.As(err, &faults) {
		return c, err
	}
	texts := make([]error, len(faults))
	for i, f := range faults {
		texts[i] = errors.New(inFlagWords(f, flags))
	}
	return nil, errors.Join(texts...)
}

// faultToken matches a part of a fault's text: an example as in a file (key = "value", key = ["value"] or key
// = true), a quoted input, or a word, which may have dots.
var faultToken = regexp.MustCompile(
	`([a-z_.]+) = (?:\[?"([^"]*)"\]?|(true|false))|"(?:[^"\\]|\\.)*"|[\w'-]+(?:\.[\w'-]+)*`)

// inFlagWords replaces a file's keys in a fault by flags: keys that cannot be another word, and the key at
// fault.
func inFlagWords(fault finding.Finding, flags []*keyFlag) string {
	var own *keyFlag // nil: the fault is in LISTEN or SERVER
	byKey := map[string]*keyFlag{}
	for _, k := range flags {
		byKey[k.Name] = k
		if short, ok := strings.CutPrefix(k.Name, "tls."); ok && byKey[short] == nil {
			byKey[short] = k // as it stands below [forward.tls]
		}
		if k.Name == fault.Key {
			own = k
		}
	}
	text := faultToken.ReplaceAllStringFunc(fault.Text, func(token string) string {
		m := faultToken.FindStringSubmatch(token)
		if example := byKey[m[1]]; example != nil {
			if m[3] != "" {
				return fmt.Sprintf("--%s=%s", example.Flag(), m[3])
			}
			return fmt.Sprintf("--%s %s", example.Flag(), m[2])
		}
		named := byKey[token]
		switch {
		case own != nil && (token == own.Name || token == own.Flag()): // "client" stands for clients, too
			return "--" + own.Flag()
		case named != nil && strings.ContainsAny(token, "_."):
			return "--" + named.Flag()
		}
		return token
	})
	switch {
	case own == nil:
		return strings.ReplaceAll(text, " below [forward.tls]", "")
	case len(own.given) == 0:
		return fmt.Sprintf("--%s is missing: %s", own.Flag(), text)
	case !strings.Contains(text, "--"+own.Flag()):
		return fmt.Sprintf("--%s: %s", own.Flag(), text)
	}
	return text
}

// logInFlagWords replaces a file's keys in a log by flags: in messages and remedies, which are our words.
// Other fields may quote a peer.
func logInFlagWords(flags []*keyFlag) func(groups []string, a slog.Attr) slog.Attr {
	return func(_ []string, a slog.Attr) slog.Attr {
		if a.Key != "remedy" && a.Key != slog.MessageKey {
			return a
		}
		if text := a.Value.String(); strings.ContainsAny(text, "_.=") { // else it names no key
			a.Value = slog.StringValue(inFlagWords(finding.Finding{Text: text}, flags))
		}
		return a
	}
}
