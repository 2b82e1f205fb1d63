// Command release makes what a release of ftpgate consists of, in dist/: static programs, packages for Linux
// distributions, lists of what is in them (CycloneDX), the licenses of the libraries, and checksums. One
// commit gives the same bytes wherever and whenever it is built. It publishes nothing.
//
//	release packages   the packages alone
//	release release    all of it, from a work tree without changes
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	root := flag.String("root", "..", "the repository's `DIRECTORY`")
	into := flag.String("into", "", "the `DIRECTORY` for the files (default dist in the repository)")
	flag.Parse()
	if err := run(*root, *into, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(root, into string, args []string) error {
	if len(args) != 1 || args[0] != "packages" && args[0] != "release" {
		return errors.New("want packages or release")
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
	whole := args[0] == "release"
	if whole && src.modified {
		return errors.New("files differ from the commit: a release is made from a commit alone")
	}
	if err := os.RemoveAll(into); err != nil {
		return err
	}
	if err := os.MkdirAll(into, 0o755); err != nil {
		return err
	}
	return src.make(into, whole)
}

// make makes the packages, and if whole the rest of a release.
func (s source) make(into string, whole bool) error {
	work, err := os.MkdirTemp("", "ftpgate-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	licenses, err := s.licenses()
	if err != nil {
		return err
	}
	for _, t := range targets {
		if len(t.packages) == 0 && !whole {
			continue
		}
		program := filepath.Join(work, "ftpgate-"+t.name)
		if whole {
			program = filepath.Join(into, fmt.Sprintf("ftpgate-%s-linux-%s", s.version, t.name))
		}
		if err := s.build(t, program); err != nil {
			return err
		}
		for _, format := range t.packages {
			stage := filepath.Join(work, t.name+"-"+format.name)
			if err := s.stage(stage, format, program, licenses); err != nil {
				return err
			}
			if _, err := s.pack(format, t, stage, into); err != nil {
				return err
			}
		}
		if whole {
			if err := s.writeMaterials(program); err != nil {
				return err
			}
		}
	}
	if !whole {
		return nil
	}
	if err := os.WriteFile(filepath.Join(into, "LICENSES.txt"), licenses, 0o644); err != nil {
		return err
	}
	return writeChecksums(into)
}
