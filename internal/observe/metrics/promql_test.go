package metrics

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// This file parses the part of PromQL that the dashboard and the rules use, far enough to check whether an
// expression can have a result: the grammar, the names of metrics, functions and labels, the labels that
// remain after an aggregation, whether both sides of an operator can match, and that rates are of counters.

// sample describes the series with one name.
type sample struct {
	counter bool
	labels  map[string]map[string]bool // with the values that were seen
}

// free are the labels whose values are not fixed words, or that the scraper adds.
var free = []string{"forward", "version", "goversion", "le", "quantile", "instance", "job"}

// kind is the type of an expression.
type kind string

const (
	scalar kind = "scalar"
	vector kind = "vector"
	ranged kind = "range"
)

// result describes the value of an expression.
type result struct {
	kind    kind
	counter bool
	labels  []string // sorted
}

// function has the types of arguments and result. With nil labels the result has those of the last argument.
type function struct {
	args    []kind
	counter bool // of counters only
	gives   kind
}

var functions = map[string]function{
	"rate":               {[]kind{ranged}, true, vector},
	"increase":           {[]kind{ranged}, true, vector},
	"changes":            {[]kind{ranged}, false, vector},
	"max_over_time":      {[]kind{ranged}, false, vector},
	"absent":             {[]kind{vector}, false, vector},
	"histogram_quantile": {[]kind{scalar, vector}, false, vector},
	"time":               {nil, false, scalar},
	"clamp_min":          {[]kind{vector, scalar}, false, vector},
}

var aggregations = []string{"sum", "min", "max", "avg", "count"}

// binding is the precedence of the operators.
var binding = map[string]int{"or": 1, "and": 2, "unless": 2, "==": 3, "!=": 3, ">": 3, ">=": 3, "<": 3,
	"<=": 3, "+": 4, "-": 4, "*": 5, "/": 5, "%": 5}

var (
	lexeme = regexp.MustCompile(`^(?:[a-zA-Z_:][a-zA-Z0-9_:]*|[0-9]+(?:\.[0-9]+)?|"(?:[^"\\]|\\.)*"|` +
		`[=!]~|[=!<>]=|[-+*/%(){},<>=]|\[[^\]]*\])`)
	duration = regexp.MustCompile(`^(?:[0-9]+(?:ms|[smhdwy]))+$`)
	word     = regexp.MustCompile(`^[a-zA-Z_:]`)
)

// reader reads one expression.
type reader struct {
	samples   map[string]sample
	variables []string // that stand in it with a $
	left      string
	token     string // the one that is looked at; empty: the end
	err       error  // the first; reading ends with it
}

// evaluate returns the type and labels of an expression.
func evaluate(text string, samples map[string]sample, variables ...string) (result, error) {
	r := &reader{samples: samples, variables: variables, left: text}
	r.next()
	v := r.expression(1)
	if r.token != "" {
		r.fail("%q where an operator or the end should be", r.token)
	}
	return v, r.err
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
	r.token, r.left = "", ""
}

func (r *reader) next() string {
	was := r.token
	r.left = strings.TrimLeftFunc(r.left, unicode.IsSpace)
	r.token = lexeme.FindString(r.left)
	if r.token == "" && r.left != "" {
		r.fail("cannot read on at %.20q", r.left)
	}
	r.left = r.left[len(r.token):]
	return was
}

// take reads a token that must be there.
func (r *reader) take(want string) {
	if r.token != want {
		r.fail("%q where %q should be", r.token, want)
		return
	}
	r.next()
}

// expression reads operators of at least this precedence.
func (r *reader) expression(strength int) result {
	v := r.operand()
	for binding[r.token] >= strength {
		op := r.next()
		if r.token == "bool" || r.token == "on" || r.token == "ignoring" {
			r.fail("%s is not used here: give both sides the same labels", r.token)
		}
		v = r.operate(v, op, r.expression(binding[op]+1))
	}
	return v
}

