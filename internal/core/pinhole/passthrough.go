package pinhole

import (
	"fmt"
	"net/netip"

	"ftpgate/internal/core/forward"
)

// TLSLegs says on which legs of a data connection the gateway itself speaks TLS.
type TLSLegs struct{ Client, Server bool }

// Any tells whether there is such a leg: then the kernel cannot carry the connection.
func (e TLSLegs) Any() bool { return e.Client || e.Server }

// Passthrough is the permission for one client to reach a server's passive ports one to one, while it has a
// session that is encrypted from end to end.
type Passthrough struct {
	From     netip.Addr        // the client
	Listen   netip.Addr        // the gateway's address that it dialled
	Ports    forward.PortRange // the same at the gateway and at the server
	Target   netip.Addr        // the server
	SourceIP netip.Addr        // the gateway's address that the server sees: the one it knows from control
}

// String returns "FROM > AT:PORTS > AS > TO".
func (p Passthrough) String() string {
	return fmt.Sprintf("%s > %s port %s > %s > %s", p.From, p.Listen, p.Ports, p.SourceIP, p.Target)
}

// OneFamily tells whether every address of the passage is of the same version of IP, so that the
// kernel can translate what goes through.
func (p Passthrough) OneFamily() bool {
	v4 := p.From.Is4()
	return p.Listen.Is4() == v4 && p.Target.Is4() == v4 && p.SourceIP.IsValid() && p.SourceIP.Is4() == v4
}
