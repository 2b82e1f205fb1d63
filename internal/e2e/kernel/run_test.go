package kernel

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
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
	t.Parallel()
	l := peers.NewDemoLab(t, ":21")
	labtest.Need(t, "nft")
	file := harness.WriteFile(t, "ftpgate.toml", twoForwards)
	p := harness.Start(t, l.Gateway(), "run", "-c", file).AwaitReady()
	kept, gone := peers.LoginFTP(t, l.Client(), harness.Gateway4),
		peers.LoginFTP(t, l.Client(), "192.168.5.2:2122")
	peers.List(t, kept)
	peers.List(t, gone)
	before := harness.Ruleset(t, l.Gateway())

	harness.OverwriteFile(t, file, strings.Replace(twoForwards, "listen ", "lissten", 1))
	p.Signal(syscall.SIGHUP)
	p.AwaitLog("reload failed; the old configuration stays in effect", 1)
	harness.WantContains(t, p.Log(),
		`ftpgate.toml:4:1: forward 1 (\"first\"): unknown key \"lissten\": did you mean \"listen\"?`)
	harness.OverwriteFile(t, file, strings.Replace(twoForwards, "192.168.5.2:2122", "192.168.9.9:2122", 1))
	p.Signal(syscall.SIGHUP)
	p.AwaitLog("reload failed; the old configuration stays in effect", 2)
	harness.WantContains(t, p.Log(), "192.168.9.9 is not an address of this host")
	if got := harness.Ruleset(t, l.Gateway()); got != before {
		t.Errorf("after a reload that was refused got\n%s\nwant\n%s", got, before)
	}

	first, _, _ := strings.Cut(twoForwards, "[[forward]]\nname         = \"second\"")
	harness.OverwriteFile(t, file, first+strings.NewReplacer("first", "third", "2121", "2123").Replace(first))
	p.Signal(syscall.SIGHUP)
	p.AwaitLog("msg=reloaded", 1)
	peers.List(t, kept)
	if err := gone.NoOp(); err != nil {
		t.Errorf("a session of a forward that is gone: %v; want it to go on", err)
	}
	peers.List(t, peers.LoginFTP(t, l.Client(), "192.168.5.2:2123", peers.DisableEPSV))
	harness.WantRefused(t, l.Client(), "192.168.5.2:2122")
	p.Interrupt()
	if got := harness.Ruleset(t, l.Gateway()); got != "" {
		t.Errorf("after the end got\n%s\nwant no rules", got)
	}
}

// A second daemon names the one that owns the table. SIGTERM stops as SIGINT does.
func TestRunOnce(t *testing.T) {
	t.Parallel()
	l := peers.NewDemoLab(t, ":21")
	file := harness.WriteFile(t, "ftpgate.toml", twoForwards)
	p := harness.Start(t, l.Gateway(), "run", "-c", file).AwaitReady()
	_, stderr, status := harness.Run(t, l.Gateway(), "run", "-c", file)
	if status != 1 {
		t.Errorf("got exit status %d; want 1", status)
	}
	harness.WantContains(t, stderr,
		fmt.Sprintf("table inet ftpgate belongs to another running ftpgate (pid %d)", p.Cmd.Process.Pid))
	peers.List(t, peers.LoginFTP(t, l.Client(), harness.Gateway4))
	p.Signal(syscall.SIGTERM)
	if got := p.Wait(); got != 0 {
		t.Errorf("after SIGTERM got exit status %d; want 0", got)
	}
}

// After a kill, a start with another file replaces the rules in one transaction. Sessions of unchanged
// forwards continue.
func TestRunAfterKill(t *testing.T) {
	t.Parallel()
	l := peers.NewDemoLab(t, ":21")
	labtest.Need(t, "nft")
	file := harness.WriteFile(t, "ftpgate.toml", twoForwards)
	p := harness.Start(t, l.Gateway(), "run", "-c", file).AwaitReady()
	c := peers.LoginFTP(t, l.Client(), harness.Gateway4)
	p.Kill()
	peers.List(t, c)
	// ftpgate forward does not remove the daemon's table: the daemon may come back.
	_, stderr, status := harness.Run(t, l.Gateway(), "forward", "--tracking", "kernel", ":2121",
		"203.0.113.21")
	if status != 1 {
		t.Errorf("got exit status %d; want 1", status)
	}
	harness.WantContains(t, stderr,
		"published by table inet ftpgate as 192.168.5.2:2121, which an ftpgate has left",
		"nft delete table inet ftpgate")
	harness.OverwriteFile(t, file, strings.Replace(twoForwards, "2122", "2123", 1))
	harness.Start(t, l.Gateway(), "run", "-c", file).AwaitReady()
	peers.List(t, c)
	if got := harness.Ruleset(t, l.Gateway()); strings.Contains(got, "2122") ||
		strings.Count(got, "table inet ftpgate") != 1 {
		t.Errorf("got\n%s\nwant one table, without port 2122", got)
	}
}

