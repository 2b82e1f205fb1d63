package gateway

import (
	"fmt"
	"net/netip"

	"ftpgate/internal/dnat"
)

// Carrier decides what carries the connection of one pinhole, DataKernel or DataRelay. The kernel is
// taken where it can: its tables are there, all addresses are of one version of IP, and both
// ends are beyond this host, so that the connection is routed. The error says why a forward with data
// kernel gets none.
func Carrier(want dnat.DataPath, hole dnat.Pinhole, tables bool, local func(netip.Addr) bool) (dnat.DataPath, error) {
	why := ""
	switch {
	case want == dnat.DataRelay:
		return dnat.DataRelay, nil
	case !tables:
		why = "ftpgate may not change the kernel's tables"
	case !hole.OneFamily():
		why = "one end has IPv4 and the other IPv6"
	case local(hole.From):
		why = fmt.Sprintf("%s is the gateway itself", hole.From)
	case local(hole.To.Addr()):
		why = fmt.Sprintf("%s is the gateway itself", hole.To.Addr())
	default:
		return dnat.DataKernel, nil
	}
	if want == dnat.DataKernel {
		return 0, fmt.Errorf("gateway: data kernel cannot carry %s: %s", hole, why)
	}
	return dnat.DataRelay, nil
}
