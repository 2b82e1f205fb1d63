package script

import "slices"

// Shrink shortens a pair, as long as what is left fails: by whole blocks first, then by steps.
func Shrink(p Pair, fails func(Pair) bool) Pair {
	try := func(smaller Pair) {
		if checkSignals(smaller) == nil && fails(smaller) {
			p = smaller
		}
	}
	for i := len(p.Blocks) - 1; i >= 0; i-- {
		try(p.without(i, 0, len(p.Blocks[i])))
	}
	for n := 8; n > 0; n /= 2 {
		for i := len(p.Blocks) - 1; i >= 0; i-- {
			for at := len(p.Blocks[i]) - n; at >= 0; at-- {
				if at+n <= len(p.Blocks[i]) {
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
