package archtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// row is what the design says of one package.
type row struct {
	pkg     string   // from the module's root, "internal/" left out
	imports []string // packages of ours that its code imports, all of rows above
	owns    []string // modules that it and no other package imports
	shares  []string // modules that have no owner (shared)
	testing []string // packages of ours and modules that only its tests import
}

// rows is the layout: a row imports only rows above it. What a row allows is needed, too: an entry
// that nothing uses any more is an error, so that the table stays true.
var rows = []row{
	// Pure: values in, values out.
	{pkg: "dnat"},
	{pkg: "ftp"},
	{pkg: "config", imports: []string{"dnat"}, owns: []string{"github.com/pelletier/go-toml/v2"}},
	{pkg: "journal", imports: []string{"dnat"}},
	{pkg: "ruleset", imports: []string{"dnat"}, testing: []string{"ruleset/rulesettest"}},
	{pkg: "ruleset/rulesettest", imports: []string{"dnat"}},

	// The laboratory: nothing of ours is in it, so that all tests may stand on it.
	{pkg: "lab", owns: []string{"github.com/vishvananda/netlink", "github.com/vishvananda/netns"}, testing: []string{"lab/labtest"}},
	{pkg: "lab/labtest", imports: []string{"lab"}},

	// The kernel's edge.
	{pkg: "system", owns: []string{"github.com/prometheus/procfs"}, shares: []string{"golang.org/x/sys"},
		testing: []string{"lab", "lab/labtest"}},
	{pkg: "nft", imports: []string{"dnat", "ruleset"}, shares: []string{"golang.org/x/sys", "github.com/mdlayher/netlink"},
		owns:    []string{"github.com/google/nftables"},
		testing: []string{"ruleset/rulesettest", "lab", "lab/labtest"}},

	{pkg: "conntrack", imports: []string{"dnat"}, shares: []string{"golang.org/x/sys", "github.com/mdlayher/netlink"},
		testing: []string{"lab", "lab/labtest"}},

	// What serves sessions in this process.
	{pkg: "pinhole", imports: []string{"dnat"}},
	{pkg: "relay", imports: []string{"dnat"}, shares: []string{"golang.org/x/sys"}, testing: []string{"lab/labtest"}},
	{pkg: "secure", imports: []string{"dnat"}},
	{pkg: "tracker", imports: []string{"dnat", "ftp", "journal"}, shares: []string{"golang.org/x/sys"}},

	// The core, which the kernel's packages never meet but through its interfaces.
	{pkg: "gateway", imports: []string{"dnat", "ruleset"}, owns: []string{"golang.org/x/sync"},
		testing: []string{"ruleset/rulesettest"}},

	{pkg: "flows", imports: []string{"dnat", "journal"}},

	// What shows things: to the service manager, to tools, and to people.
	{pkg: "notify", owns: []string{"github.com/coreos/go-systemd/v22"}, shares: []string{"golang.org/x/sys"}, testing: []string{"lab/labtest"}},
	{pkg: "transferlog", imports: []string{"journal"}},
	{pkg: "metrics", imports: []string{"dnat", "journal"}, owns: []string{"github.com/prometheus/client_golang"},
		testing: []string{"tracker", "go.yaml.in/yaml/v3"}},
	{pkg: "admin", imports: []string{"dnat", "journal"}, owns: []string{"golang.org/x/net"}},
	{pkg: "doctor", imports: []string{"dnat"}},
	{pkg: "doctor/look", imports: []string{"dnat", "doctor", "nft", "system"}, testing: []string{"lab", "lab/labtest", "golang.org/x/sys"}},
	{pkg: "trial", imports: []string{"dnat", "ftp"}},
	{pkg: "packagingtest", testing: []string{"lab/labtest"}},

	// The wiring, and what an operator sees.
	{pkg: "daemon", imports: []string{"dnat", "ruleset", "system", "nft", "pinhole", "relay", "secure", "tracker", "gateway", "journal", "conntrack",
		"flows", "notify", "transferlog", "metrics", "admin", "doctor", "doctor/look"}, shares: []string{"golang.org/x/sys"}},
	{pkg: "demo/quirk", imports: []string{"ftp"}},
	{pkg: "demo/authority"},
	{pkg: "demo/dialogue", imports: []string{"ftp"}},
	{pkg: "demo/ftpclient", imports: []string{"ftp"}, testing: []string{"demo/authority"}},
	{pkg: "demo/ftpserver", imports: []string{"demo/dialogue"}, owns: []string{"goftp.io/server/v2"},
		testing: []string{"demo/authority", "demo/ftpclient"}},
	{pkg: "demo/story", imports: []string{"ftp", "lab", "demo/quirk", "demo/authority", "demo/dialogue", "demo/ftpclient", "demo/ftpserver"}},
	{pkg: "demo", imports: []string{"lab", "demo/authority", "demo/dialogue", "demo/ftpserver", "demo/story"},
		testing: []string{"demo/ftpclient", "lab/labtest"}},
	{pkg: "version"},
	{pkg: "cli", imports: []string{"version", "dnat", "config", "ruleset", "lab", "nft", "gateway", "daemon", "demo", "journal", "transferlog", "admin", "notify",
		"doctor", "trial"},
		owns: []string{"github.com/spf13/cobra", "golang.org/x/term"}, shares: []string{"golang.org/x/sys"}, testing: []string{"github.com/rogpeppe/go-internal"}},
	{pkg: "cmd/ftpgate", imports: []string{"cli"}},

	// A module of its own: what it owns is in bench/go.mod only.
	{pkg: "bench", imports: []string{"ftp", "lab"}, owns: []string{"gonum.org/v1/plot"}, shares: []string{"golang.org/x/sys"},
		testing: []string{"lab/labtest"}},
	{pkg: "e2e/harness", imports: []string{"cli", "lab", "lab/labtest"}, shares: []string{"golang.org/x/sys"}},
	{pkg: "e2e/peers", imports: []string{"lab", "lab/labtest", "e2e/harness"}, owns: []string{"github.com/jlaffaye/ftp"}},
	{pkg: "e2e/proxy", testing: []string{"lab", "lab/labtest", "e2e/harness", "e2e/peers", "github.com/jlaffaye/ftp", "golang.org/x/sys"}},
	{pkg: "e2e/ftps", testing: []string{"lab", "lab/labtest", "e2e/harness", "e2e/peers"}},
	{pkg: "e2e/observe", testing: []string{"lab", "lab/labtest", "e2e/harness", "e2e/peers", "github.com/jlaffaye/ftp",
		"github.com/prometheus/client_golang", "golang.org/x/sys"}},
	{pkg: "e2e/diagnose", testing: []string{"lab", "lab/labtest", "e2e/harness", "e2e/peers", "golang.org/x/sys"}},
	{pkg: "e2e/docs", testing: []string{"cli", "lab/labtest", "e2e/harness", "e2e/peers"}},
	{pkg: "archtest"},
}

