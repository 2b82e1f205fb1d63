package config

import (
	"fmt"
	"slices"
)

// Word is the value of a key as one types it on a command line: an integer is its digits, and an
// array is a word for each of its strings.
type Word struct{ Key, Text string }

// FromWords makes a Config of one forward, as a file with these keys and values would. The error is
// Faults without places, of which Key and Text are set, in the order of the words; Text does not
// name the forward. A key that is not one of a file is the caller's mistake, and panics.
func FromWords(words []Word) (*Config, error) {
	d := newDocument(nil)
	f := d.addForward(0)
	for at, w := range words { // the place is the number of the word
		if top := slices.Index(topKeys[:topForward], w.Key); top >= 0 {
			d.readTop(top, w.Text, at)
			continue
		}
		if i := sectionKeyIndex(w.Key); i >= 0 {
			d.slots[i] = slot{given: true, key: at, at: at}
			d.readSection(i, w.Text, at)
			continue
		}
		i := forwardKeyIndex(w.Key)
		if i < 0 {
			panic(fmt.Sprintf("config: no key %q", w.Key))
		}
		if s := &f.slots[i]; !s.given {
			*s = slot{given: true, key: at, at: at}
		}
		f.readText(d, i, w.Text, at)
	}
	d.check("")
	if len(d.findings) == 0 {
		return d.config(), nil
	}
	d.sortFindings()
	faults := make(Faults, len(d.findings))
	for i, found := range d.findings {
		faults[i] = Fault{Key: found.key, Text: found.text}
	}
	return nil, faults
}