// The gateway follows a server's name to a new address. Sessions stay at the old one.
func TestServerNameFollowed(t *testing.T) {
	t.Parallel()
	l := peers.NewDemoLab(t, "203.0.113.21:21")
	labtest.Need(t, "nft")
	hosts := harness.WriteFile(t, "hosts", "203.0.113.21 ftp.lab.example\n")
	// Only this test's processes see these hosts: they have a mount namespace of their own.
	if err := unix.Mount(hosts, "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount("/etc/hosts", 0) })
	p := harness.Start(t, l.Gateway(), "forward", "--tracking", "kernel", "--resolve", "1s", harness.Gateway4,
		"ftp.lab.example").AwaitReady()
	before := peers.LoginFTP(t, l.Client(), harness.Gateway4)
	peers.List(t, before)

	if err := l.Server().AddAddress("eth0", netip.MustParsePrefix("203.0.113.22/24")); err != nil {
		t.Fatal(err)
	}
	peers.StartDemoServer(t, l.Server(), "203.0.113.22:21")
	harness.OverwriteFile(t, hosts, "203.0.113.22 ftp.lab.example\n")
	p.AwaitLog("server address changed", 1)
	harness.WantContains(t, p.Log(), "from=203.0.113.21 to=203.0.113.22")
	peers.List(t, before)
	peers.List(t, peers.LoginFTP(t, l.Client(), harness.Gateway4, peers.DisableEPSV))
	harness.WantContains(t, harness.Ruleset(t, l.Gateway()), "192.168.5.2 . 2121 : 203.0.113.22 . 21")

	harness.OverwriteFile(t, hosts, "127.0.0.1 localhost\n")
	p.AwaitLog("cannot be resolved", 1)
	peers.List(t, peers.LoginFTP(t, l.Client(), harness.Gateway4)) // it keeps the last address
}

func TestServerNameUnknown(t *testing.T) {
	t.Parallel()
	l := peers.NewDemoLab(t, ":21")
	_, stderr, status := harness.Run(t, l.Gateway(), "forward", "--tracking", "kernel", harness.Gateway4,
		"nowhere.invalid")
	if status != 1 {
		t.Errorf("got exit status %d; want 1", status)
	}
	harness.WantContains(t, stderr, `server name \"nowhere.invalid\" cannot be resolved`,
		"getent hosts nowhere.invalid")
	// Beside a forward that can serve, it is a warning.
	file := harness.WriteFile(t, "ftpgate.toml",
		twoForwards+"[[forward]]\nname = \"lost\"\nlisten = \":2124\"\nserver = \"nowhere.invalid\"\n")
	p := harness.Start(t, l.Gateway(), "run", "-c", file).AwaitReady()
	harness.WantContains(t, p.Log(), "level=WARN", "forward=lost")
	peers.List(t, peers.LoginFTP(t, l.Client(), harness.Gateway4))
}

// Ten thousand forwards are in the kernel, and changing one leaves the others alone.
func TestTenThousandForwards(t *testing.T) {
	t.Parallel()
	l := peers.NewDemoLab(t, ":21")
	labtest.Need(t, "nft")
	const count = 10_000
	var b strings.Builder
	for i := range count {
		fmt.Fprintf(&b, "[[forward]]\nname = \"f%d\"\ntracking = \"kernel\"\nlisten = "+
			"\"192.168.5.2:%d\"\nserver = \"203.0.113.21\"\n", i, 10_000+i)
	}
	file := harness.WriteFile(t, "ftpgate.toml", b.String())
	p := harness.Start(t, l.Gateway(), "run", "-c", file).AwaitReady()
	handle, n := controlMap(t, l.Gateway())
	if n != count {
		t.Errorf("got %d forwards in the kernel; want %d", n, count)
	}
	peers.List(t, peers.LoginFTP(t, l.Client(), "192.168.5.2:19999", peers.DisableEPSV))
	kept := peers.LoginFTP(t, l.Client(), "192.168.5.2:10001")

	harness.OverwriteFile(t, file, strings.Replace(b.String(),
		"192.168.5.2:10000\"\nserver = \"203.0.113.21\"", "192.168.5.2:10000\"\nserver = \"203.0.113.22\"",
		1))
	p.Signal(syscall.SIGHUP)
	p.AwaitLog("msg=reloaded", 1)
	after, n := controlMap(t, l.Gateway())
	if after != handle || n != count {
		t.Errorf("got map %d with %d forwards; want the same map %d with %d", int(after), n, int(handle),
			count)
	}
	harness.WantContains(t, harness.Shell(t, l.Gateway(),
		"nft get element inet ftpgate control4 '{ 192.168.5.2 . 10000 }'"), "203.0.113.22")
	peers.List(t, kept)
}

// controlMap returns the handle of the map of IPv4 forwards and the number of its elements, as nft
// lists them.
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
	if err := json.Unmarshal([]byte(harness.Shell(t, h, "nft -j list map inet ftpgate control4")),
		&listing); err != nil {
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
