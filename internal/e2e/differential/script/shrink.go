package script

import (
	"slices"
	"strings"
)

// Shrink shortens a pair, as long as what is left fails: by whole blocks first, then by steps. What it leaves
// is still a session of FTP: neither side is left without an answer, and nothing is answered that was not
// asked.
func Shrink(p Pair, fails func(Pair) bool) Pair {
	try := func(smaller Pair) {
		if checkSignals(smaller) == nil && fails(smaller) {
			p = smaller
		}
	}
	for i := len(p.Blocks) - 1; i >= 0; i-- {
		if sound(p.Blocks[i]) {
			try(p.without(i, 0, len(p.Blocks[i])))
		}
	}
	for n := 8; n > 0; n /= 2 {
		for i := len(p.Blocks) - 1; i >= 0; i-- {
			for at := len(p.Blocks[i]) - n; at >= 0; at-- {
				if at+n <= len(p.Blocks[i]) && sound(p.Blocks[i][at:at+n]) {
					try(p.without(i, at, n))
				}
			}
		}
	}
	return p
}

// without returns the pair without some steps of a block.
func (p Pair) without(block, at, n int) Pair {
	p.Blocks = slices.Clone(p.Blocks)
	left := slices.Delete(slices.Clone(p.Blocks[block]), at, at+n)
	p.Blocks[block] = left
	return p
}

// sound reports whether a session can do without some steps: each command goes with its reply, and the login
// stays.
func sound(steps Block) bool {
	var commands, read, replies, lines int
	for _, s := range steps {
		switch {
		case strings.HasPrefix(s.Text, "USER ") || strings.HasPrefix(s.Text, "PASS "):
			return false
		case s.Verb == "send" || s.Verb == "raw":
			if s.Side == Client {
				commands++
			} else {
				replies++
			}
		case s.Verb == "expect" && s.Side == Server:
			read++
		case s.Verb == "expect":
			lines++
		}
	}
	return (commands == 0) == (replies == 0) && (replies == 0) == (lines == 0) && commands == read
}
