package config

import (
	"regexp"
	"strings"
	"testing"
)

// TestCommentedReference: without their # the lines of keys are the reference file again, and with it the
// file asks for nothing.
func TestCommentedReference(t *testing.T) {
	text := CommentedReference()
	if got := regexp.MustCompile(`(?m)^#([^ \n])`).ReplaceAllString(text, "$1"); got != reference {
		t.Errorf("got, with keys uncommented,\n%s\nwant the reference file", got)
	}
	if _, err := parse("ftpgate.toml", strings.NewReader(text)); err == nil ||
		!strings.Contains(err.Error(), "no [[forward]]") {
		t.Errorf("got error %v; want that no [[forward]] is there", err)
	}
}

// TestReference: the reference file is sound and shows every key.
func TestReference(t *testing.T) {
	c, err := parse("ftpgate.toml", strings.NewReader(reference))
	if err != nil {
		t.Fatal(err)
	}
	if c.Resolve != DefaultResolve || c.Drain != DefaultDrain || c.Health != DefaultHealth {
		t.Errorf("got resolve %s, drain %s, health %s; want the defaults, %s, %s and %s", c.Resolve, c.Drain,
			c.Health, DefaultResolve, DefaultDrain, DefaultHealth)
	}
	d := newDocument([]byte(reference))
	d.read()
	for i, k := range keys {
		given := d.states[i].given
		for _, f := range d.forwards {
			given = given || i < forwardKeyCount && f.states[i].given
		}
		if !given {
			t.Errorf("%s is not in the reference file", k.Name)
		}
	}
}

// TestExamples: the examples in messages are sound.
func TestExamples(t *testing.T) {
	for i, k := range keys {
		text := k.Name + " = " + k.Example + "\n"
		if i < forwardKeyCount {
			header := forwardTable.header()
			if k.table == outboundTable {
				header = outboundTable.header()
			}
			text = header + "\n" + text
		}
		d := newDocument([]byte(text))
		d.read()
		given := d.states[i].given
		if i < forwardKeyCount {
			given = d.forwards[0].states[i].given
		}
		if len(d.faults) > 0 || !given {
			t.Errorf("got %v for\n%s; want no fault", d.faults, text)
		}
	}
}
