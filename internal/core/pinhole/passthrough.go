package pinhole

import (
	"fmt"
	"net/netip"

	"ftpgate/internal/core/forward"
)

// Encrypted says on which legs of a data connection the gateway itself speaks TLS.
type Encrypted struct{ Client, Server bool }

// Any tells whether there is such a leg: then the kernel cannot carry the connection.
func (e Encrypted) Any() bool { return e.Client || e.Server }

// Passage is the permission for one client to reach a server's passive ports one to one, while it has a
// session that is encrypted from end to end.
type Passage struct {
	From  netip.Addr        // the client
	At    netip.Addr        // the gateway's address that it dialled
	Ports forward.PortRange // the same at the gateway and at the server
	To    netip.Addr        // the server
	As    netip.Addr        // the gateway's address that the server sees: the one it knows from control
}

// String returns "FROM > AT:PORTS > AS > TO".
func (p Passage) String() string {
	return fmt.Sprintf("%s > %s port %s > %s > %s", p.From, p.At, p.Ports, p.As, p.To)
}

// OneFamily tells whether every address of the passage is of the same version of IP, so that the
// kernel can translate what goes through.
func (p Passage) OneFamily() bool {
	v4 := p.From.Is4()
	return p.At.Is4() == v4 && p.To.Is4() == v4 && p.As.IsValid() && p.As.Is4() == v4
}
