package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// openrcRelease is the oldest Debian whose OpenRC gives a service capabilities, as Alpine's does.
const openrcRelease = "trixie"

// openrcBoot is what init does with OpenRC in inittab(5).
const openrcBoot = `#!/bin/sh
ip link set lo up
openrc sysinit; openrc boot; openrc default
: >/run/booted
while :; do sleep 3600; done
`

// openrcLogger stands in for logger(1), because no system log runs: it keeps what the service says.
const openrcLogger = `#!/bin/sh
exec cat >>/var/tmp/ftpgate.log
`

// TestOpenRC boots a Debian with OpenRC, and has the script of "make install INIT=openrc" start, reload,
// restart and stop the service.
func TestOpenRC(t *testing.T) {
	r := clean(t, openrcRelease, "openrc,iproute2,kmod,procps", os.Getenv("DEBIAN_OPENRC_ROOT"))
	if out, err := exec.Command("make", "-C", "..", "install", "INIT=openrc", "PREFIX=/usr",
		"DESTDIR="+r.dir).CombinedOutput(); err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
	r.write("/root/boot", openrcBoot)
	r.write("/usr/bin/logger", openrcLogger)
	r.boot("/bin/sh /root/boot")
	r.run("until [ -e /run/booted ]; do sleep 0.1; done")
	r.run("groupadd -r ftpgate; useradd -r -g ftpgate -s /usr/sbin/nologin -d /nonexistent ftpgate")
	const forward = "[[forward]]\nname = \"%s\"\nlisten = \"127.0.0.1:%s\"\nserver = \"127.0.0.1:2100\"\n" +
		"data = \"relay\"\n"
	add := func(name, port string) string {
		return "printf '" + strings.Replace(strings.Replace(forward, "%s", name, 1), "%s", port, 1) + "' >>" +
			configPath
	}
	fails := func(script string) {
		t.Helper()
		r.want("failed", script+" >/dev/null 2>&1 || echo failed")
	}
	const names = "ftpgate status | sed -n 's/^forward \\([^:]*\\):.*/\\1/p'"
	const ready = "until ftpgate status >/dev/null 2>&1; do sleep 0.1; done"
	const pid = `pgrep -f "^/usr/bin/ftpgate run"`

	fails("rc-service ftpgate start") // no forward yet
	r.run(add("archive", "21") + "; rc-update add ftpgate default; openrc default; " + ready)
	r.want("archive", names)
	first := r.run(pid)
	r.want("ftpgate", "ps -o user= -p "+first)
	r.want("0000000000001400 0000000000001400", "sed -n 's/^Cap[PE].*\t//p' /proc/"+first+
		"/status | paste -s -d ' '") // CAP_NET_BIND_SERVICE and CAP_NET_ADMIN
	r.want("* status: started", "rc-service --nocolor ftpgate status")

	r.run(add("plc", "2122") + "; rc-service ftpgate reload")
	r.want("archive\nplc", names)
	r.run("cp " + configPath + " /root/sound; echo nonsense >>" + configPath)
	fails("rc-service ftpgate reload")
	fails("rc-service ftpgate restart") // it stays, as it is
	r.want("archive\nplc", names)
	r.want(first, pid)
	r.run("cp /root/sound " + configPath)

	r.run("kill -KILL " + first + "; while kill -0 " + first + " 2>/dev/null; do sleep 0.1; done; " + ready)
	second := r.run(pid)
	r.run("rc-service ftpgate restart; " + ready)
	if third := r.run(pid); first == second || second == third {
		t.Errorf("got the processes %s, %s and %s; want a new one after a kill and a restart", first, second,
			third)
	}
	r.run("rc-service ftpgate stop")
	fails(pid)
	fails("rc-service ftpgate status")
	if log := r.run("cat /var/tmp/ftpgate.log"); !strings.Contains(log, "msg=ready") {
		t.Errorf("the log: got\n%s\nwant msg=ready in it", log)
	}
}

// write makes a program in the system.
func (r root) write(path, text string) {
	r.Helper()
	if err := os.WriteFile(r.dir+path, []byte(text), 0o755); err != nil {
		r.Fatal(err)
	}
}
