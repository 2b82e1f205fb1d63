package main

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// target is a kind of machine that ftpgate is built for.
type target struct {
	name     string // in the names of files
	goarch   string
	goarm    string   // empty: it is no ARM of 32 bits
	nfpmArch string   // what nfpm calls it; it knows the distributions' words
	packages []format // nil: none
	image    bool     // there is a container image
}

var targets = []target{
	{name: "amd64", goarch: "amd64", nfpmArch: "amd64", packages: formats, image: true},
	{name: "arm64", goarch: "arm64", nfpmArch: "arm64", packages: formats, image: true},
	{name: "armv7", goarch: "arm", goarm: "7", nfpmArch: "arm7", packages: formats},
	{name: "riscv64", goarch: "riscv64"},
}

// build builds the program, static, without the builder's paths, symbols and debugging information, but with
// the commit in it. GOFLAGS replaces what the builder has set by "go env -w", too.
func (s source) build(t target, program string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./cmd/ftpgate")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=auto", "GOOS=linux",
		"GOARCH="+t.goarch, "GOARM="+t.goarm, "GOAMD64=v1")
	return s.do(cmd)
}

// do runs a program in the repository and shows what it prints.
func (s source) do(cmd *exec.Cmd) error {
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.root, os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return nil
}

// writeChecksums writes SHA256SUMS, which sha256sum --check reads, of all files below a directory.
func writeChecksums(dir string) error {
	var sums strings.Builder
	// in the order of names
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(content), name)
		return err
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(sums.String()), 0o644)
}
