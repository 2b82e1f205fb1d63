package dnat

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
}

// String returns "FROM > AT > AS > TO".
func (p Pinhole) String() string {
	return fmt.Sprintf("%s > %s > %s > %s", p.From, p.At, p.As, p.To)
}
