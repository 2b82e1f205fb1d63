package pinhole

import (
	"fmt"
	"net/netip"
)

// Pinhole is the permission for exactly one data connection: who may come, where to, and where it
// leads. In passive mode the client comes and it leads to the server; in active mode the server
// comes and it leads to the client.
type Pinhole struct {
	From     netip.Addr     // who may connect
	Listen   netip.AddrPort // the gateway's address for it, and its port; port 0 until one is drawn
	Target   netip.AddrPort // the far end
	SourceIP netip.Addr     // the gateway's address that the far end sees: the one it knows from control

	// Active: the server comes, and may do so before it has said yes to PORT. Such a connection has to
	// be kept waiting, because there are servers whose yes it decides (pyftpdlib).
	Active bool

	TLS TLSLegs // the legs on which the gateway speaks TLS
}

// String returns "FROM > AT > AS > TO".
func (p Pinhole) String() string {
	return fmt.Sprintf("%s > %s > %s > %s", p.From, p.Listen, p.SourceIP, p.Target)
}

// OneFamily tells whether every address of the pinhole is of the same version of IP, so that the
// kernel can translate the connection.
func (p Pinhole) OneFamily() bool {
	v4 := p.From.Is4()
	return p.Listen.Addr().Is4() == v4 && p.Target.Addr().Is4() == v4 && p.SourceIP.IsValid() && p.SourceIP.Is4() == v4
}

// Leg is one end that the gateway connects to.
type Leg struct {
	SourceIP netip.Addr     // the gateway's address that the end sees; not valid: the kernel's choice
	Target   netip.AddrPort // where the end listens
}

// Bridge is a data connection of which both ends listen: an active client and a passive server.
type Bridge struct {
	Client, Server Leg
	TLS            TLSLegs // the legs on which the gateway speaks TLS
}
