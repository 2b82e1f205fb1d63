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

// Each file of testdata is a set-up as an administrator may have it, and the file beside it (.want) what
// comes of it. The names say what is told apart.
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

// wantSound holds a file with a forward or an outbound to what "ftpgate check" asks for.
func wantSound(t *testing.T, file string) {
	t.Helper()
	if !strings.Contains(file, "\n[[forward]]\n") && !strings.Contains(file, "\n[[outbound]]\n") {
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

// A text that
// is too long, or in no known form, is an error.
func TestErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		strings.Repeat("#", MaxSize+1): "larger than 8 MiB",
		"":                             "there is no text",
		"\xff\xfe*\x00":                "UTF-16",
		"hello":                        "no rules in a form that is known",
		`{"nftables": 5}`:              "nft's JSON",
	} {
		if _, err := Import(text, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: got %v; want %q", text, err, want)
		}
	}
}

// A hostile text becomes no terminal sequence, and no key.
func TestHostileText(t *testing.T) {
	t.Parallel()
	got := printed("*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp --dport 21 -m comment --comment "+
		"\"ftp \x1b[31m\u2028\u202e\" -j DNAT --to-destination 10.0.0.5\n-A x\x00\r[[forward]]\n", Options{})
	if strings.ContainsAny(got, "\x1b\x00\r\u2028\u202e") || strings.Count(got, "\n[[forward]]") != 1 {
		t.Errorf("got %q", got)
	}
	wantSound(t, got)
}

// Whatever the text is: what comes of it is sound, and names each line that could not be read.
func FuzzImport(f *testing.F) {
	inputs, err := filepath.Glob("testdata/*.rules")
	if err != nil {
		f.Fatal(err)
	}
	for _, input := range inputs {
		text, err := os.ReadFile(input)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), strings.Contains(input, "kernel"))
	}
	f.Fuzz(func(t *testing.T, text string, kernel bool) {
		r, err := Import(text, Options{Kernel: kernel})
		if err != nil {
			return
		}
		file := r.String()
		for line := range strings.Lines(file) {
			if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool {
				return r < ' ' ||
					r == 0x7f
			}) {
				t.Errorf("the line %q has a control character", line)
			}
		}
		wantSound(t, file)
	})
}
