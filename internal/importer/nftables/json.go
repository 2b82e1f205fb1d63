package nftables

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ftpgate/internal/importer/rule"
)

// The objects of libnftables-json(5), as far as rules for FTP need them.
type (
	ruleset struct {
		Objects []map[string]json.RawMessage `json:"nftables"`
	}
	jsonChain struct {
		Family, Table, Name, Type, Hook, Policy string
		Prio                                    int
	}
	jsonRule struct {
		Family, Table, Chain, Comment string
		Handle                        int
		Expr                          []any
	}
	jsonSet struct {
		Family, Table, Name string
		Elem                []any
	}
	jsonHelper struct{ Family, Table, Name, Type string }
)

// ParseJSON reads what "nft -j list ruleset" prints. The error is about text that is no such JSON.
func ParseJSON(text string) (*rule.Set, error) {
	var all ruleset
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, fmt.Errorf("nft's JSON: %w", err)
	}
	if all.Objects == nil {
		return nil, fmt.Errorf(`nft's JSON: it has no "nftables"`)
	}
	w := &writer{}
	for _, o := range all.Objects {
		for kind, content := range o {
			if err := w.object(kind, content); err != nil {
				return nil, fmt.Errorf("nft's JSON: %s: %w", kind, err)
			}
		}
	}
	p := newParser(strings.Join(w.lines, "\n"))
	for line, handle := range w.handles {
		p.handles[line] = handle
	}
	p.places = append(w.places, rule.Place{})
	p.set.Format = "rules of nft in JSON"
	return p.parse(), nil
}

// writer makes nft's text: a line for each object.
type writer struct {
	lines   []string
	places  []rule.Place // of each line
	handles map[int]int
}

func (w *writer) line(text, place string) {
	w.lines = append(w.lines, strings.ReplaceAll(text, "\n", " "))
	w.places = append(w.places, rule.Place{Text: place})
}

func (w *writer) object(kind string, content json.RawMessage) error {
	switch kind {
	case "chain":
		var c jsonChain
		if err := json.Unmarshal(content, &c); err != nil {
			return err
		}
		text := fmt.Sprintf("add chain %s %s %s", c.Family, c.Table, c.Name)
		if c.Hook != "" {
			text += fmt.Sprintf(" { type %s hook %s priority %d; policy %s; }", c.Type, c.Hook, c.Prio,
				c.Policy)
		}
		w.line(text, text)
	case "rule":
		var r jsonRule
		if err := json.Unmarshal(content, &r); err != nil {
			return err
		}
		var words []string
		for _, e := range r.Expr {
			words = append(words, statement(e))
		}
		text := fmt.Sprintf("%s %s %s %s", r.Family, r.Table, r.Chain, strings.Join(words, " "))
		if w.handles == nil {
			w.handles = map[int]int{}
		}
		w.handles[len(w.lines)+1] = r.Handle
		comment := ""
		if r.Comment != "" {
			comment = " comment " + quote(r.Comment)
		}
		// The comment stands first: behind a verdict nothing is read.
		w.line(fmt.Sprintf("add rule %s %s %s%s %s", r.Family, r.Table, r.Chain, comment, strings.Join(words,
			" ")),
			fmt.Sprintf("%s # handle %d", text, r.Handle))
	case "set", "map":
		var s jsonSet
		if err := json.Unmarshal(content, &s); err != nil {
			return err
		}
		text := fmt.Sprintf("add element %s %s %s %s", s.Family, s.Table, s.Name, list(s.Elem))
		w.line(text, text)
	case "ct helper":
		var h jsonHelper
		if err := json.Unmarshal(content, &h); err != nil {
			return err
		}
		text := fmt.Sprintf("add ct helper %s %s %s { type %s protocol tcp; }", h.Family, h.Table, h.Name,
			quote(h.Type))
		w.line(text, text)
	}
	return nil
}

func quote(s string) string { return `"` + strings.ReplaceAll(s, `"`, "") + `"` }

