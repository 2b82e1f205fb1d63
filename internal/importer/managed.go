package importer

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"ftpgate/internal/importer/rule"
)

// firewalldChain finds the zone in the name of a chain that firewalld makes.
var firewalldChain = regexp.MustCompile(`^(?:nat_|raw_|filter_)?(PRE|IN)_(.+)_allow$`)

// deletion returns what deletes a rule. A rule that a program makes comes back, unless the program is told.
func (a *analysis) deletion(r rule.PathRule) []string {
	table, chain := r.Chain.Table, r.Chain.Chain
	by := func(format string, args ...any) []string {
		return []string{fmt.Sprintf(format, args...) + fmt.Sprintf("   # makes the rule on %s",
			where(r.Place))}
	}
	switch zone := firewalldChain.FindStringSubmatch(chain); {
	case zone != nil:
		return firewalld(r, zone[2])
	case chain == "DOCKER" || table == "docker-bridges":
		return []string{"start the container without publishing its ports (docker run -p, ports: of compose)"}
	case strings.HasPrefix(chain, "KUBE-") || strings.HasPrefix(chain, "CNI-"):
		return by("take the port from the service or the pod in Kubernetes (hostPort, nodePort)")
	case strings.HasPrefix(chain, "ufw-"):
		return by("remove the rule from the files in /etc/ufw, then: ufw reload")
	case table == "fw4":
		return by("remove its section from /etc/config/firewall, then: service firewall reload")
	case strings.HasPrefix(table, "vyos_"):
		return by("delete its nat destination rule (show configuration commands | match nat), then: commit")
	case a.has("shorewall"):
		return by("remove its line from /etc/shorewall/rules or conntrack, then: shorewall reload")
	}
	return r.Deletion
}

// has reports whether there is a chain with a name.
func (a *analysis) has(chain string) bool {
	return slices.ContainsFunc(a.set.Chains, func(c rule.Chain) bool { return c.Chain == chain })
}

// firewalld returns the command that deletes a rule of a zone.
func firewalld(r rule.PathRule, zone string) []string {
	command := "firewall-cmd --permanent --zone=" + zone
	if r.Action == rule.Helper {
		return []string{command + " --remove-service=ftp", "firewall-cmd --reload"}
	}
	port := joined(portList(r.Match.Ports), "")
	to := ""
	if !r.To.Ports.IsEmpty() {
		to = ":toport=" + joined(portList(rule.OnlyPorts(r.To.Ports)), "")
	}
	if r.To.First.IsValid() {
		to += ":toaddr=" + r.To.First.String()
	}
	return []string{fmt.Sprintf("%s --remove-forward-port=port=%s:proto=tcp%s", command, port, to),
		"firewall-cmd --reload"}
}

// where says where a rule stands.
func where(p rule.Place) string {
	if p.Line == 0 {
		return "the ruleset"
	}
	return fmt.Sprintf("line %d", p.Line)
}
