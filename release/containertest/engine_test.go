package containertest

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// The network of the containers, and who is in it.
var (
	bridgeAddr    = netip.MustParseAddr("172.18.0.1")
	containerAddr = netip.MustParseAddr("172.18.0.2")
	serverAddr    = netip.MustParseAddr("172.18.0.3")
)

// engine is the lab's gateway as Docker leaves a host: it has a bridge for containers, translates the ports
// that a container publishes, and forwards nothing else to it.
type engine struct{ host *lab.Host }

// dockerRules are what Docker makes of "ports: 21:2121, 50000:50000".
const dockerRules = `
table ip nat {
	chain PREROUTING {
		type nat hook prerouting priority dstnat
		fib daddr type local jump DOCKER
	}
	chain DOCKER {
		iifname != docker0 tcp dport 21 dnat to 172.18.0.2:2121
		iifname != docker0 tcp dport 50000 dnat to 172.18.0.2:50000
	}
	chain POSTROUTING {
		type nat hook postrouting priority srcnat
		ip saddr 172.18.0.0/16 oifname != docker0 masquerade
	}
}
table ip filter {
	chain FORWARD {
		type filter hook forward priority filter; policy drop
		ct state related,established accept
		iifname != docker0 oifname docker0 ip daddr 172.18.0.2 tcp dport { 2121, 50000 } accept
		iifname docker0 accept
	}
}`

// newEngine makes a lab whose gateway runs containers.
func newEngine(t *testing.T) (*lab.Lab, engine) {
	t.Helper()
	l := labtest.New(t)
	labtest.Need(t, "ip", "nft", "setpriv")
	e := engine{l.Gateway()}
	harness.Shell(t, e.host, "ip link add docker0 type bridge && ip addr add %s/16 dev docker0 && "+
		"ip link set docker0 up && sysctl -qw net.ipv4.ip_forward=1 && nft -f - <<'end'\n%s\nend", bridgeAddr,
		dockerRules)
	return l, e
}

// connect makes the network of a container, and connects it to the bridge.
func (e engine) connect(t *testing.T, name string, addr netip.Addr) *lab.Host {
	t.Helper()
	h, err := lab.NewHost(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	holder := exec.Command("sleep", "infinity") // "ip link" names a network by a process in it
	holder.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := h.Start(holder); err != nil {
		t.Fatal(err)
	}
	defer func() {
		holder.Process.Kill()
		holder.Wait() // killed
	}()
	harness.Shell(t, e.host, "ip link add %s type veth peer name eth0 netns %d && ip link set %[1]s "+
		"master docker0 up", "veth-"+name, holder.Process.Pid)
	harness.Shell(t, h, "ip addr add %s/16 dev eth0 && ip link set eth0 up && ip route add default via %s",
		addr, bridgeAddr)
	return h
}

// containerScript is the engine: it makes $1 the root of a container, read-only but for /tmp, /run and the
// state directory, and runs the program there. $2 is the user, $3 the environment, $4 the capabilities that
// root has; the rest is the command.
const containerScript = `
root=$1 user=$2 environment=$3 capabilities=$4
shift 4
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=700,uid=${user%:*},gid=${user#*:} tmpfs "$root/var/lib/ftpgate"
mount -o remount,bind,ro "$root"
exec env -i $environment /usr/bin/setpriv --no-new-privs --inh-caps=-all \
	--bounding-set=-all,+sys_chroot,+setuid,+setgid$capabilities \
	/usr/sbin/chroot --userspec="$user" --groups= "$root" "$@"`

// container is how to run an image.
type container struct {
	image        image
	user         string // "UID:GID"; empty: the image's
	capabilities string // of root: "+NAME,+NAME" with commas before each; empty: none
	file         string // the text of its /etc/ftpgate/ftpgate.toml; empty: there is none
	args         []string
}

// run runs a container in a network.
func (c container) run(t *testing.T, h *lab.Host) *harness.Program {
	t.Helper()
	i := c.image
	if harness.SingleUser(t) {
		labtest.Refused(t, "this user namespace has no other user than root: run as root")
	}
	root := i.unpack(t)
	script := "mount --make-rprivate /\nmount --bind \"$1\" \"$1\"\n"
	files := map[string]string{"etc/hosts": fmt.Sprintf("127.0.0.1 localhost\n%s ftp\n", serverAddr)}
	if c.file != "" {
		files["etc/ftpgate/ftpgate.toml"] = c.file
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"proc", "run"} { // engines make what they mount
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	words := append([]string{"-ec", script + containerScript, "engine", root, cmp.Or(c.user, i.config.User),
		strings.Join(i.config.Env, " "), c.capabilities}, append(i.config.Entrypoint, c.args...)...)
	cmd := exec.Command("/bin/sh", words...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL,
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS}
	return harness.StartCommand(t, h, cmd)
}

// inside runs a command in a container, as "docker exec" does, and returns its exit status.
func (c container) inside(t *testing.T, p *harness.Program, args ...string) (output string, status int) {
	t.Helper()
	uid, gid, _ := strings.Cut(cmp.Or(c.user, c.image.config.User), ":")
	cmd := exec.Command("nsenter", append([]string{fmt.Sprintf("--target=%d", p.Cmd.Process.Pid), "--mount",
		"--pid", "--root", "--wd", "--setuid=" + uid, "--setgid=" + gid}, args...)...)
	cmd.Env = c.image.config.Env
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}