// statement returns the text of a statement.
func statement(v any) string {
	kind, content := only(v)
	fields, _ := content.(map[string]any)
	switch kind {
	case "match":
		op := fmt.Sprint(fields["op"])
		if op == "==" || op == "in" {
			op = ""
		}
		left, right := value(fields["left"]), value(fields["right"])
		if values, ok := fields["right"].([]any); ok { // "ct state": a list of words
			right = strings.Join(texts(values), ",")
		}
		return strings.Join(strings.Fields(left+" "+op), " ") + " " + right
	case "accept", "drop", "return", "continue", "reject", "notrack":
		return kind
	case "counter":
		return "counter"
	case "log":
		return "log"
	case "jump", "goto":
		return kind + " " + fmt.Sprint(fields["target"])
	case "masquerade", "snat":
		return kind
	case "dnat", "redirect":
		return kind + translationTarget(fields)
	case "ct helper":
		return "ct helper set " + quote(fmt.Sprint(content))
	case "vmap":
		return value(fields["key"]) + " vmap " + value(fields["data"])
	case "mangle":
		return value(fields["key"]) + " set " + value(fields["value"])
	case "limit":
		return "limit rate"
	case "xt":
		return "xt target"
	}
	return strings.NewReplacer(" ", "-", "\"", "").Replace(kind) // a condition that means nothing here
}

// translationTarget returns what stands behind dnat and redirect.
func translationTarget(fields map[string]any) string {
	addr, port := "", ""
	if fields["addr"] != nil {
		addr = value(fields["addr"])
	}
	if fields["port"] != nil {
		port = ":" + value(fields["port"])
	}
	if strings.Count(addr, ":") > 1 && port != "" && !strings.Contains(addr, " ") {
		addr = "[" + addr + "]"
	}
	if addr+port == "" {
		return ""
	}
	return " to " + addr + port
}

// only returns the one member of an object.
func only(v any) (string, any) {
	m, _ := v.(map[string]any)
	for k, content := range m {
		if len(m) == 1 {
			return k, content
		}
	}
	return "unknown", nil
}

// value returns the text of an expression.
func value(v any) string {
	switch v := v.(type) {
	case string:
		if v == "" || strings.ContainsAny(v, " \t#;{}") {
			return quote(v)
		}
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	case []any:
		return list(v)
	case map[string]any:
		return expression(v)
	}
	return "unknown"
}

func expression(v map[string]any) string {
	kind, content := only(v)
	fields, _ := content.(map[string]any)
	switch kind {
	case "payload":
		if fields["protocol"] == nil {
			return "@raw"
		}
		return fmt.Sprintf("%v %v", fields["protocol"], fields["field"])
	case "meta", "ct":
		key := fmt.Sprint(fields["key"])
		if kind == "meta" && slices.Contains([]string{"iif", "oif", "iifname", "oifname"}, key) {
			return key
		}
		return kind + " " + key
	case "fib":
		return fmt.Sprintf("fib %s %v", strings.Join(texts(asList(fields["flags"])), " . "), fields["result"])
	case "prefix":
		return value(fields["addr"]) + "/" + value(fields["len"])
	case "range":
		return strings.Join(texts(asList(content)), "-")
	case "set":
		return list(asList(content))
	case "concat":
		return strings.Join(texts(asList(content)), " . ")
	case "map":
		return value(fields["key"]) + " map " + value(fields["data"])
	case "elem":
		return value(fields["val"])
	case "accept", "drop", "return", "jump", "goto", "continue":
		return statement(v)
	}
	return "unknown-" + strings.ReplaceAll(kind, " ", "-")
}

func asList(v any) []any {
	if l, ok := v.([]any); ok {
		return l
	}
	return []any{v}
}

func texts(values []any) []string {
	all := make([]string, len(values))
	for i, v := range values {
		all[i] = value(v)
	}
	return all
}

// list returns "{ a, b }"; a pair in it is an element of a map.
func list(values []any) string {
	all := make([]string, len(values))
	for i, v := range values {
		if pair, ok := v.([]any); ok && len(pair) == 2 {
			all[i] = value(pair[0]) + " : " + value(pair[1])
			continue
		}
		all[i] = value(v)
	}
	return "{ " + strings.Join(all, ", ") + " }"
}
