package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// root is the directory of a system that a test installs packages in. No systemd runs in it.
type root struct {
	*testing.T
	dir string
}

// newRoot makes a clean Debian with systemd's files and man(1) in it, or copies the one in the directory that
// DEBIAN_ROOT names.
func newRoot(t *testing.T) root {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can make a clean system")
	}
	dir := filepath.Join(t.TempDir(), "root")
	cmd := exec.Command("debootstrap", "--variant=minbase", "--include=systemd,man-db", debianRelease, dir)
	if made := os.Getenv("DEBIAN_ROOT"); made != "" {
		cmd = exec.Command("cp", "--archive", made, dir)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return root{t, dir}
}

// debianRelease is the oldest Debian that the packages are for.
const debianRelease = "bookworm"

// command returns a command of the system, as process 1 of its own and without a network.
func (r root) command(ctx context.Context, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child=SIGTERM",
		"--mount-proc="+r.dir+"/proc", "chroot", r.dir, "/bin/sh", "-ec", script)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
		"DEBIAN_FRONTEND=noninteractive"}
	return cmd
}

// run runs a script in the system, wants its exit status to be 0, and returns what it prints.
func (r root) run(script string) string {
	r.Helper()
	out, err := r.command(r.Context(), script).CombinedOutput()
	if err != nil {
		r.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

// want runs a script and wants it to print this.
func (r root) want(want, script string) {
	r.Helper()
	if got := r.run(script); got != want {
		r.Errorf("%s: got %q; want %q", script, got, want)
	}
}

// exists reports whether the system has a file.
func (r root) exists(path string) bool {
	_, err := os.Lstat(filepath.Join(r.dir, path))
	return err == nil
}

// wantFiles wants files to be there, or to be gone.
func (r root) wantFiles(there bool, paths ...string) {
	r.Helper()
	for _, path := range paths {
		if r.exists(path) != there {
			r.Errorf("%s: got there %v; want %v", path, !there, there)
		}
	}
}

// put copies a file to /tmp of the system, and returns its path there.
func (r root) put(path string) string {
	r.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		r.Fatal(err)
	}
	to := "/tmp/" + filepath.Base(path)
	if err := os.WriteFile(filepath.Join(r.dir, to), content, 0o644); err != nil {
		r.Fatal(err)
	}
	return to
}

const enabledLink = "/etc/systemd/system/multi-user.target.wants/ftpgate.service"

// TestDebianRoot installs the deb in a clean Debian, enables and runs the service, upgrades, removes and
// purges it.
func TestDebianRoot(t *testing.T) {
	old, next := packed(t, "0.2.0", ""), packed(t, "99.0.0", "# a comment of the next release\n")
	r := newRoot(t)

	r.run("dpkg -i " + r.put(old["deb"]))
	r.want("ftpgate:/usr/sbin/nologin", "getent passwd ftpgate | cut -d: -f1,7")
	r.want("/usr/share/man/man8/ftpgate.8.gz\n/usr/share/man/man5/ftpgate.toml.5.gz",
		"man -w ftpgate; man -w 5 ftpgate.toml")
	r.want("ftpgate - make FTP servers reachable through a gateway that translates addresses",
		"MANWIDTH=200 man ftpgate | sed -n 's/^ *\\(ftpgate - .*\\)/\\1/p'")
	r.want("disabled", "SYSTEMD_OFFLINE=1 systemctl is-enabled ftpgate || true")
	if got := r.run(
		"systemd-analyze verify ftpgate.service 2>&1 | grep -v notify-reload || true"); got != "" {
		t.Errorf("systemd-analyze verify: got %s; want nothing", got)
	}
	r.wantFiles(true, "/run/ftpgate.sock")
	if got := r.run("ftpgate check 2>&1 || true"); !strings.Contains(got, "no [[forward]]") {
		t.Errorf("ftpgate check: got %q; want that no forward is there yet", got)
	}

	r.run("systemctl enable ftpgate")
	r.wantFiles(true, enabledLink)
	const config = "/etc/ftpgate/ftpgate.toml"
	r.run(`printf '[[forward]]\nname = "archive"\nlisten = ":2121"\nserver = "203.0.113.21"\n' >>` + config)
	r.want(config+": OK, 1 forward", "ftpgate check | head -1")
	mine := r.run("cat " + config)
	r.serve()

	r.run("dpkg --force-confold -i " + r.put(next["deb"]))
	r.want("99.0.0-1", "dpkg-query -W -f '${Version}' ftpgate")
	r.want(mine, "cat "+config)
	r.want("# a comment of the next release", "head -1 "+config+".dpkg-dist")
	r.wantFiles(true, enabledLink)
	r.serve()

	r.run("dpkg --remove ftpgate")
	r.wantFiles(false, "/usr/bin/ftpgate", "/usr/lib/systemd/system/ftpgate.service")
	r.want(mine, "cat "+config)
	r.run("touch /var/log/ftpgate/transfers.json; dpkg --purge ftpgate")
	r.wantFiles(false, "/etc/ftpgate", "/etc/logrotate.d/ftpgate", enabledLink, "/var/log/ftpgate",
		"/var/lib/ftpgate", "/run/ftpgate.sock", "/usr/share/doc/ftpgate")
}

// serve runs the program as the unit does, with its user and its directories, until it is ready; asks it for
// its status, and stops it.
func (r root) serve() {
	r.Helper()
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	cmd := r.command(ctx, `
install -d -o ftpgate -g ftpgate /run/ftpgate /var/lib/ftpgate /var/log/ftpgate
export RUNTIME_DIRECTORY=/run/ftpgate STATE_DIRECTORY=/var/lib/ftpgate
setpriv --reuid ftpgate --regid ftpgate --init-groups --inh-caps -all --no-new-privs ftpgate run &
read -r _
ftpgate status
kill $!
wait $!`)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		r.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		r.Fatal(err)
	}
	var stdout strings.Builder
	cmd.Stdout = &stdout
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		r.Fatal(err)
	}
	var log strings.Builder
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		log.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "msg=ready") {
			if _, err := io.WriteString(stdin, "\n"); err != nil {
				r.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(stdout.String(),
		"forward archive: :2121 leads to 203.0.113.21:21") {
		r.Errorf("ftpgate run: got %v, the status\n%s\nand the log\n%s", err, &stdout, &log)
	}
}
