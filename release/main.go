// Command release makes what a release of ftpgate consists of, in dist/: static programs, packages for Linux
// distributions, container images, lists of what is in them (CycloneDX), the licenses of the libraries, and
// checksums. One commit gives the same bytes wherever and whenever it is built. It publishes nothing.
//
//	release packages   the packages alone
//	release image      the container images alone
//	release release    all of it, from a work tree without changes
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

func main() {
	root := flag.String("root", "..", "the repository's `DIRECTORY`")
	into := flag.String("into", "", "the `DIRECTORY` for the files (default dist in the repository)")
	url := flag.String("source", "", "the `URL` of the repository, which images name (default none)")
	flag.Parse()
	if err := run(*root, *into, *url, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(root, into, url string, args []string) error {
	if len(args) != 1 || !slices.Contains([]string{"packages", "image", "release"}, args[0]) {
		return errors.New("want packages, image or release")
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	if into == "" {
		into = filepath.Join(root, "dist")
	}
	src, err := readSource(root)
	if err != nil {
		return err
	}
	src.url = url
	wanted := products{packages: args[0] != "image", images: args[0] != "packages",
		programs: args[0] == "release"}
	if wanted.programs && src.modified {
		return errors.New("files differ from the commit: a release is made from a commit alone")
	}
	if err := os.RemoveAll(into); err != nil {
		return err
	}
	if err := os.MkdirAll(into, 0o755); err != nil {
		return err
	}
	return src.make(into, wanted)
}

// products is what to make.
type products struct {
	packages, images bool
	programs         bool // and with them checksums, licenses and bills of materials
}

// of reports whether something of a target is wanted.
func (p products) of(t target) bool {
	return p.programs || p.packages && len(t.packages) > 0 || p.images && t.image
}

func (s source) make(into string, wanted products) error {
	work, err := os.MkdirTemp("", "ftpgate-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	licenses, err := s.licenses()
	if err != nil {
		return err
	}
	programs := map[string]string{} // by target
	for _, t := range targets {
		if !wanted.of(t) {
			continue
		}
		program := filepath.Join(work, "ftpgate-"+t.name)
		if wanted.programs {
			program = filepath.Join(into, fmt.Sprintf("ftpgate-%s-linux-%s", s.version, t.name))
		}
		programs[t.name] = program
		if err := s.build(t, program); err != nil {
			return err
		}
		if wanted.packages {
			if err := s.packAll(t, work, into, program, licenses); err != nil {
				return err
			}
		}
		if wanted.programs {
			if err := s.writeMaterials(program); err != nil {
				return err
			}
		}
	}
	if wanted.images {
		if err := s.writeImages(into, programs, licenses); err != nil {
			return err
		}
	}
	if !wanted.programs {
		return nil
	}
	if err := os.WriteFile(filepath.Join(into, "LICENSES.txt"), licenses, 0o644); err != nil {
		return err
	}
	return writeChecksums(into)
}

// packAll makes the packages of a program, in each format that its target has.
func (s source) packAll(t target, work, into, program string, licenses []byte) error {
	for _, format := range t.packages {
		stage := filepath.Join(work, t.name+"-"+format.name)
		if err := s.stage(stage, format, program, licenses); err != nil {
			return err
		}
		if _, err := s.pack(format, t, stage, into); err != nil {
			return err
		}
	}
	return nil
}
