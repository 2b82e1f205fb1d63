package main

import (
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
)

// format is a format of packages.
type format struct {
	name     string                 // nfpm's, and that of the directory in packaging/
	init     string                 // what starts services: the INIT of "make install"
	zsh      string                 // where zsh finds completions
	release  string                 // of the packaging, behind the version
	version  func(of string) string // a version in the format's own words
	describe func(info *nfpm.Info, scripts string)
}

var formats = []format{
	{name: "deb", init: "systemd", zsh: "/usr/share/zsh/vendor-completions", release: "1", version: asItIs,
		describe: describeDeb},
	{name: "rpm", init: "systemd", zsh: "/usr/share/zsh/site-functions", release: "1", version: asItIs,
		describe: describeRPM},
	{name: "apk", init: "openrc", zsh: "/usr/share/zsh/site-functions", release: "r0",
		version:  func(of string) string { return strings.Replace(of, "+git", "_git", 1) },
		describe: describeAPK},
}

func asItIs(version string) string { return version }

func describeDeb(info *nfpm.Info, scripts string) {
	info.Depends = []string{"systemd"}
	info.Recommends = []string{"ca-certificates", "kmod"}
	info.Suggests = []string{"logrotate", "nftables"}
	info.Deb.Compression = "xz"
	info.Scripts = nfpm.Scripts{
		PostInstall: filepath.Join(scripts, "postinst"),
		PreRemove:   filepath.Join(scripts, "prerm"),
		PostRemove:  filepath.Join(scripts, "postrm"),
	}
}

func describeRPM(info *nfpm.Info, scripts string) {
	info.Depends = []string{"systemd"}
	info.Recommends = []string{"ca-certificates", "kmod"}
	info.Suggests = []string{"logrotate", "nftables"}
	info.RPM.BuildHost = "localhost" // the same wherever it is built
	info.RPM.Group = "System Environment/Daemons"
	info.RPM.Packager = maintainer
	info.RPM.Summary, info.Description, _ = strings.Cut(info.Description, "\n")
	info.Scripts = nfpm.Scripts{
		PostInstall: filepath.Join(scripts, "post"),
		PreRemove:   filepath.Join(scripts, "preun"),
		PostRemove:  filepath.Join(scripts, "postun"),
	}
}

func describeAPK(info *nfpm.Info, scripts string) {
	info.Description, _, _ = strings.Cut(info.Description, "\n")
	info.Scripts = nfpm.Scripts{PreInstall: filepath.Join(scripts, "pre-install")}
	info.APK.Scripts = nfpm.APKScripts{PostUpgrade: filepath.Join(scripts, "post-upgrade")}
}
