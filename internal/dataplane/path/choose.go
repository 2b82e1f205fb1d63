package path

import (
	"errors"
	"fmt"
	"net/netip"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
)

// Why the kernel cannot carry connections that begin with a header.
const (
	throughBalancer = "it may come through a balancer, with a PROXY protocol header"
	headerFirst     = "the server gets a PROXY protocol header first"
)

// choosePinhole chooses what carries the connection of one pinhole, DataKernel or DataRelay. The kernel
// carries it if its tables are usable, all addresses have one version of IP, neither end is this host (so
// that the connection is routed), the gateway speaks TLS with neither end, and no PROXY protocol header comes
// first. The error says why a forward
// that wants DataKernel cannot have it.
func choosePinhole(
	want forward.DataPath, p pinhole.Pinhole, usable bool, local func(netip.Addr) bool,
) (forward.DataPath, error) {
	why := kernelObstacle(usable, p.OneFamily(), local, p.From, p.Target.Addr())
	switch {
	case p.TLS.Any():
		why = "ftpgate itself encrypts it"
	case p.Balanced:
		why = throughBalancer
	case p.ProxyProtocol != forward.ProxyProtocolOff:
		why = headerFirst
	}
	path, err := choose(want, why)
	if err != nil {
		return 0, fmt.Errorf("data path: the kernel cannot carry %s: %w", p, err)
	}
	return path, nil
}

// choosePassthrough does the same for the connections of a passthrough, on which the gateway never speaks
// TLS.
func choosePassthrough(
	want forward.DataPath, p pinhole.Passthrough, usable bool, local func(netip.Addr) bool,
) (forward.DataPath, error) {
	why := kernelObstacle(usable, p.OneFamily(), local, p.From, p.Target)
	switch {
	case p.Balanced:
		why = throughBalancer
	case p.ProxyProtocol != forward.ProxyProtocolOff:
		why = headerFirst
	}
	path, err := choose(want, why)
	if err != nil {
		return 0, fmt.Errorf("data path: the kernel cannot carry %s: %w", p, err)
	}
	return path, nil
}

// kernelObstacle returns why the kernel cannot carry connections between two ends; empty: it can.
func kernelObstacle(usable, oneFamily bool, local func(netip.Addr) bool, from, to netip.Addr) string {
	switch {
	case !usable:
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

// choose returns the data path for a forward's wish and an obstacle ("": the kernel can carry it). If the
// forward wants the kernel only, the error is the obstacle.
func choose(want forward.DataPath, obstacle string) (forward.DataPath, error) {
	switch {
	case want == forward.DataRelay:
		return forward.DataRelay, nil
	case obstacle == "":
		return forward.DataKernel, nil
	case want == forward.DataKernel:
		return 0, errors.New(obstacle)
	}
	return forward.DataRelay, nil
}
