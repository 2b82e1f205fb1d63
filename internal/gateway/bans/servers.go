package bans

import (
	"fmt"
	"net/netip"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

// Servers returns a warning for each forward whose server is refused: its data connections to the gateway,
// those of active mode, are refused, too.
func Servers(refuses func(netip.Addr) bool, forwards []forward.Resolved) (warnings []finding.Finding) {
	for _, f := range forwards {
		if f.Tracking == forward.TrackingNone { // which has no active mode
			continue
		}
		for _, server := range f.ServerAddrs() {
			if refuses(server) {
				warnings = append(warnings, finding.Finding{Code: "server_banned", Forward: f.Name,
					Key:      "deny",
					Severity: finding.Warning,
					Text: fmt.Sprintf("the server's address %s is banned, or denied by deny: at the "+
						"addresses where clients connect the gateway refuses its connections, too, and "+
						"active mode fails there", server),
					Remedy: "lift that ban (ftpgate bans), or take the address out of deny; passive mode " +
						"works",
				})
			}
		}
	}
	return warnings
}

// Refuses reports whether the configuration denies an address.
func (d *Denied) Refuses(addr netip.Addr) bool {
	_, by := d.find(netip.PrefixFrom(addr.Unmap().WithZone(""), addr.Unmap().BitLen()))
	return by != ""
}

// servers returns the warnings of Servers as sentences that name the forward.
func (k *Keeper) servers(refuses func(netip.Addr) bool) (all []string) {
	if k.config.Forwards == nil {
		return nil
	}
	warnings := Servers(refuses, k.config.Forwards())
	for i, w := range warnings {
		if i == namedServers {
			return append(all, fmt.Sprintf("there are %s with a banned server",
				finding.Plural(len(warnings)-i, "more forward")))
		}
		all = append(all, fmt.Sprintf("forward %q: %s", w.Forward, w.Text))
	}
	return all
}

// namedServers bounds how many refused servers are named at once.
const namedServers = 5
