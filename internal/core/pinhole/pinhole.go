package pinhole

import (
	"fmt"
	"net/netip"
)

// Pinhole is the permission for exactly one data connection: who may come, where to, and where it
// leads. In passive mode the client comes and it leads to the server; in active mode the server
// comes and it leads to the client.
type Pinhole struct {
	From netip.Addr     // who may connect
	At   netip.AddrPort // the gateway's address for it, and its port; port 0 until one is drawn
	To   netip.AddrPort // the far end
	As   netip.Addr     // the gateway's address that the far end sees: the one it knows from control

	// Active: the server comes, and may do so before it has said yes to PORT. Such a connection has to
	// be kept waiting, because there are servers whose yes it decides (pyftpdlib).
	Active bool

	Encrypted Encrypted // the legs on which the gateway speaks TLS
}

// String returns "FROM > AT > AS > TO".
func (p Pinhole) String() string {
	return fmt.Sprintf("%s > %s > %s > %s", p.From, p.At, p.As, p.To)
}

// OneFamily tells whether every address of the pinhole is of the same version of IP, so that the
// kernel can translate the connection.
func (p Pinhole) OneFamily() bool {
	v4 := p.From.Is4()
	return p.At.Addr().Is4() == v4 && p.To.Addr().Is4() == v4 && p.As.IsValid() && p.As.Is4() == v4
}

// Leg is one end that the gateway connects to.
type Leg struct {
	As netip.Addr     // the gateway's address that the end sees; not valid: the kernel's choice
	To netip.AddrPort // where the end listens
}

// Bridge is a data connection of which both ends listen: an active client and a passive server.
type Bridge struct {
	Client, Server Leg
	Encrypted      Encrypted // the legs on which the gateway speaks TLS
}
