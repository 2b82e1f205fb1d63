package path

import (
	"fmt"
	"net/netip"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
)

// Carrier decides what carries the connection of one pinhole, DataKernel or DataRelay. The kernel is
// taken where it can: its tables are there, all addresses are of one version of IP, both ends are
// beyond this host, so that the connection is routed, and the gateway speaks TLS with neither. The error
// says why a forward with data kernel gets none.
func Carrier(want forward.DataPath, hole pinhole.Pinhole, tables bool, local func(netip.Addr) bool) (forward.DataPath, error) {
	why := inTheWay(tables, hole.OneFamily(), local, hole.From, hole.Target.Addr())
	if hole.TLS.Any() {
		why = "ftpgate itself encrypts it"
	}
	return carrier(want, hole, why)
}

// PassageCarrier decides in the same way what carries the connections of a passage. The gateway never
// speaks TLS on them.
func PassageCarrier(want forward.DataPath, passage pinhole.Passthrough, tables bool, local func(netip.Addr) bool) (forward.DataPath, error) {
	return carrier(want, passage, inTheWay(tables, passage.OneFamily(), local, passage.From, passage.Target))
}

// inTheWay says why the kernel cannot carry connections between two ends; empty: it can.
func inTheWay(tables, oneFamily bool, local func(netip.Addr) bool, from, to netip.Addr) string {
	switch {
	case !tables:
		return "ftpgate may not change the kernel's tables"
	case !oneFamily:
		return "one end has IPv4 and the other IPv6"
	case local(from):
		return fmt.Sprintf("%s is the gateway itself", from)
	case local(to):
		return fmt.Sprintf("%s is the gateway itself", to)
	}
	return ""
}

// carrier is the carrier of what, where the forward wants a path and something is in the kernel's way.
func carrier(want forward.DataPath, what fmt.Stringer, why string) (forward.DataPath, error) {
	switch {
	case want == forward.DataRelay:
		return forward.DataRelay, nil
	case why == "":
		return forward.DataKernel, nil
	case want == forward.DataKernel:
		return 0, fmt.Errorf("gateway: data kernel cannot carry %s: %s", what, why)
	}
	return forward.DataRelay, nil
}
