package main

import (
	"crypto/sha256"
	"fmt"
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
	packages []format // nil: the program alone
}

var targets = []target{
	{name: "amd64", goarch: "amd64", nfpmArch: "amd64", packages: formats},
	{name: "arm64", goarch: "arm64", nfpmArch: "arm64", packages: formats},
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

// writeChecksums writes SHA256SUMS, which sha256sum --check reads.
func writeChecksums(dir string) error {
	entries, err := os.ReadDir(dir) // in the order of names
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(content), e.Name())
	}
	return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(sums.String()), 0o644)
}
