package facts

import (
	"fmt"
	"strings"

	"ftpgate/internal/kernel/nftforeign"
)

// PassRemedy returns the remedy for a chain at the forward hook that refuses the forwards' connections to the
// server: those whose destination was translated, in both directions.
func PassRemedy(c nftforeign.Chain, server string) string {
	const translated = "-m conntrack --ctstate DNAT -j ACCEPT"
	switch {
	case c.Owner == "docker":
		return fmt.Sprintf("%s -I DOCKER-USER %s", iptables(c), translated)
	case c.Owner == "ufw":
		return "ufw route allow proto tcp to " + server
	case c.Owner == "firewalld":
		return "add a policy that lets the clients' zone forward to the server's " +
			"(firewall-cmd --permanent --new-policy ...), or --add-forward in a zone that has both"
	case c.Family == "":
		return fmt.Sprintf("iptables-legacy -I %s %s", c.Name, translated)
	case c.Table == "filter" && c.Name == "FORWARD": // made by iptables, which cannot show nft's rules
		return fmt.Sprintf("%s -I %s %s", iptables(c), c.Name, translated)
	}
	return fmt.Sprintf("nft insert rule %s %s %s ct status dnat accept", c.Family, c.Table, c.Name)
}

// OpenRemedy returns the remedy for a chain at the input hook that refuses TCP ports of the gateway itself.
// ports is a port or a range, "49152-65535".
func OpenRemedy(c nftforeign.Chain, ports string) string {
	colons := strings.Replace(ports, "-", ":", 1) // as iptables writes a range
	switch {
	case c.Owner == "firewalld":
		return fmt.Sprintf("firewall-cmd --permanent --add-port=%s/tcp && firewall-cmd --reload", ports)
	case c.Owner == "ufw":
		return fmt.Sprintf("ufw allow %s/tcp", colons)
	case c.Table == "filter" && c.Name == "INPUT":
		return fmt.Sprintf("%s -I INPUT -p tcp --dport %s -j ACCEPT", iptables(c), colons)
	}
	return fmt.Sprintf("nft insert rule %s %s %s tcp dport %s accept", c.Family, c.Table, c.Name, ports)
}

// iptables names the command for the chain's family.
func iptables(c nftforeign.Chain) string {
	if c.Family == "ip6" {
		return "ip6tables"
	}
	return "iptables"
}
