package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// licenseFile matches the files in which modules have their licenses and what these demand to pass on.
var licenseFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([.-].*)?$`)

// licenses returns the license of ftpgate, and those of Go and of every library in the program.
func (s source) licenses() ([]byte, error) {
	own, err := os.ReadFile(filepath.Join(s.root, "LICENSE"))
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b,
		"ftpgate is licensed as follows. The licenses of what is built into it come after.\n\n%s", own)
	goroot, err := output(s.root, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	list, err := output(s.root, "go", "list", "-deps", "-f",
		"{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}\t{{.Dir}}{{end}}{{end}}", "./cmd/ftpgate")
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for line := range strings.Lines("Go, its standard library and runtime\t" + goroot + "\n" + list) {
		name, dir, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if !ok || seen[name] {
			continue
		}
		seen[name] = true
		if err := addLicense(&b, name, dir); err != nil {
			return nil, err
		}
	}
	return []byte(b.String()), nil
}

// addLicense adds the license files at the top of a module.
func addLicense(b *strings.Builder, name, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	found := false
	for _, e := range entries {
		if e.IsDir() || !licenseFile.MatchString(e.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		found = true
		fmt.Fprintf(b, "\n%s\n%s: %s\n\n%s\n", strings.Repeat("-", 78), name, e.Name(),
			strings.TrimSpace(string(text)))
	}
	if !found {
		return fmt.Errorf("%s: %s has no license", name, dir)
	}
	return nil
}
