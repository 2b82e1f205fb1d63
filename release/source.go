package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// source is a commit of the repository, to build.
type source struct {
	root     string    // the repository's directory
	version  string    // of the packages: "0.2.0" if its tag is there, else "0.2.0+git20261130142317"
	time     time.Time // the commit's, or that of SOURCE_DATE_EPOCH: every file gets it
	modified bool      // files differ from the commit
	url      string    // where the repository is published; empty: not said
}

// readSource asks git for the commit. Without git the release is what VERSION says, and SOURCE_DATE_EPOCH has
// to be in the environment (reproducible-builds.org/specs/source-date-epoch).
func readSource(root string) (source, error) {
	text, err := os.ReadFile(filepath.Join(root, "internal", "version", "VERSION"))
	if err != nil {
		return source{}, err
	}
	s := source{root: root, version: strings.TrimSpace(string(text))}
	epoch, given := os.LookupEnv("SOURCE_DATE_EPOCH")
	if _, err := os.Stat(filepath.Join(root, ".git")); errors.Is(err, os.ErrNotExist) {
		if !given {
			return source{}, errors.New("there is no .git: set SOURCE_DATE_EPOCH to the time of the release")
		}
		s.time, err = parseEpoch(epoch)
		return s, err
	}
	committed, err := output(root, "git", "log", "-1", "--format=%ct")
	if err != nil {
		return source{}, err
	}
	if !given {
		epoch = committed
	}
	if s.time, err = parseEpoch(epoch); err != nil {
		return source{}, err
	}
	changes, err := output(root, "git", "status", "--porcelain", "--untracked-files=no")
	if err != nil {
		return source{}, err
	}
	s.modified = changes != ""
	tags, err := output(root, "git", "tag", "--points-at", "HEAD", "--list", "v*")
	if err != nil {
		return source{}, err
	}
	s.version, err = packageVersion(s.version, strings.Fields(tags), s.modified, s.time)
	return s, err
}

// packageVersion returns the version of a commit: that of its tag, which must be the one in VERSION. Every
// other commit comes after the last release, and gets a version between that one and the next.
func packageVersion(release string, tags []string, modified bool, at time.Time) (string, error) {
	switch {
	case len(tags) > 0 && !slices.Contains(tags, "v"+release):
		return "", fmt.Errorf("the commit has the tag %s, and internal/version/VERSION says %s", tags[0],
			release)
	case len(tags) > 0 && !modified:
		return release, nil
	}
	return release + "+git" + at.UTC().Format("20060102150405"), nil
}

func parseEpoch(text string) (time.Time, error) {
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// output runs a program and returns what it prints, without the last newline.
func output(dir string, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, &stderr)
	}
	return strings.TrimSpace(string(out)), nil
}
