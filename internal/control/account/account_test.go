package account

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/forward"
)

func TestCheck(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "account")
	forwards := []forward.Forward{{Name: "plain"}, {Name: "any", Outbound: &forward.Outbound{}},
		{Name: "bad", Outbound: &forward.Outbound{AccountFile: missing}}}
	got := Check(forwards)
	if len(got) != 1 || got[0].Forward != "bad" || !strings.Contains(got[0].Text, missing) {
		t.Errorf("got %v; want one fault, of the missing file", got)
	}
}

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "account")
	if _, err := Read(path); !os.IsNotExist(err) {
		t.Errorf("got error %v; want no file", err)
	}
	for text, want := range map[string]string{
		"fw:sesame\n":      "",
		"fw:sesame":        "",
		"fw:a:b\r\n":       "",
		"":                 "want one line",
		"fw":               "want one line",
		":sesame":          "want one line",
		"fw:":              "want one line",
		"fw:sesame\nx:y\n": "want one line",
		"f@w:sesame":       "the user must have no @",
		"f w:sesame":       "the user must have no @",
		"fw:ses@me":        "the password must have no @",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path)
		switch {
		case want == "" && (err != nil || got.User != "fw" || got.Password == ""):
			t.Errorf("%q: got %+v, error %v", text, got, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || got != dialogue.Account{}):
			t.Errorf("%q: got %+v, error %v; want %q", text, got, err, want)
		case err != nil && strings.Contains(err.Error(), "sesame"):
			t.Errorf("%q: the error has the password: %v", text, err)
		}
	}
}
