// Package version says which ftpgate this program is: the release in the file VERSION, and the commit that
// the Go tool recorded when it built the program. It never runs git.
//
// VERSION is a file of this package because Go embeds only files at or below the package, and because the
// command line, the API and the metrics all need it.
package version

import (
	_ "embed"
	"fmt"
	"runtime/debug"
	"strings"
)

//go:embed VERSION
var file string

const commitLength = 12 // characters of a commit: what git shows of one in a large repository

// String returns the release and the commit, for people: "0.2.0 (commit 0123456789ab)", with ", modified" if
// files differed from the commit. A program that was built without git has the release alone.
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return release()
	}
	return describe(release(), info.Settings)
}

// release is the number in VERSION, like "0.2.0".
func release() string { return strings.TrimSpace(file) }

// describe adds to a release what the Go tool recorded of the commit.
func describe(release string, settings []debug.BuildSetting) string {
	var commit, modified string
	for _, s := range settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value[:min(len(s.Value), commitLength)]
		case "vcs.modified":
			if s.Value == "true" {
				modified = ", modified"
			}
		}
	}
	if commit == "" {
		return release
	}
	return fmt.Sprintf("%s (commit %s%s)", release, commit, modified)
}
