package metrics

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/template"

	"go.yaml.in/yaml/v3"

	"ftpgate/internal/core/verdict"
)

// inventory returns the names of all series after one of each event, and those that a scraper adds.
func inventory(t *testing.T) map[string]sample {
	t.Helper()
	gathered, err := fullMetrics(verdict.RefusalNames()).registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]sample{}
	for _, f := range gathered {
		labels := map[string]map[string]bool{"instance": nil, "job": nil}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if labels[l.GetName()] == nil {
					labels[l.GetName()] = map[string]bool{}
				}
				labels[l.GetName()][l.GetValue()] = true
			}
		}
		s := sample{f.GetType().String() == "COUNTER", labels}
		if f.GetType().String() != "HISTOGRAM" {
			all[f.GetName()] = s
			continue
		}
		s.counter = true
		all[f.GetName()+"_count"], all[f.GetName()+"_sum"] = s, s
		withBounds := sample{true, map[string]map[string]bool{"le": nil}}
		for name, values := range labels {
			withBounds.labels[name] = values
		}
		all[f.GetName()+"_bucket"] = withBounds
	}
	all["up"] = sample{labels: map[string]map[string]bool{"instance": nil, "job": nil}}
	return all
}

// ruleFile is a file of rules as Prometheus reads it.
type ruleFile struct {
	Groups []struct {
		Name  string      `yaml:"name"`
		Rules []alertRule `yaml:"rules"`
	} `yaml:"groups"`
}