// operate checks that both sides of an operator have the same labels: others never match.
func (r *reader) operate(a result, op string, b result) result {
	set := op == "and" || op == "or" || op == "unless"
	switch {
	case a.kind == ranged || b.kind == ranged:
		r.fail("%s of a range", op)
	case set && (a.kind == scalar || b.kind == scalar):
		r.fail("%s of a number", op)
	case a.kind == scalar:
		return result{kind: b.kind, labels: b.labels}
	case b.kind == scalar:
		return result{kind: a.kind, labels: a.labels}
	case op == "or": // takes over what the other side does not have
		if len(b.labels) < len(a.labels) {
			return result{kind: vector, labels: b.labels}
		}
	case !slices.Equal(a.labels, b.labels):
		r.fail("the sides of %s never match: %v and %v", op, a.labels, b.labels)
	}
	return result{kind: vector, labels: a.labels}
}

func (r *reader) operand() result {
	switch {
	case r.token == "(":
		r.next()
		v := r.expression(1)
		r.take(")")
		return v
	case r.token == "-":
		r.next()
		return r.operand()
	case r.token == "":
		r.fail("an operand is missing")
		return result{}
	case !word.MatchString(r.token):
		if _, err := strconv.ParseFloat(r.token, 64); err != nil {
			r.fail("%q where an operand should be", r.token)
		}
		r.next()
		return result{kind: scalar}
	}
	name := r.next()
	switch f, known := functions[name]; {
	case slices.Contains(aggregations, name):
		return r.aggregation()
	case known:
		return r.call(name, f)
	case r.token == "(":
		r.fail("no function %q", name)
		return result{}
	}
	return r.selector(name)
}

// aggregation reads "by (LABELS) (EXPRESSION)", with the labels on either side or none.
func (r *reader) aggregation() result {
	by := r.labelList()
	r.take("(")
	v := r.expression(1)
	r.take(")")
	if by == nil {
		by = r.labelList()
	}
	if r.err == nil && v.kind != vector {
		r.fail("an aggregation of a %s", v.kind)
	}
	for _, l := range by {
		if !slices.Contains(v.labels, l) {
			r.fail("by (%s): there is %v only", l, v.labels)
		}
	}
	return result{kind: vector, labels: slices.Sorted(slices.Values(by))}
}

func (r *reader) labelList() (labels []string) {
	if r.token != "by" {
		return nil
	}
	r.next()
	r.take("(")
	for r.token != ")" && r.err == nil {
		labels = append(labels, r.next())
		if r.token == "," {
			r.next()
		}
	}
	r.take(")")
	return labels
}

func (r *reader) call(name string, f function) result {
	r.take("(")
	var v result
	for i, want := range f.args {
		if i > 0 {
			r.take(",")
		}
		arg := r.expression(1)
		if r.err == nil && arg.kind != want {
			r.fail("%s of a %s; want a %s", name, arg.kind, want)
		}
		if want != scalar {
			v = arg
		}
	}
	r.take(")")
	if r.err == nil && f.counter && !v.counter {
		r.fail("%s of what is no counter", name)
	}
	if name == "histogram_quantile" {
		without := slices.DeleteFunc(slices.Clone(v.labels), func(l string) bool { return l == "le" })
		if len(without) == len(v.labels) {
			r.fail("histogram_quantile without the label le")
		}
		v.labels = without
	}
	return result{kind: f.gives, labels: v.labels}
}

// selector reads what follows the name of a metric.
func (r *reader) selector(name string) result {
	s, known := r.samples[name]
	if !known {
		r.fail("no metric %q", name)
		return result{}
	}
	if r.token == "{" {
		r.next()
		for r.token != "}" && r.err == nil {
			r.matcher(name, s)
			if r.token != "}" {
				r.take(",")
			}
		}
		r.take("}")
	}
	v := result{kind: vector, counter: s.counter, labels: slices.Sorted(maps.Keys(s.labels))}
	if inner, brackets := strings.CutPrefix(r.token, "["); brackets {
		r.next()
		inner = strings.TrimSuffix(inner, "]")
		if !duration.MatchString(inner) && inner != "$__rate_interval" {
			r.fail("%q is no duration", inner)
		}
		v.kind = ranged
	}
	return v
}

