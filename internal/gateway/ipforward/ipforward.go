// Package ipforward switches on the IP forwarding of the host that forwards need, and logs what it has
// changed.
//
// It never switches anything off: another program may need it by then.
package ipforward

import (
	"log/slog"
	"net/netip"
	"slices"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/system"
)

// Needed reports whether the kernel may carry connections of any of the forwards.
func Needed(forwards []forward.Resolved) bool {
	return slices.ContainsFunc(forwards, func(f forward.Resolved) bool { return f.MayUseKernel() })
}

// needs6 reports whether it may carry connections over IPv6.
func needs6(forwards []forward.Resolved) bool {
	return slices.ContainsFunc(forwards, func(f forward.Resolved) bool {
		return f.MayUseKernel() && (f.Server6.IsValid() || f.Outbound != nil && hasClients6(f.Clients))
	})
}

// hasClients6 reports whether clients may have IPv6; an empty list has all clients.
func hasClients6(clients []netip.Prefix) bool {
	is6 := func(p netip.Prefix) bool { return p.Addr().Is6() }
	return len(clients) == 0 || slices.ContainsFunc(clients, is6)
}

// Enable switches on the IP forwarding that the forwards need.
func Enable(forwards []forward.Resolved, log *slog.Logger) error {
	if !Needed(forwards) {
		return nil
	}
	ipv6 := needs6(forwards)
	if ipv6 {
		warnOfRouterAdvertisements(log)
	}
	changed, err := system.EnableForwarding(ipv6)
	for _, sysctl := range changed {
		log.Info("IP forwarding switched on; it stays on when ftpgate stops", "sysctl", sysctl)
	}
	return err
}

// warnOfRouterAdvertisements warns if the host would lose its IPv6 route with IP forwarding. An error here
// is no reason not to start.
func warnOfRouterAdvertisements(log *slog.Logger) {
	interfaces, err := system.RouterAdvertisementRisk()
	if err != nil {
		log.Warn("cannot read whether this host gets its IPv6 route from router advertisements", "err", err)
	}
	for _, name := range interfaces {
		log.Warn("interface "+name+" gets its IPv6 route from router advertisements, "+
			"which Linux ignores with IP forwarding", "remedy", "sysctl -w "+system.AcceptRAKey(name)+"=2")
	}
}
