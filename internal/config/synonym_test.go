package config

import "testing"

// Each synonym leads to a key, and none is a key itself.
func TestSynonyms(t *testing.T) {
	for word := range synonyms {
		if _, known := keyIndex[Synonym(word)]; !known {
			t.Errorf("%s leads to %q, which is no key", word, Synonym(word))
		}
		if _, isKey := keyIndex[word]; isKey {
			t.Errorf("%s is a key", word)
		}
	}
	for word, want := range map[string]string{"Pasv-Address": "advertise", "listen": "", "": "", "x": ""} {
		if got := Synonym(word); got != want {
			t.Errorf("%q: got %q; want %q", word, got, want)
		}
	}
}
