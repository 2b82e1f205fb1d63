package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

const twoForwards = `
[[forward]]
name     = "first"
listen   = "192.168.5.2:2121"
server   = "203.0.113.21"
tracking = "kernel"

[[forward]]
name         = "second"
listen       = "192.168.5.2:2122"
server       = "203.0.113.21"
tracking     = "none"
server_ports = "50000-50100"
`

func TestRunReloads(t *testing.T) {
	l := newLab(t, ":21")
	labtest.Need(t, "nft")
	file := writeFile(t, "ftpgate.toml", twoForwards)
	p := start(t, l.Gateway(), "run", "-c", file).ready()
	kept, gone := session(t, l.Client(), gateway4), session(t, l.Client(), "192.168.5.2:2122")
	list(t, kept)
	list(t, gone)
	before := rules(t, l.Gateway())

	rewrite(t, file, strings.Replace(twoForwards, "listen ", "lissten", 1))
	p.signal(syscall.SIGHUP)
	p.await("not reloaded: everything stays as it was", 1)
	wantLines(t, p.text(), `ftpgate.toml:4:1: forward 1 (\"first\"): unknown key \"lissten\": did you mean \"listen\"?`)
	rewrite(t, file, strings.Replace(twoForwards, "192.168.5.2:2122", "192.168.9.9:2122", 1))
	p.signal(syscall.SIGHUP)
	p.await("not reloaded: everything stays as it was", 2)
	wantLines(t, p.text(), "192.168.9.9 is not an address of this host")
	if got := rules(t, l.Gateway()); got != before {
		t.Errorf("after a reload that was refused got\n%s\nwant\n%s", got, before)
	}

	first, _, _ := strings.Cut(twoForwards, "[[forward]]\nname         = \"second\"")
	rewrite(t, file, first+strings.NewReplacer("first", "third", "2121", "2123").Replace(first))
	p.signal(syscall.SIGHUP)
	p.await("msg=reloaded", 1)
	list(t, kept)
	if err := gone.NoOp(); err != nil {
		t.Errorf("a session of a forward that is gone: %v; want it to go on", err)
	}
	list(t, session(t, l.Client(), "192.168.5.2:2123", disableEPSV))
	wantRefused(t, l.Client(), "192.168.5.2:2122")
	p.interrupt()
	if got := rules(t, l.Gateway()); got != "" {
		t.Errorf("after the end got\n%s\nwant no rules", got)
	}
}

// A second daemon is told who has the table; SIGTERM is as good an end as SIGINT.
func TestRunOnce(t *testing.T) {
	l := newLab(t, ":21")
	file := writeFile(t, "ftpgate.toml", twoForwards)
	p := start(t, l.Gateway(), "run", "-c", file).ready()
	_, stderr, status := run(t, l.Gateway(), "run", "-c", file)
	if status != 1 {
		t.Errorf("got exit status %d; want 1", status)
	}
	wantLines(t, stderr, fmt.Sprintf("table inet ftpgate belongs to another running ftpgate (pid %d)", p.cmd.Process.Pid))
	list(t, session(t, l.Client(), gateway4))
	p.signal(syscall.SIGTERM)
	if got := p.end(); got != 0 {
		t.Errorf("after SIGTERM got exit status %d; want 0", got)
	}
}

// Killed and started again with another file: the same transaction takes the old away and puts
// the new in place; sessions of what stays go on.
func TestRunAfterKill(t *testing.T) {
	l := newLab(t, ":21")
	labtest.Need(t, "nft")
	file := writeFile(t, "ftpgate.toml", twoForwards)
	p := start(t, l.Gateway(), "run", "-c", file).ready()
	c := session(t, l.Client(), gateway4)
	p.kill()
	list(t, c)
	// A single forward does not sweep the daemon's table, which may be back in a moment.
	_, stderr, status := run(t, l.Gateway(), "forward", "--tracking", "kernel", ":2121", "203.0.113.21")
	if status != 1 {
		t.Errorf("got exit status %d; want 1", status)
	}
	wantLines(t, stderr, "published by table inet ftpgate as 192.168.5.2:2121, which an ftpgate has left", "nft delete table inet ftpgate")
	rewrite(t, file, strings.Replace(twoForwards, "2122", "2123", 1))
	start(t, l.Gateway(), "run", "-c", file).ready()
	list(t, c)
	if got := rules(t, l.Gateway()); strings.Contains(got, "2122") || strings.Count(got, "table inet ftpgate") != 1 {
		t.Errorf("got\n%s\nwant one table, without port 2122", got)
	}
}

