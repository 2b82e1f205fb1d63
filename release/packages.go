package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/apk"
	_ "github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

const (
	maintainer  = "the authors of ftpgate" // they have no address for mail
	description = `FTP gateway that follows the FTP dialogue
ftpgate makes FTP servers reachable through a Linux gateway that
translates addresses. It reads the dialogue of each session, answers with
the gateway's own address, and opens a pinhole for exactly each data
connection; the kernel carries the data. It speaks FTPS with either side,
and explains why a session failed.`
)

// pack makes a package of what is staged, and returns its path.
func (s source) pack(f format, t target, stage, into string) (string, error) {
	contents, err := contentsOf(stage, f.name)
	if err != nil {
		return "", err
	}
	changes := stage + "-changes.yaml"
	if err := s.writeChanges(changes, f); err != nil {
		return "", err
	}
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "ftpgate", Arch: t.nfpmArch, Platform: "linux", Section: "net", Priority: "optional",
		Version: f.version(s.version), VersionSchema: "none", Release: f.release, MTime: s.time,
		Maintainer: maintainer, Description: description, License: "Apache-2.0",
		Changelog: changes, DisableGlobbing: true,
		Overridables: nfpm.Overridables{Contents: contents},
	})
	scripts := stage + "-scripts"
	if err := s.copyScripts(scripts, f); err != nil {
		return "", err
	}
	f.describe(info, scripts)
	if err := nfpm.PrepareForPackager(info, f.name); err != nil {
		return "", err
	}
	packager, err := nfpm.Get(f.name)
	if err != nil {
		return "", err
	}
	path := filepath.Join(into, packager.ConventionalFileName(info))
	out, err := os.Create(path)
	if err != nil {
		return "", err
	}
	if err := packager.Package(info, out); err != nil {
		out.Close() // the package is broken anyway
		return "", err
	}
	return path, out.Close()
}

// copyScripts copies the scripts of a format with the time of the commit, which an apk has in it.
func (s source) copyScripts(to string, f format) error {
	if err := os.CopyFS(to, os.DirFS(filepath.Join(s.root, "packaging", f.name))); err != nil {
		return err
	}
	return filepath.WalkDir(to, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(path, s.time, s.time)
	})
}

// writeChanges writes the log of changes to the packaging, which is one line: ftpgate's own is beside it.
func (s source) writeChanges(path string, f format) error {
	packager := maintainer
	if f.name == "deb" {
		packager += " <>" // its changelog has an address in every entry (deb-changelog(5))
	}
	text, err := json.Marshal([]map[string]any{{ // which is YAML, too
		"semver": f.version(s.version) + "-" + f.release, "date": s.time, "packager": packager,
		"deb":     map[string]any{"distributions": []string{"stable"}, "urgency": "medium"},
		"changes": []map[string]string{{"note": "New release: CHANGELOG.md says what changes."}},
	}})
	if err != nil {
		return err
	}
	return write(path, text)
}

// contentsOf returns every file that is staged, and the directories that are ftpgate's own. A file in /etc
// belongs to the administrator once it is installed. An rpm says which files are documents.
func contentsOf(stage, format string) (contents files.Contents, err error) {
	err = filepath.WalkDir(stage, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := strings.TrimPrefix(path, stage)
		c := &files.Content{Source: path, Destination: to, Type: files.TypeFile}
		switch {
		case d.IsDir() && !strings.Contains(to, "/ftpgate"):
			return nil
		case d.IsDir():
			c.Source, c.Type = "", files.TypeDir
		case strings.HasPrefix(to, "/etc/") && !strings.HasPrefix(to, "/etc/init.d/"):
			c.Type = files.TypeConfigNoReplace
		case format == "rpm" && strings.HasPrefix(to, "/usr/share/licenses/"):
			c.Type = files.TypeRPMLicense
		case format == "rpm" && (strings.HasPrefix(to, "/usr/share/doc/") ||
			strings.HasPrefix(to, "/usr/share/man/")):
			c.Type = files.TypeRPMDoc
		}
		contents = append(contents, c)
		return nil
	})
	return contents, err
}