type alertRule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func readRules(t *testing.T) []alertRule {
	t.Helper()
	text := read(t, "../../../packaging/prometheus/ftpgate.rules.yml")
	var f ruleFile
	d := yaml.NewDecoder(strings.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil {
		t.Fatal(err)
	}
	if len(f.Groups) != 1 || f.Groups[0].Name != "ftpgate" {
		t.Fatalf("want one group, ftpgate")
	}
	return f.Groups[0].Rules
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestRules checks that the alerts use metrics that exist.
func TestRules(t *testing.T) {
	samples := inventory(t)
	var names []string
	for _, r := range readRules(t) {
		t.Run(r.Alert, func(t *testing.T) {
			if slices.Contains(names, r.Alert) ||
				!regexp.MustCompile(`^Ftpgate[A-Z][A-Za-z]+$`).MatchString(r.Alert) {
				t.Errorf("the name is taken, or no alert's")
			}
			names = append(names, r.Alert)
			v, err := evaluate(r.Expr, samples)
			if err != nil || v.kind != vector {
				t.Fatalf("%s: got %s, %v", r.Expr, v.kind, err)
			}
			if r.For != "" && !duration.MatchString(r.For) {
				t.Errorf("for: %q is no duration", r.For)
			}
			if s := r.Labels["severity"]; len(r.Labels) != 1 || s != "warning" && s != "critical" {
				t.Errorf("got labels %v; want a severity, warning or critical", r.Labels)
			}
			if len(r.Annotations) != 2 || r.Annotations["summary"] == "" ||
				r.Annotations["description"] == "" {
				t.Errorf("got annotations %v; want summary and description", r.Annotations)
			}
			for _, text := range r.Annotations {
				if err := expand(text, v.labels); err != nil {
					t.Errorf("%q: %v", text, err)
				}
			}
		})
	}
	if len(names) < 8 {
		t.Errorf("got %d alerts", len(names))
	}
}

// expand expands an annotation as Prometheus does. A label that the alert does not have is an error.
func expand(text string, labels []string) error {
	values := map[string]string{}
	for _, l := range labels {
		values[l] = "some"
	}
	pass := func(v float64) (float64, error) { return v, nil }
	parsed, err := template.New("").Option("missingkey=error").
		Funcs(template.FuncMap{"humanizePercentage": pass, "humanizeDuration": pass, "humanize": pass}).
		Parse("{{$labels := .Labels}}{{$value := .Value}}" + text)
	if err != nil {
		return err
	}
	return parsed.Execute(io.Discard, map[string]any{"Labels": values, "Value": 0.5})
}

func TestExpand(t *testing.T) {
	for text, good := range map[string]bool{
		`{{ $labels.forward }}: {{ $value | humanizePercentage }}`: true,
		`{{ $labels.forwrad }}`:   false,
		`{{ $value | humanise }}`: false,
		`{{ $labels.forward }`:    false,
	} {
		if err := expand(text, []string{"forward"}); (err == nil) != good {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

// dashboard has the fields of a Grafana dashboard that the tests check.
type dashboard struct {
	UID, Title    string
	SchemaVersion int
	Templating    struct{ List []variable }
	Panels        []panel
}

type variable struct {
	Name, Type string
	Datasource source
	Definition string
	Query      json.RawMessage
}

type source struct{ Type, UID string }

type panel struct {
	ID         int
	Type       string
	Title      string
	GridPos    struct{ X, Y, W, H int }
	Datasource source
	Targets    []struct {
		RefID, Expr, LegendFormat string
		Datasource                source
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(read(t, "../../../packaging/grafana/ftpgate.json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDashboard checks that the queries of the dashboard use metrics that exist.
func TestDashboard(t *testing.T) {
	samples, d := inventory(t), readDashboard(t)
	if d.UID != "ftpgate" || d.SchemaVersion < 39 || len(d.Panels) < 15 {
		t.Errorf("got %q, schema %d, %d panels", d.UID, d.SchemaVersion, len(d.Panels))
	}
	legend := regexp.MustCompile(`\{\{(.*?)\}\}`)
	for _, p := range d.Panels {
		refs := map[string]bool{}
		for _, target := range p.Targets {
			v, err := evaluate(target.Expr, samples, "instance", "forward")
			if err != nil || v.kind != vector {
				t.Errorf("%s: %s: got %s, %v", p.Title, target.Expr, v.kind, err)
			}
			for _, used := range legend.FindAllStringSubmatch(target.LegendFormat, -1) {
				if !slices.Contains(v.labels, used[1]) {
					t.Errorf("%s: the legend %q names a label of which there are %v", p.Title,
						target.LegendFormat, v.labels)
				}
			}
			if refs[target.RefID] || target.Datasource != (source{"prometheus", "${datasource}"}) ||
				target.Datasource != p.Datasource {
				t.Errorf("%s: query %q: wrong source or taken name", p.Title, target.RefID)
			}
			refs[target.RefID] = true
		}
		if (p.Type == "row") != (len(p.Targets) == 0) {
			t.Errorf("%s: a %s with %d queries", p.Title, p.Type, len(p.Targets))
		}
	}
}

// TestDashboardVariables checks that each variable uses a label that its metric has.
func TestDashboardVariables(t *testing.T) {
	samples := inventory(t)
	ask := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
	var names []string
	for _, v := range readDashboard(t).Templating.List {
		names = append(names, v.Name)
		if v.Type == "datasource" {
			continue
		}
		asked := ask.FindStringSubmatch(v.Definition)
		if asked == nil || !bytes.Contains(v.Query, []byte(strings.ReplaceAll(v.Definition, `"`, `\"`))) {
			t.Errorf("%s: the query is %s", v.Name, v.Definition)
			continue
		}
		of, err := evaluate(asked[1], samples, "instance")
		if err != nil || !slices.Contains(of.labels, asked[2]) || v.Name != asked[2] {
			t.Errorf("%s: %s: %v", v.Name, v.Definition, err)
		}
	}
	if want := []string{"datasource", "instance", "forward"}; !slices.Equal(names, want) {
		t.Errorf("got variables %q; want %q", names, want)
	}
}

// TestDashboardFits checks that panels do not overlap, and that their numbers and titles are unique.
func TestDashboardFits(t *testing.T) {
	panels := readDashboard(t).Panels
	for i, p := range panels {
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("%s: does not fit: %+v", p.Title, g)
		}
		for _, o := range panels[:i] {
			h := o.GridPos
			if g.X < h.X+h.W && h.X < g.X+g.W && g.Y < h.Y+h.H && h.Y < g.Y+g.H {
				t.Errorf("%s lies on %s", p.Title, o.Title)
			}
			if p.ID == o.ID || p.Title == o.Title {
				t.Errorf("%s has the number or the name of %s", p.Title, o.Title)
			}
		}
	}
}
