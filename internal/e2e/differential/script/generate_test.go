package script

import (
	"slices"
	"testing"
)

// TestGenerate wants pairs that can be read again, all kinds of them, and the same ones from a seed.
func TestGenerate(t *testing.T) {
	met := map[string]bool{}
	for seed := range uint64(500) {
		p := Generate(seed)
		text := p.String()
		again, err := Parse(p.Name, text)
		if err != nil {
			t.Fatal(err)
		}
		if got := again.String(); got != text {
			t.Fatalf("seed %d: got, read again,\n%s\nwant\n%s", seed, got, text)
		}
		if got := Generate(seed).String(); got != text {
			t.Fatalf("seed %d: got, drawn again,\n%s\nwant\n%s", seed, got, text)
		}
		for _, b := range p.Blocks {
			for _, s := range b {
				met[s.Verb] = true
			}
		}
	}
	differs := []string{"pause", "readable", "refused", "reset"} // through the gateway, or takes long
	for verb := range verbs {
		if !met[verb] && !slices.Contains(differs, verb) {
			t.Errorf("in 500 pairs got no %q; want one", verb)
		}
	}
}
