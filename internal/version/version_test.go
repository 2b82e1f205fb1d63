package version

import (
	"os"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
)

// heading is how CHANGELOG.md begins the section of a release.
var heading = regexp.MustCompile(`(?m)^## ([0-9]+\.[0-9]+\.[0-9]+) - [0-9]{4}-[0-9]{2}-[0-9]{2}$`)

// TestChangelog: the newest section of the changelog is about this release.
func TestChangelog(t *testing.T) {
	text, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	found := heading.FindSubmatch(text)
	if found == nil {
		t.Fatalf("CHANGELOG.md has no heading like %q", "## 0.2.0 - 2026-11-30")
	}
	if got, want := string(found[1]), release(); got != want {
		t.Errorf("the newest section of CHANGELOG.md is of %q; want that of VERSION, %q", got, want)
	}
}

// TestVersionFile: the file has a number and a newline, so that scripts can read it, too.
func TestVersionFile(t *testing.T) {
	if !regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+\n$`).MatchString(file) {
		t.Errorf("got VERSION %q; want a line like %q", file, "0.2.0\n")
	}
}

func TestDescribe(t *testing.T) {
	const commit = "0123456789abcdef0123456789abcdef01234567"
	for _, tt := range []struct {
		name     string
		settings []debug.BuildSetting
		want     string
	}{
		{"without git", []debug.BuildSetting{{Key: "-trimpath", Value: "true"}}, "0.2.0"},
		{"clean", []debug.BuildSetting{
			{Key: "vcs.revision", Value: commit}, {Key: "vcs.modified", Value: "false"},
		}, "0.2.0 (commit 0123456789ab)"},
		{"modified", []debug.BuildSetting{
			{Key: "vcs.modified", Value: "true"}, {Key: "vcs.revision", Value: commit},
		}, "0.2.0 (commit 0123456789ab, modified)"},
		{"short", []debug.BuildSetting{{Key: "vcs.revision", Value: "1234"}}, "0.2.0 (commit 1234)"},
	} {
		if got := describe("0.2.0", tt.settings); got != tt.want {
			t.Errorf("%s: got %q; want %q", tt.name, got, tt.want)
		}
	}
}

func TestString(t *testing.T) {
	if got := String(); !strings.HasPrefix(got, release()) {
		t.Errorf("got %q; want it to begin with %q", got, release())
	}
}
