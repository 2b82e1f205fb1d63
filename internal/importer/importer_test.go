package importer

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ftpgate/internal/config"
)

var update = flag.Bool("update", false, "write the expected files anew")

// Each file of testdata is a set-up as an administrator may have it, and the file beside it (.want) what comes
// of it. The names say what is told apart.
func TestGolden(t *testing.T) {
	t.Parallel()
	inputs, err := filepath.Glob("testdata/*.rules")
	if err != nil || len(inputs) < 30 {
		t.Fatalf("got %d inputs, error %v; want 30 and more", len(inputs), err)
	}
	for _, input := range inputs {
		t.Run(strings.TrimSuffix(filepath.Base(input), ".rules"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(input)
			if err != nil {
				t.Fatal(err)
			}
			got := printed(string(text), Options{Kernel: strings.Contains(input, "keep-kernel")})
			want := strings.TrimSuffix(input, ".rules") + ".want"
			if *update {
				if err := os.WriteFile(want, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			expected, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(expected) {
				t.Errorf("got\n%s\nwant\n%s", got, expected)
			}
			wantSound(t, got)
		})
	}
}

// printed returns the file that comes of a text, or the error.
func printed(text string, o Options) string {
	r, err := Import(text, o)
	if err != nil {
		return err.Error() + "\n"
	}
	return r.String()
}

// wantSound holds a file with a forward to what "ftpgate check" asks for.
func wantSound(t *testing.T, file string) {
	t.Helper()
	if !strings.Contains(file, "\n[[forward]]\n") {
		return
	}
	path := filepath.Join(t.TempDir(), "ftpgate.toml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(path); err != nil {
		t.Errorf("the file is not sound: %v\n%s", err, file)
	}
}
