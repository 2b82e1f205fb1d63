package archtest

// rows is the layout: a row imports only rows above it. What a row allows is needed, too: an entry
// that nothing uses any more is an error, so that the table stays true.
var rows = []row{
	// Pure: values in, values out.
	{pkg: "core/finding"},
	{pkg: "core/forward", imports: []string{"core/finding"}},
	{pkg: "core/ban", imports: []string{"core/forward"}},
	{pkg: "core/ftp"},
	{pkg: "core/verdict", imports: []string{"core/forward"}},
	{pkg: "core/pinhole", imports: []string{"core/forward", "core/verdict"}},
	{pkg: "core/dialogue", imports: []string{"core/forward", "core/ftp", "core/verdict", "core/pinhole"}},
	{pkg: "core/netflow"},
	{pkg: "core/ruleset",
		imports: []string{"core/forward", "core/ban", "core/pinhole"},
		testing: []string{"core/ruleset/rulesettest"}},
	{pkg: "core/tlsrecord"},

	// Which ftpgate this is.
	{pkg: "version"},

	// An FTP client, for those who try a server.
	{pkg: "ftpclient", imports: []string{"core/ftp"}, testing: []string{"try/testca"}},

	// The header in which a balancer, or the gateway, names the client.
	{pkg: "proxyprotocol",
		imports: []string{"core/forward"},
		owns:    []string{"github.com/pires/go-proxyproto"}},

	// What talks to Linux.
	{pkg: "kernel/netlink",
		shares:  []string{"golang.org/x/sys"},
		testing: []string{"github.com/mdlayher/netlink"}},
	{pkg: "kernel/system",
		owns:    []string{"github.com/prometheus/procfs"},
		shares:  []string{"github.com/vishvananda/netlink", "golang.org/x/sys"},
		testing: []string{"try/lab", "try/lab/labtest"}},
	{pkg: "kernel/conntrack",
		imports: []string{"core/netflow", "kernel/netlink", "kernel/system"},
		shares: []string{
			"github.com/mdlayher/netlink", "github.com/vishvananda/netlink", "golang.org/x/sys",
		},
		testing: []string{"try/lab", "try/lab/labtest"}},
	{pkg: "kernel/nft",
		imports: []string{"core/forward", "core/pinhole", "core/ruleset", "kernel/netlink"},
		shares: []string{
			"github.com/google/nftables", "github.com/mdlayher/netlink", "golang.org/x/sys",
		},
		testing: []string{
			"core/ban", "try/lab", "core/ruleset/rulesettest", "kernel/nft/nfttest", "try/lab/labtest",
		}},
	{pkg: "kernel/nftforeign",
		imports: []string{"core/forward", "core/ruleset", "kernel/netlink"},
		shares:  []string{"github.com/google/nftables", "golang.org/x/sys"},
		testing: []string{
			"try/lab", "core/ruleset/rulesettest", "kernel/nft/nfttest", "try/lab/labtest",
		}},
	{pkg: "kernel/nftset",
		imports: []string{"core/forward", "core/pinhole", "core/ruleset", "kernel/netlink"},
		shares:  []string{"golang.org/x/sys"},
		testing: []string{
			"kernel/nft", "kernel/nftwatch", "try/lab", "core/ruleset/rulesettest", "kernel/nft/nfttest",
			"try/lab/labtest", "github.com/google/nftables", "github.com/mdlayher/netlink",
		}},
	{pkg: "kernel/nftwatch",
		imports: []string{"kernel/netlink"},
		shares:  []string{"github.com/mdlayher/netlink", "golang.org/x/sys"},
		testing: []string{
			"core/ruleset", "core/ruleset/rulesettest", "kernel/nft/nfttest", "try/lab/labtest",
		}},

	// What happens to sessions, and who shows it.
	{pkg: "observe/sessions", imports: []string{"core/forward", "core/ftp", "core/verdict", "core/pinhole"}},
	{pkg: "observe/flows",
		imports: []string{
			"core/forward", "core/verdict", "core/pinhole", "core/netflow", "observe/sessions",
		}},
	{pkg: "observe/health", imports: []string{"core/finding", "core/forward"}},
	{pkg: "observe/loglimit", imports: []string{"core/forward"}},
	{pkg: "observe/metrics",
		imports: []string{"core/forward", "observe/sessions"},
		owns:    []string{"github.com/prometheus/client_golang"},
		testing: []string{"core/verdict", "go.yaml.in/yaml/v3"}},
	{pkg: "observe/monitor",
		imports: []string{
			"core/forward", "core/netflow", "core/ruleset", "kernel/system", "kernel/conntrack",
			"observe/sessions", "observe/flows",
		},
		testing: []string{"core/pinhole"}},
	{pkg: "observe/transferlog", imports: []string{"observe/sessions"}},

	// Desired against observed state.
	{pkg: "gateway",
		imports: []string{"core/finding", "core/forward", "core/ban", "core/ruleset"},
		owns:    []string{"golang.org/x/sync"},
		testing: []string{"core/ruleset/rulesettest"}},
	{pkg: "gateway/bans", imports: []string{"core/finding", "core/forward", "core/ban", "kernel/system"}},
	{pkg: "gateway/ipforward", imports: []string{"core/forward", "kernel/system"}},
	{pkg: "gateway/repair", imports: []string{"kernel/nftwatch"}},

	// Data connections.
	{pkg: "dataplane", imports: []string{"core/pinhole"}},
	{pkg: "dataplane/socket",
		imports: []string{"core/pinhole", "kernel/system"},
		shares:  []string{"golang.org/x/sys"},
		testing: []string{"core/forward", "dataplane/relaytest"}},
	{pkg: "dataplane/port",
		imports: []string{"core/forward", "kernel/system", "proxyprotocol", "dataplane/socket"},
		shares:  []string{"golang.org/x/sys"},
		testing: []string{"dataplane/relaytest"}},
	{pkg: "dataplane/kernelpath", imports: []string{"core/forward", "core/pinhole", "dataplane/port"}},
	{pkg: "dataplane/leg",
		imports: []string{"dataplane/socket"},
		shares:  []string{"golang.org/x/sys"},
		testing: []string{"core/pinhole", "try/testca", "dataplane/relaytest"}},
	{pkg: "dataplane/relay",
		imports: []string{
			"core/forward", "core/pinhole", "dataplane", "dataplane/socket", "dataplane/port",
			"dataplane/leg",
		},
		shares:  []string{"golang.org/x/sys"},
		testing: []string{"try/testca", "dataplane/relaytest", "try/lab/labtest"}},
	{pkg: "dataplane/passthrough",
		imports: []string{
			"core/forward", "core/pinhole", "dataplane/socket", "dataplane/port", "dataplane/relay",
		},
		shares:  []string{"golang.org/x/sys"},
		testing: []string{"dataplane/relaytest"}},
	{pkg: "dataplane/path",
		imports: []string{
			"core/finding", "core/forward", "core/verdict", "core/pinhole", "kernel/system",
			"kernel/nftset", "observe/flows", "dataplane", "dataplane/port", "dataplane/kernelpath",
			"dataplane/relay", "dataplane/passthrough",
		},
		shares:  []string{"golang.org/x/sys"},
		testing: []string{"dataplane/relaytest"}},

	// Control connections.
	{pkg: "control/conn",
		imports: []string{"proxyprotocol"},
		shares:  []string{"golang.org/x/sys"},
		testing: []string{"try/testca"}},
	{pkg: "control/refusal", imports: []string{"core/verdict", "core/pinhole", "observe/sessions"}},
	{pkg: "control/transcript",
		imports: []string{
			"core/ftp", "core/verdict", "core/pinhole", "core/dialogue", "observe/sessions", "dataplane",
		}},
	{pkg: "control/upstream",
		imports: []string{
			"core/finding", "core/forward", "core/ftp", "core/verdict", "core/dialogue", "kernel/system",
			"proxyprotocol", "control/conn",
		},
		shares:  []string{"golang.org/x/sys"},
		testing: []string{"try/testca"}},
	{pkg: "control/account", imports: []string{"core/finding", "core/forward", "core/dialogue"}},
	{pkg: "control/session",
		imports: []string{
			"core/forward", "core/ftp", "core/verdict", "core/pinhole", "core/dialogue", "core/tlsrecord",
			"observe/sessions", "dataplane", "control/conn", "control/refusal", "control/transcript",
			"control/upstream",
		}},
	{pkg: "control/proxy",
		imports: []string{
			"core/finding", "core/forward", "core/verdict", "core/dialogue", "proxyprotocol",
			"observe/sessions", "dataplane",
			"control/conn", "control/refusal", "control/upstream", "control/account", "control/session",
		},
		shares:  []string{"golang.org/x/sys"},
		testing: []string{"core/pinhole", "try/testca"}},
	{pkg: "control/listeners",
		imports: []string{
			"core/finding", "core/forward", "core/verdict", "kernel/system", "observe/sessions",
			"dataplane", "control/session", "control/proxy",
		},
		shares:  []string{"golang.org/x/sys"},
		testing: []string{"dataplane/path", "control/ftptest"}},
	{pkg: "control/tlskeys",
		imports: []string{"core/finding", "core/forward", "core/verdict", "kernel/system"},
		testing: []string{"try/testca"}},

	// The admin socket, and systemd.
	{pkg: "ops/page"},
	{pkg: "ops/admin",
		imports: []string{
			"core/finding", "core/forward", "core/ban", "kernel/system", "observe/sessions", "ops/page",
		},
		owns:    []string{"golang.org/x/net"},
		testing: []string{"config"}},
	{pkg: "ops/instances",
		imports: []string{"kernel/system", "ops/admin"},
		shares:  []string{"golang.org/x/sys"}},
	{pkg: "ops/status",
		imports: []string{
			"core/finding", "core/forward", "core/ban", "core/verdict", "kernel/system",
			"observe/sessions", "observe/health", "gateway/bans", "gateway/repair", "control/tlskeys",
			"ops/admin",
		},
		testing: []string{"core/pinhole", "core/ruleset", "gateway", "config"}},
	{pkg: "ops/systemd",
		owns:    []string{"github.com/coreos/go-systemd/v22"},
		shares:  []string{"golang.org/x/sys"},
		testing: []string{"try/lab/labtest"}},

	// What is wrong with a host, a server.
	{pkg: "diagnose/facts",
		imports: []string{
			"core/finding", "core/forward", "core/ruleset", "kernel/system", "kernel/nft",
			"kernel/nftforeign", "control/tlskeys",
		},
		testing: []string{"diagnose/doctor", "try/lab", "try/lab/labtest", "golang.org/x/sys"}},
	{pkg: "diagnose/doctor",
		imports: []string{
			"core/finding", "core/forward", "kernel/system", "kernel/nftforeign", "control/tlskeys",
			"diagnose/facts",
		}},
	{pkg: "diagnose/preflight",
		imports: []string{
			"core/finding", "core/forward", "core/ruleset", "kernel/system", "kernel/nft", "gateway",
			"control/account", "control/tlskeys", "diagnose/facts", "diagnose/doctor",
		},
		shares:  []string{"golang.org/x/sys"},
		testing: []string{"kernel/nftforeign", "try/testca", "core/ruleset/rulesettest"}},
	{pkg: "diagnose/servercheck",
		imports: []string{
			"core/finding", "core/forward", "core/ftp", "ftpclient", "proxyprotocol", "control/tlskeys",
		},
		testing: []string{"try/testca"}},

	// The file.
	{pkg: "config",
		imports: []string{"core/finding", "core/forward", "core/ban", "kernel/system"},
		owns:    []string{"github.com/pelletier/go-toml/v2"}},

	// The file, from rules that a host has.
	{pkg: "importer/rule"},
	{pkg: "importer/iptables", imports: []string{"importer/rule"}, owns: []string{"mvdan.cc/sh/v3"}},
	{pkg: "importer/nftables", imports: []string{"importer/rule"}},
	{pkg: "importer/firewall", imports: []string{"importer/rule"}},
	{pkg: "importer",
		imports: []string{
			"core/finding", "core/forward", "importer/rule", "importer/iptables", "importer/nftables",
			"importer/firewall",
		},
		testing: []string{"config"}},

	// The wiring.
	{pkg: "daemon",
		imports: []string{
			"core/finding", "core/forward", "core/verdict", "version", "kernel/system", "kernel/nft",
			"observe/sessions", "observe/health", "observe/loglimit", "observe/metrics", "observe/monitor",
			"observe/transferlog", "gateway", "gateway/bans", "gateway/ipforward", "gateway/repair",
			"dataplane/path", "control/upstream", "control/account", "control/proxy", "control/listeners",
			"control/tlskeys",
			"ops/admin", "ops/status", "ops/systemd", "diagnose/doctor", "diagnose/preflight", "config",
		},
		shares:  []string{"golang.org/x/sys"},
		testing: []string{"control/ftptest"}},

	// The laboratory and the demo.
	{pkg: "try/demo/sessionlog", imports: []string{"core/ftp"}},
	{pkg: "try/demo/ftpserver",
		imports: []string{"try/demo/sessionlog"},
		owns:    []string{"goftp.io/server/v2"},
		testing: []string{"ftpclient", "try/testca"}},
	{pkg: "try/demo/quirk", imports: []string{"core/ftp"}},
	{pkg: "try/lab",
		owns:    []string{"github.com/vishvananda/netns"},
		shares:  []string{"github.com/vishvananda/netlink", "golang.org/x/sys"},
		testing: []string{"try/lab/labtest"}},
	{pkg: "try/testca"},
	{pkg: "try/demo/scenario",
		imports: []string{
			"core/ftp", "ftpclient", "try/demo/sessionlog", "try/demo/ftpserver", "try/demo/quirk",
			"try/lab", "try/testca",
		}},
	{pkg: "try/demo",
		imports: []string{
			"try/demo/sessionlog", "try/demo/ftpserver", "try/lab", "try/testca", "try/demo/scenario",
		},
		testing: []string{"ftpclient", "try/lab/labtest"}},

	// The command line.
	{pkg: "cli/terminal", shares: []string{"golang.org/x/sys"}},
	{pkg: "cli/top",
		imports: []string{
			"core/finding", "observe/sessions", "ops/admin", "cli/terminal",
		},
		owns:    []string{"charm.land/bubbletea/v2"},
		testing: []string{"core/verdict"}},
	{pkg: "cli",
		imports: []string{
			"core/finding", "core/forward", "core/ban", "core/verdict", "core/ruleset", "version",
			"observe/sessions", "gateway", "gateway/bans", "ops/admin", "ops/instances", "ops/systemd",
			"diagnose/doctor", "diagnose/preflight", "diagnose/servercheck", "config", "importer", "daemon",
			"try/lab", "try/demo", "cli/terminal", "cli/top",
		},
		owns:    []string{"github.com/spf13/cobra", "github.com/spf13/pflag", "golang.org/x/term"},
		testing: []string{"golang.org/x/sys"}},

	// The program.
	{pkg: "cmd/ftpgate", imports: []string{"cli"}},

	// What tests share.
	{pkg: "control/ftptest", imports: []string{"core/forward"}},
	{pkg: "core/ruleset/rulesettest", imports: []string{"core/forward", "core/ban", "core/ruleset"}},
	{pkg: "dataplane/relaytest", imports: []string{"core/forward"}},
	{pkg: "kernel/nft/nfttest", imports: []string{"core/ruleset", "kernel/nft", "try/lab"}},
	{pkg: "try/lab/labtest", imports: []string{"try/lab"}},

	// Tests of the whole.
	{pkg: "e2e/explicit",
		testing: []string{"try/lab", "try/lab/labtest", "e2e/harness", "e2e/peers"}},
	{pkg: "e2e/diagnose",
		testing: []string{
			"try/lab", "try/testca", "try/lab/labtest", "e2e/harness", "e2e/peers", "golang.org/x/sys",
		}},
	{pkg: "e2e/differential",
		testing: []string{
			"try/lab", "try/lab/labtest", "e2e/differential/script", "e2e/differential/play",
			"e2e/harness",
		}},
	{pkg: "e2e/differential/script"},
	{pkg: "e2e/differential/play",
		imports: []string{"e2e/differential/script"},
		shares:  []string{"golang.org/x/sys"}},
	{pkg: "e2e/docs",
		testing: []string{"cli", "try/lab", "try/lab/labtest", "e2e/harness", "e2e/peers"}},
	{pkg: "e2e/ftps",
		testing: []string{"try/lab", "try/testca", "try/lab/labtest", "e2e/harness", "e2e/peers"}},
	{pkg: "e2e/harness",
		imports: []string{"core/pinhole", "try/lab", "try/testca", "cli", "try/lab/labtest"},
		shares:  []string{"golang.org/x/sys"}},
	{pkg: "e2e/interop", testing: []string{"try/lab", "try/lab/labtest", "e2e/harness", "e2e/peers"}},
	{pkg: "e2e/kernel",
		testing: []string{
			"kernel/system", "try/lab", "try/lab/labtest", "e2e/harness", "e2e/peers",
			"github.com/jlaffaye/ftp", "golang.org/x/sys",
		}},
	{pkg: "e2e/observe",
		testing: []string{
			"try/lab", "try/lab/labtest", "e2e/harness", "e2e/peers", "github.com/jlaffaye/ftp",
			"github.com/prometheus/client_golang", "golang.org/x/sys",
		}},
	{pkg: "e2e/outbound", testing: []string{"try/lab", "try/lab/labtest", "e2e/harness", "e2e/peers"}},
	{pkg: "e2e/page",
		testing: []string{
			"core/finding", "core/forward", "core/ban", "core/verdict", "observe/sessions", "ops/admin",
			"try/lab", "try/lab/labtest", "e2e/harness", "e2e/peers",
		}},
	{pkg: "e2e/peers",
		imports: []string{"try/lab", "try/lab/labtest", "e2e/harness"},
		owns:    []string{"github.com/jlaffaye/ftp"}},
	{pkg: "e2e/proxy",
		testing: []string{
			"try/lab", "try/lab/labtest", "e2e/harness", "e2e/peers", "github.com/jlaffaye/ftp",
			"golang.org/x/sys",
		}},
	{pkg: "e2e/scripts", testing: []string{"cli", "github.com/rogpeppe/go-internal"}},

	// Tools, and tests of the house.
	{pkg: "archtest"},
	{pkg: "bench",
		imports: []string{"core/ftp", "ftpclient", "try/lab", "try/testca"},
		owns:    []string{"gonum.org/v1/plot"},
		shares:  []string{"golang.org/x/sys"},
		testing: []string{"try/lab/labtest"}},
	{pkg: "packagingtest", testing: []string{"config", "try/lab/labtest"}},
	{pkg: "release",
		owns: []string{
			"github.com/CycloneDX/cyclonedx-go", "github.com/google/go-containerregistry",
			"github.com/goreleaser/nfpm/v2", "golang.org/x/crypto/x509roots/fallback",
		}},
	{pkg: "release/containertest",
		testing: []string{
			"try/lab", "try/lab/labtest", "e2e/harness", "e2e/peers", "github.com/compose-spec/compose-go/v2",
		}},
	{pkg: "release/containertest/chart",
		testing: []string{"config", "helm.sh/helm/v3", "k8s.io/api", "sigs.k8s.io/yaml"}},
	{pkg: "release/manpage", owns: []string{"github.com/cpuguy83/go-md2man/v2"}},
}

// shared are the modules that several packages may import, with the reason.
var shared = map[string]string{
	"github.com/mdlayher/netlink":    "nft and conntrack are two subsystems, each with sockets of its own",
	"github.com/google/nftables":     "nft writes our table, nftforeign reads those of others",
	"github.com/vishvananda/netlink": "system reads routes, conntrack the constants, the lab makes links",
	"golang.org/x/sys":               "the kernel's numbers and errors; there is no state to guard",
}
