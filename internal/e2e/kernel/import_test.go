package kernel

import (
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// recipes are the two set-ups that administrators type by hand: every port, and the kernel's helper at 2121.
var recipes = map[string]struct{ rules, dial string }{
	"every port": {`
		iptables -A FORWARD -s 192.168.5.1 -i lan0 -j ACCEPT
		iptables -t nat -A PREROUTING -p TCP -i lan0 -j DNAT --to-destination 203.0.113.21
		iptables -t nat -A POSTROUTING -o wan0 -j MASQUERADE`, "192.168.5.2:21"},
	"helper": {`
		iptables -A FORWARD -s 192.168.5.1 -i lan0 -j ACCEPT
		iptables -t nat -A POSTROUTING -o wan0 -j MASQUERADE
		iptables -A PREROUTING -t raw -p tcp -i lan0 --dport 2121 -j CT --helper ftp
		iptables -t nat -A PREROUTING -p TCP -i lan0 --dport 2121 -j DNAT --to-destination 203.0.113.21:21`,
		"192.168.5.2:2121"},
}

// importRules returns the file that ftpgate makes of rules.
func importRules(t *testing.T, h *lab.Host, rules string, flags ...string) string {
	t.Helper()
	cmd := harness.Command(append([]string{"import"}, flags...)...)
	cmd.Stdin = strings.NewReader(rules)
	file, stderr, status := harness.RunCommand(t, h, cmd)
	if status != 0 {
		t.Fatalf("import: got status %d, %s\n%s\nof\n%s", status, stderr, file, rules)
	}
	return file
}

// deletions returns the commands that an imported file names below "To delete".
func deletions(file string) (commands []string) {
	_, list, _ := strings.Cut(file, "# To delete from the old set-up:\n")
	for line := range strings.Lines(list) {
		command, listed := strings.CutPrefix(line, "#   ")
		if !listed {
			break
		}
		commands = append(commands, strings.TrimSpace(command))
	}
	return commands
}

// Both recipes become a file with which passive and active clients work, once the old lines are deleted as
// the file says. Without the deletion the old translation would still take the sessions.
func TestImportRecipes(t *testing.T) {
	t.Parallel()
	for name, recipe := range recipes {
		for _, tracking := range []string{"proxy", "kernel"} {
			t.Run(name+"/"+tracking, func(t *testing.T) {
				t.Parallel()
				l := peers.NewDemoLab(t, ":21")
				labtest.Need(t, "iptables", "iptables-save", "curl")
				harness.Shell(t, l.Gateway(), "sysctl -qw net.ipv4.ip_forward=1; %s", recipe.rules)
				saved := harness.Shell(t, l.Gateway(), "iptables-save")
				file := importRules(t, l.Gateway(), saved, "--tracking", tracking)
				if typed := importRules(t, l.Gateway(), recipe.rules, "--tracking",
					tracking); forwards(typed) !=
					forwards(file) {
					t.Errorf("of the typed lines got\n%s\nwant\n%s", forwards(typed), forwards(file))
				}
				for _, command := range deletions(file) {
					harness.Shell(t, l.Gateway(), "%s", command)
				}
				if left := harness.Shell(t, l.Gateway(), "iptables-save"); strings.Contains(left, "DNAT") ||
					strings.Contains(left, "helper") {
					t.Errorf("the deletions leave\n%s", left)
				}
				path := harness.WriteFile(t, "ftpgate.toml", file)
				if _, stderr, status := harness.Run(t, l.Gateway(), "check", "-c", path); status != 0 {
					t.Errorf("check: got status %d, %s", status, stderr)
				}
				harness.Start(t, l.Gateway(), "run", "-c", path).AwaitReady()
				curlLists(t, l, recipe.dial)
			})
		}
	}
}

// forwards returns a file without its comments.
func forwards(file string) (keys string) {
	for line := range strings.Lines(file) {
		if !strings.HasPrefix(line, "#") && strings.TrimSpace(line) != "" {
			keys += line
		}
	}
	return keys
}

// curlLists lists with curl: EPSV, PASV, EPRT and PORT.
func curlLists(t *testing.T, l *lab.Lab, address string) {
	t.Helper()
	for _, mode := range [][]string{nil, {"--disable-epsv"}, {"--ftp-port", "-"}, {"--disable-eprt",
		"--ftp-port", "-"}} {
		args := append([]string{"curl", "--silent", "--show-error", "--max-time", "20",
			"--no-ftp-skip-pasv-ip"}, mode...)
		out, err := peers.Exec(t, l.Client(), t.TempDir(), peers.Invocation{
			Args: append(args, "ftp://demo:lab-only@"+address+"/")})
		if err != nil || strings.TrimSpace(out) == "" {
			t.Errorf("curl %v: got %q, error %v; want a listing", mode, out, err)
		}
	}
}

// xtables returns commands of a program like iptables, and one that prints the rules.
func xtables(program, server string) string {
	return strings.NewReplacer("PROGRAM", program, "SERVER", server).Replace(`
			PROGRAM -t raw -A PREROUTING -i lan0 -p tcp --dport 2121 -m comment --comment F -j CT --helper ftp
			PROGRAM -t nat -N forwards
			PROGRAM -t nat -A PREROUTING -i lan0 -p tcp -m state --state NEW -j forwards
			PROGRAM -t nat -A forwards -p tcp -m multiport --dports 2121,2122 -j DNAT --to-destination SERVER
			PROGRAM -t nat -A POSTROUTING -o wan0 -j MASQUERADE
			PROGRAM-save -c`)
}

// nftRules is about the same for nft.
const nftRules = `nft '
		table ip gateway {
			ct helper standard { type "ftp" protocol tcp; }
			set dialled { type ipv4_addr . inet_service; elements = { 192.168.5.2 . 2121,
				192.168.5.2 . 2122 }; }
			map servers { type inet_service : ipv4_addr . inet_service; elements = { 2121 : 203.0.113.21 . 21,
				2122 : 203.0.113.21 . 21 }; }
			chain helpers { type filter hook prerouting priority mangle;
				iifname "lan0" tcp dport { 2121, 2122 } ct helper set "standard"; }
			chain pre { type nat hook prerouting priority dstnat;
				iifname "lan0" ip daddr . tcp dport @dialled dnat ip to tcp dport map @servers; }
			chain post { type nat hook postrouting priority srcnat; oifname "wan0" masquerade; }
		}'; `

// What the real programs print of the same rules is understood alike: iptables over nftables and over
// xtables, for IPv4 and IPv6, and nft as text, with handles, and as JSON.
func TestImportPrintedRules(t *testing.T) {
	t.Parallel()
	forward := func(listen, server string) string {
		return "[[forward]]\nlisten = \"" + listen + "\"\nserver = \"" + server + "\"\ninterface = \"lan0\"\n"
	}
	const server4, server6 = "203.0.113.21:21", "[2001:db8:113::21]:21"
	any4, any6 := forward(":2121", server4)+forward(":2122", server4), forward(":2121",
		server6)+forward(":2122", server6)
	named := forward("192.168.5.2:2121", server4) + forward("192.168.5.2:2122", server4)
	for name, tt := range map[string]struct{ program, script, want string }{
		"iptables over nftables":  {"iptables-nft", xtables("iptables-nft", server4), any4},
		"ip6tables over nftables": {"ip6tables-nft", xtables("ip6tables-nft", server6), any6},
		"iptables over xtables":   {"iptables-legacy", xtables("iptables-legacy", server4), any4},
		"ip6tables over xtables":  {"ip6tables-legacy", xtables("ip6tables-legacy", server6), any6},
		"nft":                     {"nft", nftRules + "nft list ruleset", named},
		"nft with handles":        {"nft", nftRules + "nft -a list ruleset", named},
		"nft in JSON":             {"nft", nftRules + "nft -j list ruleset", named},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			labtest.Need(t, tt.program)
			l := labtest.New(t)
			printed := harness.Shell(t, l.Gateway(), "%s", tt.script)
			file := importRules(t, l.Gateway(), printed)
			if got := forwards(file); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s\nof\n%s", got, tt.want, printed)
			}
			if !strings.Contains(file, `Tracking is "proxy"`) || strings.Contains(file, "Not carried over") {
				t.Errorf("got\n%s\nwant the helper found, and nothing left\nof\n%s", file, printed)
			}
			if name == "nft" {
				return // its deletions need handles
			}
			for _, command := range deletions(file) {
				if _, rest, _ := strings.Cut(command, " "); strings.HasPrefix(tt.program, "ip") {
					command = tt.program + " " + rest // the saved rules do not say over which of both
				}
				harness.Shell(t, l.Gateway(), "%s", command)
			}
		})
	}
}
