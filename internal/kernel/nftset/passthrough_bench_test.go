package nftset_test

import (
	"errors"
	"fmt"
	"testing"

	"ftpgate/internal/kernel/nft/nfttest"
	"ftpgate/internal/try/lab/labtest"
)

// Adds and removes one range, with others present, and renews all.
func BenchmarkPassthroughs(b *testing.B) {
	for _, present := range []int{10, 1000, 10_000} {
		h := labtest.Host(b)
		nfttest.Apply(b, nfttest.Open(b, h), passthroughTable(passthroughPorts))
		p := openPassthroughs(b, h)
		for i := range present {
			if err := p.Add(numberedPassthrough(2 * i)); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(fmt.Sprintf("one, present=%d", present), func(b *testing.B) {
			for b.Loop() {
				last := numberedPassthrough(2 * present)
				if err := errors.Join(p.Add(last), p.Remove(last)); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("renew, present=%d", present), func(b *testing.B) {
			for b.Loop() {
				if err := p.Renew(); err != nil {
					b.Fatal(err)
				}
			}
		})
		p.Close()
	}
}