func (r *reader) matcher(name string, s sample) {
	label, op := r.next(), r.next()
	seen, known := s.labels[label]
	if !known {
		r.fail("%s has no label %q", name, label)
		return
	}
	if !slices.Contains([]string{"=", "!=", "=~", "!~"}, op) {
		r.fail("%q is no way to compare labels", op)
	}
	value, err := strconv.Unquote(r.next())
	if err != nil {
		r.fail("%s{%s}: the value is not quoted", name, label)
	}
	if variable, is := strings.CutPrefix(value, "$"); is {
		if !slices.Contains(r.variables, variable) {
			r.fail("no variable %q", value)
		}
		return
	}
	if slices.Contains(free, label) {
		return
	}
	for each := range strings.SplitSeq(value, "|") {
		if !seen[each] {
			r.fail("%s never has %s=%q", name, label, each)
		}
	}
}

func TestEvaluate(t *testing.T) {
	of := func(labels ...string) map[string]map[string]bool {
		all := map[string]map[string]bool{"job": nil, "instance": nil}
		for _, l := range labels {
			all[l] = map[string]bool{"kernel": true, "relay": true}
		}
		return all
	}
	samples := map[string]sample{
		"up": {labels: of()}, "open": {labels: of("forward")}, "all_total": {true,
			of("forward", "path")}, "took_bucket": {true, of("le")},
	}
	for _, c := range []struct{ text, want string }{
		{`up == 0 or absent(up{job="ftpgate"})`, "vector [instance job]"},
		{`sum by (forward) (rate(all_total{path=~"kernel|relay", forward=~"$forward"}[5m])) / 2 > 0.1`,
			"vector [forward]"},
		{`sum(open) by (forward)`, "vector [forward]"},
		{`histogram_quantile(0.9, sum by (le) (rate(took_bucket[$__rate_interval])))`, "vector []"},
		{`(open - time()) / 86400`, "vector [forward instance job]"},
		{`sum(open) / -2 + 3 * (1 - sum(open))`, "vector []"},
		{`sum by (forward) (open) / sum by (job) (open)`, "the sides of / never match: [forward] and [job]"},
		{`open and all_total`,
			"the sides of and never match: [forward instance job] and [forward instance job path]"},
		{`rate(open[5m])`, "rate of what is no counter"},
		{`rate(sum(all_total))`, "rate of a vector; want a range"},
		{`sum(all_total[5m])`, "an aggregation of a range"},
		{`rate(all_total[5 m])`, `"5 m" is no duration`},
		{`rate(all_total[5m]`, `"" where ")" should be`},
		{`sum by (path) (open)`, "by (path): there is [forward instance job] only"},
		{`opne`, `no metric "opne"`},
		{`all_total{paht="kernel"}`, `all_total has no label "paht"`},
		{`all_total{path="kernal"}`, `all_total never has path="kernal"`},
		{`all_total{path=~"kernel|rely"}`, `all_total never has path="rely"`},
		{`all_total{forward=~"$forwrad"}`, `no variable "$forwrad"`},
		{`all_total{path<"kernel"}`, `"<" is no way to compare labels`},
		{`histogram_quantile(0.9, sum by (job) (took_bucket))`, "histogram_quantile without the label le"},
		{`smu(open)`, `no function "smu"`},
		{`open open`, `"open" where an operator or the end should be`},
		{`open >`, "an operand is missing"},
		{`open > on (forward) open`, "on is not used here: give both sides the same labels"},
		{`open ; open`, `cannot read on at "; open"`},
	} {
		v, err := evaluate(c.text, samples, "forward")
		got := fmt.Sprint(v.kind, " ", v.labels)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: got %s; want %s", c.text, got, c.want)
		}
	}
}