// A server known by name is followed when its address changes; sessions stay where they are.
func TestServerNameFollowed(t *testing.T) {
	l := newLab(t, "203.0.113.21:21")
	labtest.Need(t, "nft")
	hosts := writeFile(t, "hosts", "203.0.113.21 ftp.lab.example\n")
	// Only this test's processes, which are in a mount namespace of their own, see these hosts.
	if err := unix.Mount(hosts, "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount("/etc/hosts", 0) })
	p := start(t, l.Gateway(), "forward", "--tracking", "kernel", "--resolve", "1s", gateway4, "ftp.lab.example").ready()
	before := session(t, l.Client(), gateway4)
	list(t, before)

	if err := l.Server().AddAddress("eth0", netip.MustParsePrefix("203.0.113.22/24")); err != nil {
		t.Fatal(err)
	}
	serve(t, l.Server(), "203.0.113.22:21")
	rewrite(t, hosts, "203.0.113.22 ftp.lab.example\n")
	p.await("server address changed", 1)
	wantLines(t, p.text(), "from=203.0.113.21 to=203.0.113.22")
	list(t, before)
	list(t, session(t, l.Client(), gateway4, disableEPSV))
	wantLines(t, rules(t, l.Gateway()), "192.168.5.2 . 2121 : 203.0.113.22 . 21")

	rewrite(t, hosts, "127.0.0.1 localhost\n")
	p.await("cannot be resolved", 1)
	list(t, session(t, l.Client(), gateway4)) // the last address is kept
}

func TestServerNameUnknown(t *testing.T) {
	l := newLab(t, ":21")
	_, stderr, status := run(t, l.Gateway(), "forward", "--tracking", "kernel", gateway4, "nowhere.invalid")
	if status != 1 {
		t.Errorf("got exit status %d; want 1", status)
	}
	wantLines(t, stderr, `server name \"nowhere.invalid\" cannot be resolved`, "getent hosts nowhere.invalid")
	// Beside a forward that can serve it is a warning.
	file := writeFile(t, "ftpgate.toml", twoForwards+"[[forward]]\nname = \"lost\"\nlisten = \":2124\"\nserver = \"nowhere.invalid\"\n")
	p := start(t, l.Gateway(), "run", "-c", file).ready()
	wantLines(t, p.text(), "level=WARN", "forward=lost")
	list(t, session(t, l.Client(), gateway4))
}

// Ten thousand forwards are all in the kernel, and changing one leaves the others alone.
func TestTenThousandForwards(t *testing.T) {
	l := newLab(t, ":21")
	labtest.Need(t, "nft")
	const count = 10_000
	var b strings.Builder
	for i := range count {
		fmt.Fprintf(&b, "[[forward]]\nname = \"f%d\"\ntracking = \"kernel\"\nlisten = \"192.168.5.2:%d\"\nserver = \"203.0.113.21\"\n", i, 10_000+i)
	}
	file := writeFile(t, "ftpgate.toml", b.String())
	p := start(t, l.Gateway(), "run", "-c", file).ready()
	handle, n := controlMap(t, l.Gateway())
	if n != count {
		t.Errorf("got %d forwards in the kernel; want %d", n, count)
	}
	list(t, session(t, l.Client(), "192.168.5.2:19999", disableEPSV))
	kept := session(t, l.Client(), "192.168.5.2:10001")

	rewrite(t, file, strings.Replace(b.String(), "192.168.5.2:10000\"\nserver = \"203.0.113.21\"", "192.168.5.2:10000\"\nserver = \"203.0.113.22\"", 1))
	p.signal(syscall.SIGHUP)
	p.await("msg=reloaded", 1)
	after, n := controlMap(t, l.Gateway())
	if after != handle || n != count {
		t.Errorf("got map %d with %d forwards; want the same map %d with %d", int(after), n, int(handle), count)
	}
	wantLines(t, sh(t, l.Gateway(), "nft get element inet ftpgate control4 '{ 192.168.5.2 . 10000 }'"), "203.0.113.22")
	list(t, kept)
}

// controlMap returns the handle of the map of IPv4 forwards and how many it has, by nft's account.
func controlMap(t *testing.T, h *lab.Host) (handle float64, elements int) {
	t.Helper()
	var listing struct {
		Nftables []struct {
			Map struct {
				Handle float64
				Elem   []any
			}
		}
	}
	if err := json.Unmarshal([]byte(sh(t, h, "nft -j list map inet ftpgate control4")), &listing); err != nil {
		t.Fatal(err)
	}
	for _, o := range listing.Nftables {
		if o.Map.Handle != 0 {
			return o.Map.Handle, len(o.Map.Elem)
		}
	}
	t.Fatal("got no map")
	return 0, 0
}

// rewrite replaces the text of a file, in place.
func rewrite(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
