package pinhole

import (
	"errors"
	"fmt"
	"net/netip"

	"ftpgate/internal/core/forward"
)

// Passthrough is the permission for one client to reach a server's passive ports one to one, while it has an
// end-to-end encrypted session.
type Passthrough struct {
	From     netip.Addr        // the client
	Listen   netip.Addr        // the gateway's address that it connected to
	Ports    forward.PortRange // the same at the gateway and at the server
	Target   netip.Addr        // the server
	SourceIP netip.Addr        // the gateway's address that the server sees, as on the control connection
	// Balanced: as for a pinhole.
	Balanced bool
	// ProxyProtocol is the version of the header that the server gets first on each connection.
	ProxyProtocol forward.ProxyProtocol
}

// String returns "FROM > LISTEN port PORTS > SOURCE > TARGET".
func (p Passthrough) String() string {
	return fmt.Sprintf("%s > %s port %s > %s > %s", p.From, p.Listen, p.Ports, p.SourceIP, p.Target)
}

// OneFamily reports whether every address of the passthrough is of the same version of IP, so that the kernel
// can translate what goes through.
func (p Passthrough) OneFamily() bool { return oneFamily(p.From, p.Listen, p.Target, p.SourceIP) }

// Unmap returns the passthrough with IPv4-mapped addresses converted to IPv4.
func (p Passthrough) Unmap() Passthrough {
	p.From, p.Listen = p.From.Unmap().WithZone(""), p.Listen.Unmap()
	p.Target, p.SourceIP = p.Target.Unmap(), p.SourceIP.Unmap()
	return p
}

// Validate returns an error for a passthrough that is not exact, as for a pinhole, or that includes ports of
// services.
func (p Passthrough) Validate() error {
	pinhole := Pinhole{Balanced: p.Balanced, From: p.From, Listen: netip.AddrPortFrom(p.Listen, 0),
		Target: netip.AddrPortFrom(p.Target, p.Ports.Last), SourceIP: p.SourceIP}
	if err := pinhole.Validate(); err != nil {
		return err
	}
	switch {
	case p.Ports.First > p.Ports.Last:
		return fmt.Errorf("ports %d-%d are not a valid range", p.Ports.First, p.Ports.Last)
	case p.Ports.First < forward.LowestDataPort:
		return fmt.Errorf("port %d is below %d", p.Ports.First, forward.LowestDataPort)
	case p.Target == p.Listen:
		return errors.New("the target is the gateway's own address")
	}
	return nil
}
