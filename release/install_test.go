package main

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

const (
	configPath  = "/etc/ftpgate/ftpgate.toml"
	enabledLink = "/etc/systemd/system/multi-user.target.wants/ftpgate.service"
	mainPID     = "systemctl show --value -p MainPID ftpgate"
)

// TestDebian does on a clean Debian what docs/install.md, service.md and upgrade.md say of the deb: it
// installs it, starts the service, uses it, completes words in each shell, upgrades, removes and purges. Then
// come the sources.
func TestDebian(t *testing.T) {
	old, next := packed(t, "deb", "0.1.0", ""), packed(t, "deb", "99.0.0",
		"# a comment of the next release\n")
	r := newRoot(t)
	r.installed(old)
	r.served()
	r.reloads()
	for _, s := range shells {
		t.Run(s.name, func(t *testing.T) { root{t, r.dir, r.init}.completes(s) })
	}
	r.upgraded(next)
	r.removed()
	r.fromSources()
}

// installed installs the first package: the service is there, and waits for a configuration.
func (r root) installed(deb string) {
	r.Helper()
	r.run("dpkg -i " + r.put(deb))
	r.want("ftpgate:/usr/sbin/nologin", "getent passwd ftpgate | cut -d: -f1,7")
	r.want("/usr/share/man/man8/ftpgate.8.gz\n/usr/share/man/man5/ftpgate.toml.5.gz",
		"man -w ftpgate; man -w 5 ftpgate.toml")
	r.want("ftpgate - make FTP servers reachable through a gateway that translates addresses",
		"MANWIDTH=200 man ftpgate | sed -n 's/^ *\\(ftpgate - .*\\)/\\1/p'")
	r.want("disabled\ninactive", "systemctl is-enabled ftpgate || true; systemctl is-active ftpgate || true")
	r.want("", "systemd-analyze verify ftpgate.service 2>&1")
	r.wantFiles(true, "/run/ftpgate.sock")
	if got := r.run("ftpgate check 2>&1 || true"); !strings.Contains(got, "no [[forward]]") {
		r.Errorf("ftpgate check: got %q; want that no forward is there yet", got)
	}
}

// served uncomments what docs/service.md says, starts the service, and has the client get a file through it.
func (r root) served() {
	r.Helper()
	r.run(`sed -i -e '0,/^#\[\[forward\]\]/s//[[forward]]/' -e '0,/^#name/s//name/' \
	-e '0,/^#listen/s//listen/' -e '0,/^#server .*/s//server = "203.0.113.21"/' ` + configPath)
	r.want(configPath+": OK, 1 forward", "ftpgate check | head -1")
	r.run("systemctl enable --now ftpgate")
	r.wantFiles(true, enabledLink)
	r.works()
}

// works wants the service to be active, and to carry a file by the kernel.
func (r root) works() {
	r.Helper()
	r.want("active", "systemctl is-active ftpgate")
	r.want("a file of the server", "ip netns exec client tnftp -V -o - ftp://192.168.5.2:2121/file")
}

// reloads puts a changed file into effect, and keeps the old one where the new one has a fault.
func (r root) reloads() {
	r.Helper()
	pid := r.run(mainPID)
	r.run(`printf '[[forward]]\nname = "plc"\nlisten = ":2122"\nserver = "203.0.113.22"\n' >>` + configPath)
	r.run("systemctl reload ftpgate")
	const forwards = "ftpgate status | sed -n 's/^forward \\([^:]*\\):.*/\\1/p'"
	want := r.run(forwards)
	if !strings.Contains(want, "plc") {
		r.Errorf("after a reload: got the forwards\n%s\nwant plc among them", want)
	}
	r.run("cp " + configPath + " /root/sound; echo nonsense >>" + configPath)
	r.want("failed", "systemctl reload ftpgate 2>/dev/null || echo failed")
	r.want(want, forwards)
	r.want(pid, mainPID)
	// A start with a fault: the log has it, and the service comes by itself when it is mended.
	r.want("failed", "systemctl restart ftpgate 2>/dev/null || echo failed")
	if log := r.run("journalctl -u ftpgate -n 20 -o cat"); !strings.Contains(log, configPath+":") {
		r.Errorf("journalctl: got\n%s\nwant the fault of the file in it", log)
	}
	r.run("cp /root/sound " + configPath + "; until systemctl is-active ftpgate; do sleep 0.1; done")
	r.works()
}

// upgraded installs the next package: the configuration stays, and a running service is started again.
func (r root) upgraded(deb string) {
	r.Helper()
	mine, pid, path := r.run("cat "+configPath), r.run(mainPID), r.put(deb)
	r.run("dpkg --force-confold -i " + path)
	r.want("99.0.0-1", "dpkg-query -W -f '${Version}' ftpgate")
	r.want(mine, "cat "+configPath)
	r.want("# a comment of the next release", "head -1 "+configPath+".dpkg-dist")
	r.wantFiles(true, enabledLink)
	if now := r.run(mainPID); now == pid {
		r.Errorf("after the upgrade: got the process %s, as before; want another", now)
	}
	r.works()
	r.run("systemctl stop ftpgate; dpkg -i " + path)
	r.want("inactive", "systemctl is-active ftpgate || true")
	r.run("systemctl start ftpgate")
}

// removed removes the package and then purges it: Debian's policy says what stays when.
func (r root) removed() {
	r.Helper()
	mine := r.run("cat " + configPath)
	r.run("dpkg --remove ftpgate")
	r.wantFiles(false, "/usr/bin/ftpgate", "/usr/lib/systemd/system/ftpgate.service")
	r.want("inactive", "systemctl is-active ftpgate || true")
	// nft(8) of this host looks at the gateway's network.
	tables, err := exec.Command("nsenter", fmt.Sprintf("--target=%d", r.init), "--net",
		"nft", "list", "tables").CombinedOutput()
	if err != nil || len(tables) > 0 {
		r.Errorf("nft list tables: got %s, error %v; want none left", tables, err)
	}
	r.want(mine, "cat "+configPath)
	r.run("touch /var/log/ftpgate/transfers.json")
	r.run("dpkg --purge ftpgate")
	r.wantFiles(false, "/etc/ftpgate", "/etc/logrotate.d/ftpgate", enabledLink, "/var/log/ftpgate",
		"/var/lib/ftpgate", "/run/ftpgate.sock", "/usr/share/doc/ftpgate")
	r.want("", "find / -xdev -name '*ftpgate*' -not -path '/root/*' -not -path '/var/cache/man/*'")
}

// fromSources installs by "make install" what "make build" has made, and starts the service as the README
// says.
func (r root) fromSources() {
	r.Helper()
	if out, err := exec.Command("make", "-C", "..", "install",
		"DESTDIR="+r.dir).CombinedOutput(); err != nil {
		r.Fatalf("make install: %v\n%s", err, out)
	}
	r.run("userdel ftpgate; cp /root/sound " + configPath)
	r.run("systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload")
	r.run("systemctl enable --now ftpgate")
	r.works()
	r.run("systemctl disable --now ftpgate")
}
