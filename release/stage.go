package main

import (
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// stage installs ftpgate below a directory, as the packages of a format have it: what "make install"
// installs, with the manual compressed, and with the format's own files.
func (s source) stage(dir string, f format, program string, licenses []byte) error {
	cmd := exec.Command("make", "--no-print-directory", "--silent", "install", "DESTDIR="+dir, "PREFIX=/usr",
		"BINARY="+program, "INIT="+f.init, "ZSHDIR="+f.zsh)
	// What this program's own make was told is not for this one.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS=")
	})
	if err := s.do(cmd); err != nil {
		return err
	}
	manuals, err := filepath.Glob(filepath.Join(dir, "usr/share/man/man*/*"))
	if err != nil {
		return err
	}
	for _, path := range manuals {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := writeCompressed(path+".gz", text); err != nil {
			return err
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	if f.name == "deb" {
		return s.stageDeb(dir, licenses)
	}
	return write(filepath.Join(dir, "usr/share/licenses/ftpgate/LICENSES.txt"), licenses)
}

// stageDeb adds what Debian's policy asks of a package.
func (s source) stageDeb(dir string, licenses []byte) error {
	changes, err := os.ReadFile(filepath.Join(s.root, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	for to, from := range map[string]string{"doc/ftpgate/copyright": "copyright",
		"lintian/overrides/ftpgate": "lintian-overrides"} {
		text, err := os.ReadFile(filepath.Join(s.root, "packaging/deb", from))
		if err != nil {
			return err
		}
		if err := write(filepath.Join(dir, "usr/share", to), text); err != nil {
			return err
		}
	}
	docs := filepath.Join(dir, "usr/share/doc/ftpgate")
	if err := writeCompressed(filepath.Join(docs, "changelog.gz"), changes); err != nil {
		return err
	}
	return writeCompressed(filepath.Join(docs, "LICENSES.txt.gz"), licenses)
}

// writeCompressed writes a file as gzip, without a name or a time in it.
func writeCompressed(path string, content []byte) error {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(content); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return write(path, b.Bytes())
}

// write writes a file that every user may read, with the directories above it.
func write(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o644)
}
