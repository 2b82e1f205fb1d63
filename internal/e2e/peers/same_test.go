package peers

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSameContent(t *testing.T) {
	other := append([]byte(nil), Content()...)
	other[100_000]++
	for name, tt := range map[string]struct {
		data []byte
		same bool
	}{
		"the same":       {Content(), true},
		"short":          {Content()[:70_000], false},
		"empty":          {nil, false},
		"longer":         {append(other[:0:0], append(Content(), 0)...), false},
		"one other byte": {other, false},
	} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, tt.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := sameContent(path); (err == nil) != tt.same {
			t.Errorf("%s: got %v; want same=%v", name, err, tt.same)
		}
	}
}
