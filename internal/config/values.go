package config

import (
	"fmt"

	"ftpgate/internal/core/finding"
)

// Value is the value of a key as typed on a command line: an integer is its digits, and an array is a Value
// for each of its strings.
type Value struct{ Key, Text string }

// FromValues makes a Config of one forward, or of one outbound, as a file with these keys and values would.
// The error is Faults without places; only their Key and Text are set, in the order of the values, and Text
// does not name the forward. A key that no file has is the caller's mistake, and panics.
func FromValues(outbound bool, given []Value) (*Config, error) {
	d, t := newDocument(nil), forwardTable
	if outbound {
		t = outboundTable
	}
	f := d.addForward(t, 0)
	for at, value := range given { // the place is the number of the value
		i, known := keyIndex[value.Key]
		if !known {
			panic(fmt.Sprintf("config: no key %q", value.Key))
		}
		of := f
		if i >= forwardKeyCount {
			of = nil
		}
		if s := d.stateOf(of, i); !s.given {
			*s = keyState{given: true, key: at, at: at}
		}
		d.readText(of, i, value.Text, at)
	}
	d.check("")
	if len(d.faults) == 0 {
		return d.result(), nil
	}
	d.sortFaults()
	faults := make(Faults, len(d.faults))
	for i, raw := range d.faults {
		faults[i] = finding.Finding{Key: raw.key, Text: raw.text}
	}
	return nil, faults
}

// Set changes a key that belongs to no forward, as the file would. The error is a Faults like that of
// FromValues, and does not say whether the key goes with the others.
func (c *Config) Set(value Value) error {
	i, known := keyIndex[value.Key]
	if !known || i < forwardKeyCount {
		panic(fmt.Sprintf("config: no key %q beside the forwards", value.Key))
	}
	if err := keys[i].parse(values{Config: c}, value.Text); err != nil {
		return Faults{{Key: value.Key, Text: err.Error()}}
	}
	return nil
}
