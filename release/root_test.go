package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// root is a Debian that a test installs packages in.
type root struct {
	*testing.T
	dir  string
	init int // its process 1, as the host numbers it
}

// debianRelease is the oldest Debian that the packages are for.
const debianRelease = "bookworm"

// inDebian are the packages of the system: shells for completions, and what stands around a gateway.
const inDebian = "systemd,man-db,bash-completion,zsh,fish,iproute2,vsftpd,tnftp"

// newRoot makes a clean Debian whose process 1 is systemd. It is a gateway between the networks of a client,
// 192.168.5.1, and of an FTP server, 203.0.113.21.
func newRoot(t *testing.T) root {
	t.Helper()
	r := clean(t, debianRelease, inDebian, os.Getenv("DEBIAN_ROOT"))
	r.patient()
	r.boot("/lib/systemd/systemd --unit=multi-user.target --log-target=console --log-level=warning " +
		"--show-status=no")
	booted := `until [ -S /run/systemd/private ]; do sleep 0.1; done
systemctl is-system-running --wait || systemctl --failed --no-legend --plain`
	if got := r.run(booted); got != "running" {
		t.Fatalf("the system: got %s; want it running", got)
	}
	r.run(networks)
	return r
}

// clean makes a Debian with packages in memory, where dpkg waits for no disk; or a copy of one that is made.
func clean(t *testing.T, release, packages, made string) root {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can make a clean system")
	}
	memory := t.TempDir()
	if err := syscall.Mount("ftpgate-root", memory, "tmpfs", 0, "mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(memory, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	dir := filepath.Join(memory, "root")
	cmd := exec.Command("debootstrap", "--variant=minbase", "--include="+packages, release, dir)
	if made != "" {
		cmd = exec.Command("cp", "--archive", made, dir)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return root{T: t, dir: dir}
}

// patient gives services, which have 90 seconds, as long as they need on a busy machine.
func (r root) patient() {
	r.Helper()
	dir := filepath.Join(r.dir, "etc/systemd/system.conf.d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		r.Fatal(err)
	}
	text := "[Manager]\nDefaultTimeoutStartSec=15min\nDefaultTimeoutStopSec=15min\n"
	if err := os.WriteFile(filepath.Join(dir, "patient.conf"), []byte(text), 0o644); err != nil {
		r.Fatal(err)
	}
}

// networks makes the hosts around the gateway, and starts the FTP server on its own.
const networks = `
for host in client server; do ip netns add $host; done
ip link add lan0 type veth peer name eth0 netns client
ip link add wan0 type veth peer name eth0 netns server
ip addr add 192.168.5.2/24 dev lan0
ip addr add 203.0.113.1/24 dev wan0
ip -n client addr add 192.168.5.1/24 dev eth0
ip -n server addr add 203.0.113.21/24 dev eth0
for link in lan0 wan0 "-n client eth0" "-n server eth0"; do
	case $link in -n*) ip ${link% *} link set eth0 up ;; *) ip link set $link up ;; esac
done
systemctl disable --now --quiet vsftpd 2>/dev/null
echo a file of the server >/srv/ftp/file
printf '%s\n' listen=YES anonymous_enable=YES secure_chroot_dir=/run/vsftpd >/etc/vsftpd.conf
mkdir -p /run/vsftpd
systemd-run --quiet --unit=ftp-server -p NetworkNamespacePath=/run/netns/server vsftpd /etc/vsftpd.conf`

// bootScript makes a container of the directory $1, in namespaces of its own, and runs the init there that
// INIT names. systemd keeps what it knows of services in cgroups: they are below $2 of the host's. File 3 is
// closed once the directory is the root.
const bootScript = `
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
mount -t cgroup2 cgroup2 mnt
mkdir "mnt/$2"
echo $$ >"mnt/$2/cgroup.procs"
umount mnt
exec unshare --cgroup /bin/sh -ec '
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
for device in null zero full random urandom tty; do
	: >dev/$device
	mount --bind /dev/$device dev/$device
done
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
pivot_root . mnt
umount -l mnt
exec 3>&-
exec env -i container=ftpgate-test PATH=/usr/sbin:/usr/bin:/sbin:/bin $INIT'`

// boot starts an init, a command of one line, and waits until it is in the system. The end of the test ends
// it, and all that runs there.
func (r *root) boot(init string) {
	r.Helper()
	group := fmt.Sprintf("ftpgate-test-%d", os.Getpid())
	log := new(strings.Builder)
	cmd := exec.Command("/bin/sh", "-ec", bootScript, "boot", r.dir, group)
	entered, entering, err := os.Pipe()
	if err != nil {
		r.Fatal(err)
	}
	defer entered.Close()
	cmd.Env = append(os.Environ(), "INIT="+init)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, []*os.File{entering}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID |
		syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC}
	err = cmd.Start()
	entering.Close() // the script has its own
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			r.Error(err)
		}
		cmd.Wait() // killed
		out, err := exec.Command("unshare", "--mount", "/bin/sh", "-ec",
			`mount -t cgroup2 cgroup2 /mnt; find "/mnt/$1" -depth -type d -exec rmdir {} +`,
			"clean", group).CombinedOutput()
		if err != nil {
			r.Errorf("cgroups: %v\n%s", err, out)
		}
		if r.Failed() {
			r.Logf("%s said\n%s", init, log)
		}
	})
	if _, err := io.ReadAll(entered); err != nil {
		r.Fatal(err)
	}
	r.init = cmd.Process.Pid
}

// command returns a command of the system, as root.
func (r root) command(ctx context.Context, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", fmt.Sprintf("--target=%d", r.init), "--mount", "--net",
		"--pid",
		"--uts", "--ipc", "--cgroup", "--root", "--wd", "/bin/sh", "-ec", script)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root", "TERM=xterm",
		"DEBIAN_FRONTEND=noninteractive", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=cat"}
	// nsenter waits for the process that it starts: both end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
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

// wantFiles wants files to be there, or to be gone.
func (r root) wantFiles(there bool, paths ...string) {
	r.Helper()
	for _, path := range paths {
		if got := r.run("test -e " + path + " -o -L " + path +
			" && echo there || true"); (got != "") != there {
			r.Errorf("%s: got there %v; want %v", path, !there, there)
		}
	}
}

// put copies a file to /root of the system, and returns its path there.
func (r root) put(path string) string {
	r.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		r.Fatal(err)
	}
	to := "/root/" + filepath.Base(path)
	if err := os.WriteFile(filepath.Join(r.dir, to), content, 0o644); err != nil {
		r.Fatal(err)
	}
	return to
}
