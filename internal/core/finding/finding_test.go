package finding

import (
	"encoding/json"
	"slices"
	"testing"
)

func TestString(t *testing.T) {
	for _, c := range []struct {
		f    Finding
		want string
	}{
		{Finding{Text: "port 21 is in use"}, "port 21 is in use"},
		{Finding{Text: "port 21 is in use", Remedy: "choose another"}, "port 21 is in use: choose another"},
		{Finding{Forward: "nas", Key: "tls.cert", Text: "has expired", Remedy: "renew it"},
			`forward "nas": tls.cert: has expired: renew it`},
		{Finding{Place: Place{"f.toml", 2, 10}, Key: "listen", Text: "no port", Remedy: "add one"},
			"f.toml:2:10: no port: add one"},
	} {
		if got := c.f.String(); got != c.want {
			t.Errorf("got %q; want %q", got, c.want)
		}
	}
}

func TestJSON(t *testing.T) {
	for s := Fault; s <= OK; s++ {
		f := Finding{Code: "ip_forward", Severity: s, Text: "text"}
		text, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		want := `{"code":"ip_forward","level":"` + s.String() + `","text":"text"}`
		if string(text) != want {
			t.Errorf("got %s; want %s", text, want)
		}
		var back Finding
		if err := json.Unmarshal(text, &back); err != nil || back != f {
			t.Errorf("%s: got %+v, %v; want %+v", text, back, err, f)
		}
	}
	var s Severity
	if err := s.UnmarshalText([]byte("bad")); err == nil {
		t.Error(`"bad" was read; want an error`)
	}
}

// A finding that says nothing about its severity must keep a gateway from starting.
func TestFaults(t *testing.T) {
	all := []Finding{{Text: "a"}, {Text: "b", Severity: Warning}, {Text: "c"}, {Text: "d", Severity: OK}}
	want := []Finding{{Text: "a"}, {Text: "c"}}
	if got := Faults(all); !slices.Equal(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
	if len(all) != 4 || all[1].Text != "b" {
		t.Errorf("Faults changed its argument: %v", all)
	}
}

func TestWorst(t *testing.T) {
	ok, info, fault := Finding{Severity: OK}, Finding{Severity: Info}, Finding{Text: "a"}
	for _, c := range []struct {
		all  []Finding
		want Severity
	}{
		{nil, OK},
		{[]Finding{ok, info, ok}, Info},
		{[]Finding{ok, fault, info}, Fault},
	} {
		if got := Worst(c.all); got != c.want {
			t.Errorf("%v: got %s; want %s", c.all, got, c.want)
		}
	}
}

func TestWords(t *testing.T) {
	if got := []string{Plural(0, "fault"), Plural(1, "fault"), Plural(2, "fault")}; !slices.Equal(got,
		[]string{"0 faults", "1 fault", "2 faults"}) {
		t.Errorf("got %q; want faults counted", got)
	}
	if got := Join([]Severity{Fault, OK}, ", "); got != "fault, ok" {
		t.Errorf("got %q; want fault, ok", got)
	}
}