// shared are the modules that several packages may import, with the reason.
var shared = map[string]string{
	"github.com/mdlayher/netlink": "nft and conntrack speak to two subsystems of the kernel, each over sockets of its own",

	"golang.org/x/sys": "the kernel's numbers and its errors; they have no state that an owner could guard",
}

// dir is the package's directory.
func (r row) dir() string {
	if r.pkg == "bench" || strings.HasPrefix(r.pkg, "cmd/") {
		return r.pkg
	}
	return "internal/" + r.pkg
}

// short is how rows name a package of ours.
func short(importPath string) string {
	return strings.TrimPrefix(strings.TrimPrefix(importPath, module+"/"), "internal/")
}

func TestLayout(t *testing.T) {
	packages := load(t)
	for _, fault := range slices.Concat(
		checkTable(rows),
		checkRows(rows, packages),
		checkImports(rows, packages, requirements(t)),
		checkModules(rows, requirements(t)),
	) {
		t.Error(fault)
	}
}

// checkTable finds rows that contradict the table's own order.
func checkTable(rows []row) (faults []string) {
	above := map[string]bool{}
	owners := map[string]string{}
	for _, r := range rows {
		if above[r.pkg] {
			faults = append(faults, fmt.Sprintf("package %s has two rows", r.pkg))
		}
		for _, i := range r.imports {
			if !above[i] {
				faults = append(faults, fmt.Sprintf("row %s imports %s, which is no row above it", r.pkg, i))
			}
		}
		for _, m := range r.owns {
			if o, owned := owners[m]; owned {
				faults = append(faults, fmt.Sprintf("module %s is owned by %s and %s", m, o, r.pkg))
			}
			owners[m] = r.pkg
		}
		for _, m := range r.shares {
			if shared[m] == "" {
				faults = append(faults, fmt.Sprintf("row %s shares module %s, and nothing says why it may be shared", r.pkg, m))
			}
		}
		above[r.pkg] = true
	}
	return faults
}

// checkRows finds packages without a row and rows without a package.
func checkRows(rows []row, packages []*pkg) (faults []string) {
	for _, p := range packages {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.dir() == p.dir }) {
			faults = append(faults, fmt.Sprintf("package %s has no row in the layout", p.dir))
		}
	}
	for _, r := range rows {
		if !slices.ContainsFunc(packages, func(p *pkg) bool { return r.dir() == p.dir }) {
			faults = append(faults, fmt.Sprintf("row %s has no package", r.pkg))
		}
	}
	return faults
}

// checkImports holds each package's imports to its row.
func checkImports(rows []row, packages []*pkg, required map[string]requirement) (faults []string) {
	for _, r := range rows {
		allowed := slices.Concat(r.imports, r.owns, r.shares)
		used := map[string]bool{}
		for _, p := range packages {
			if p.dir != r.dir() {
				continue
			}
			for _, f := range p.files {
				for _, i := range f.imports() {
					what := importee(i, required)
					used[what] = true
					switch {
					case what == "", slices.Contains(allowed, what):
					case f.test && (what == r.pkg || slices.Contains(r.testing, what)):
					default:
						faults = append(faults, fmt.Sprintf("%s imports %s, which the row of %s does not allow", f.name, i, r.pkg))
					}
				}
			}
		}
		for _, a := range slices.Concat(allowed, r.testing) {
			if !used[a] {
				faults = append(faults, fmt.Sprintf("row %s allows %s, which it does not import: take it out of the row", r.pkg, a))
			}
		}
	}
	return faults
}

// importee is what rows call an import: a package of ours, a module, or "" for the standard library.
func importee(importPath string, required map[string]requirement) string {
	if importPath == module || strings.HasPrefix(importPath, module+"/") {
		return short(importPath)
	}
	if first, _, _ := strings.Cut(importPath, "/"); !strings.Contains(first, ".") {
		return ""
	}
	if m := moduleOf(importPath, required); m != "" {
		return m
	}
	return importPath
}

// checkModules finds modules that go.mod or bench/go.mod requires and no row names.
func checkModules(rows []row, required map[string]requirement) (faults []string) {
	for m, r := range required {
		if r.indirect {
			continue
		}
		if !slices.ContainsFunc(rows, func(r row) bool {
			return slices.Contains(slices.Concat(r.owns, r.shares, r.testing), m)
		}) {
			faults = append(faults, fmt.Sprintf("module %s is required by go.mod, and no package owns it", m))
		}
	}
	slices.Sort(faults)
	return faults
}
