package finding

import (
	"fmt"
)

// Finding is something that keeps a gateway from serving, or may.
type Finding struct {
	Forward string // the forward's name; empty where it is about the host
	Text    string // what is so, in one sentence
	Remedy  string // what to do about it
	Warning bool   // it may be in the way, or should be known; it is no reason not to start
}

// String returns the finding in one line.
func (f Finding) String() string {
	s := f.Text + ": " + f.Remedy
	if f.Forward != "" {
		s = fmt.Sprintf("forward %q: %s", f.Forward, s)
	}
	return s
}
