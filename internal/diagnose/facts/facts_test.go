package facts_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/diagnose/doctor"
	"ftpgate/internal/diagnose/facts"
	"ftpgate/internal/kernel/system"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

func testForward(tracking forward.Tracking) forward.Resolved {
	return forward.Resolved{Server4: lab.ServerAddr4, Forward: forward.Forward{
		Name: "archive", Tracking: tracking, Listen: forward.Listen{Addr: lab.GatewayLAN4, Port: 2121},
		Server:  forward.Server{Host: lab.ServerAddr4.String(), Port: 21},
		Clients: []netip.Prefix{lab.LANPrefix4},
	}}
}

// read reads the facts of the host of this thread.
func read(forwards []forward.Resolved) (f facts.Facts) {
	source := facts.Linux()
	source.ReadRunning(&f, "ftpgate")
	source.ReadHost(&f, func(netip.AddrPort) bool { return true })
	f.ReadDetails(forwards)
	return f
}

// examine reads the facts of a host and checks them.
func examine(t *testing.T, h *lab.Host, r forward.Resolved) (findings []finding.Finding) {
	t.Helper()
	if err := h.Do(func() error {
		forwards := []forward.Resolved{r}
		findings = doctor.Examine(read(forwards), forwards)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return findings
}

// want wants one finding of a code and level, with a part of its text.
func want(t *testing.T, got []finding.Finding, code string, level finding.Severity, text string) {
	t.Helper()
	if !slices.ContainsFunc(got, func(f finding.Finding) bool {
		return f.Code == code && f.Severity == level && strings.Contains(f.Text, text)
	}) {
		t.Errorf("got %+v\nwant %s %s %q among them", got, level, code, text)
	}
}

// A lab's gateway as it comes: what is not sound is what ftpgate sees to when it starts.
func TestLab(t *testing.T) {
	gateway := labtest.New(t).Gateway()
	for _, tracking := range []forward.Tracking{forward.TrackingProxy, forward.TrackingKernel,
		forward.TrackingNone} {
		got := examine(t, gateway, testForward(tracking))
		for _, f := range got {
			if f.Severity == finding.Warning || f.Severity == finding.Fault {
				t.Errorf("%s: got %+v; want nothing in the way", tracking, f)
			}
		}
		want(t, got, doctor.CodeRights, finding.OK, "may change the network")
		want(t, got, doctor.CodeRoute, finding.OK,
			"203.0.113.21 is reached through wan0, with packets of up to 1500 bytes")
	}
}

func TestProvoked(t *testing.T) {
	labtest.Need(t, "ip", "nft")
	tests := []struct {
		name     string
		tracking forward.Tracking
		commands []string // run on the gateway, a word for each blank
		code     string
		level    finding.Severity
		text     string
	}{
		{"policy drop", forward.TrackingProxy,
			[]string{"nft table inet fw { chain i { type filter hook input priority 0; policy drop; }; }"},
			doctor.CodeInput, finding.Warning,
			"chain i of table inet fw refuses by default, and no rule of it accepts port 2121"},
		{"a container's port", forward.TrackingProxy,
			[]string{"nft table ip nat { chain p { type nat hook prerouting priority -100; tcp dport 2121 " +
				"dnat to 172.17.0.2; }; }"},
			doctor.CodeElsewhere, finding.Fault,
			"chain p of table ip nat sends connections to port 2121 elsewhere"},
		{"a helper too early", forward.TrackingKernel,
			[]string{`nft table ip t { ct helper h { type "ftp" protocol tcp; }; chain p { type filter ` +
				`hook prerouting priority -300; tcp dport 2121 ct helper set "h"; }; }`},
			doctor.CodeHelperSoon, finding.Warning, `attaches the helper "ftp" at priority -300`},
		{"no route", forward.TrackingProxy, []string{"ip route del 203.0.113.0/24"}, doctor.CodeRoute,
			finding.Fault, "cannot be reached: there is no route"},
		{"MTU", forward.TrackingProxy, []string{"ip link set wan0 mtu 1000"}, doctor.CodeMTU, finding.Warning,
			"is 1000"},
		{"a smaller MTU", forward.TrackingKernel, []string{"ip route add 203.0.113.21/32 dev wan0 mtu 1400"},
			doctor.CodeMTU, finding.Warning, "lan0 on the clients' side 1500"},
		{"the other way back", forward.TrackingKernel,
			[]string{"ip route add 192.168.5.1/32 dev wan0", "sysctl -qw net.ipv4.conf.lan0.rp_filter=1"},
			doctor.CodeReverse, finding.Fault,
			"arrive on lan0 are dropped, since the return route is by wan0"},
		{"forwarding", forward.TrackingNone, []string{"sysctl -qw net.ipv4.ip_forward=1",
			"sysctl -qw net.ipv4.conf.wan0.forwarding=0"},
			doctor.CodeForwarding, finding.Fault, "off on wan0 alone"},
		{"no forwarding", forward.TrackingProxy, []string{"sysctl -qw net.ipv4.ip_forward=0"},
			doctor.CodeForwarding, finding.Info, "when it starts"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			gateway := labtest.New(t).Gateway()
			runOn(t, gateway, tt.commands)
			want(t, examine(t, gateway, testForward(tt.tracking)), tt.code, tt.level, tt.text)
		})
	}
}

// runOn runs commands on a host. The arguments of nft are one, those of others end at blanks.
func runOn(t *testing.T, h *lab.Host, commands []string) {
	t.Helper()
	for _, c := range commands {
		name, rest, _ := strings.Cut(c, " ")
		args := strings.Fields(rest)
		switch name {
		case "nft":
			args = []string{rest}
		case "sysctl":
			key, value, _ := strings.Cut(args[1], "=")
			if err := h.WriteSysctl(key, value); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if out, err := h.Output(t.Context(), name, args...); err != nil {
			t.Fatalf("%s: %v\n%s", c, err, out)
		}
	}
}

func TestListeners(t *testing.T) {
	gateway := labtest.New(t).Gateway()
	listen := func(address string) net.Listener {
		l, err := gateway.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	listen("192.168.5.2:50000")
	got := examine(t, gateway, testForward(forward.TrackingProxy))
	want(t, got, doctor.CodePassive, finding.Warning, fmt.Sprintf("(pid %d))", os.Getpid()))
	want(t, got, doctor.CodeListen, finding.OK, "no other program listens at 192.168.5.2:2121")

	control := listen("192.168.5.2:2121")
	want(t, examine(t, gateway, testForward(forward.TrackingProxy)), doctor.CodeListen, finding.Fault,
		fmt.Sprintf("(pid %d)", os.Getpid()))

	// Now this process is the ftpgate that runs.
	var claim *system.Claim
	if err := gateway.Do(func() (err error) {
		claim,
			err = system.ClaimName("ftpgate")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { claim.Release() })
	got = examine(t, gateway, testForward(forward.TrackingProxy))
	want(t, got, doctor.CodeListen, finding.OK, "ftpgate listens at 192.168.5.2:2121")
	want(t, got, doctor.CodePassive, finding.OK, "")
	want(t, got, doctor.CodeRights, finding.OK, "the running ftpgate (pid")
	control.Close()
	want(t, examine(t, gateway, testForward(forward.TrackingProxy)), doctor.CodeNotServed, finding.Warning,
		"no program listens at 192.168.5.2:2121")
}

// Without permission for some facts, a user gets their names, and all others.
func TestUnprivileged(t *testing.T) {
	labtest.Need(t, "nft")
	gateway := labtest.New(t).Gateway()
	if out, err := gateway.Output(t.Context(), "nft",
		"table inet fw { chain i { type filter hook input priority 0; policy drop; }; }"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var got []finding.Finding
	if err := gateway.Do(func() error {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var before [2]unix.CapUserData
		if err := unix.Capget(&header, &before[0]); err != nil {
			return err
		}
		none := before
		none[0].Effective, none[1].Effective = 0, 0
		if err := unix.Capset(&header, &none[0]); err != nil {
			return err
		}
		forwards := []forward.Resolved{testForward(forward.TrackingProxy)}
		got = doctor.Examine(read(forwards), forwards)
		return unix.Capset(&header, &before[0])
	}); err != nil {
		t.Fatal(err)
	}
	want(t, got, doctor.CodeUnread, finding.Info,
		"what other programs' nftables tables do could not be read: ")
	want(t, got, doctor.CodeRights, finding.Warning, "this process may not change the network")
	want(t, got, doctor.CodeRoute, finding.OK, "203.0.113.21 is reached through wan0")
	if slices.ContainsFunc(got, func(f finding.Finding) bool {
		return f.Severity == finding.Fault ||
			f.Code == doctor.CodeInput
	}) {
		t.Errorf("got %+v; want no fault, and nothing of what cannot be seen", got)
	}
}
