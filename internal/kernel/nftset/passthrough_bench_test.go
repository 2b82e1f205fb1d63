package nftset_test

import (
	"errors"
	"fmt"
	"testing"

	"ftpgate/internal/kernel/nftset"
	"ftpgate/internal/try/lab/labtest"
)

// BenchmarkPassages puts one passage in and takes it out, with others present, and renews all.
func BenchmarkPassages(b *testing.B) {
	for _, present := range []int{10, 1000, 10_000} {
		labtest.New(b)
		if err := nft.openHere(b).Apply(passageTable(passagePorts), "ftpgate"); err != nil {
			b.Fatal(err)
		}
		p, err := nftset.OpenPassages("ftpgate", func(err error) { b.Error(err) })
		if err != nil {
			b.Fatal(err)
		}
		for i := range present {
			if err := p.Add(numberedPassage(2 * i)); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(fmt.Sprintf("one, present=%d", present), func(b *testing.B) {
			for b.Loop() {
				if err := errors.Join(p.Add(numberedPassage(2*present)), p.Remove(numberedPassage(2*present))); err != nil {
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
