package proxy

import (
	"fmt"
	"net"
	"net/netip"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/control/refusal"
	"ftpgate/internal/control/upstream"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
)

// Transparent is what a proxy needs to hide the gateway from its clients or from its servers.
type Transparent struct {
	// Dialled returns where a client of a transparent outbound dialled; nil: no forward is one.
	Dialled func(*net.TCPConn) (netip.AddrPort, error)
	Own     func(netip.Addr) bool // reports whether an address is the gateway's; with Dialled
	// Show makes a connection of the gateway's come from its client's address; nil: no forward asks for that.
	Show upstream.ShowSource
}

// dialled finds the address that a client of a transparent outbound has dialled: it is the server's. Another
// client's is known.
func (p *Proxy) dialled(f forward.Resolved, client *conn.Accepted) error {
	if !f.Transparent() {
		return nil
	}
	to, err := p.Dialled(client.TCPConn)
	if err != nil {
		return err
	}
	client.Dialled = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	return nil
}

// choose returns an outbound as the forward to the server that its client has dialled, or why the client may
// not reach that server. Another forward stays as it is.
func (p *Proxy) choose(f forward.Resolved, dialled netip.AddrPort, err error) (forward.Resolved,
	*refusal.Refusal) {
	if !f.Transparent() {
		return f, nil
	}
	why := f.Reaches(dialled.Addr())
	switch {
	case err != nil:
		why = "its address is not known"
	case why == "" && p.Own(dialled.Addr()):
		why = "it is the gateway itself"
	case why == "":
		return f.ToServer(dialled), nil
	}
	r := refusal.New(verdict.RefusedServer, "", fmt.Sprintf("this gateway does not lead to %s: %s",
		dialled.Addr(), why))
	r.Err = err
	return f, &r
}
