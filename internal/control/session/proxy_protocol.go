package session

import (
	"net/netip"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
)

// announced returns the address that a 227 names; not valid: the gateway's own. Without advertise a client
// behind a balancer is told the address that it dialled, which is the balancer's.
func announced(f forward.Resolved, from conn.Accepted) netip.Addr {
	if a := f.AdvertisedTo(from.Client.Addr()); a.IsValid() || !from.Balancer.IsValid() {
		return a
	}
	return from.Dialled.Addr()
}

// balanced reports whether data connections may come through a balancer: the control connection did. The
// kernel cannot read a header, so that they come from the client itself if it carries them all.
func (s *Session) balanced() bool {
	return s.from.Balancer.IsValid() && s.forward.Data != forward.DataKernel
}

// withHeaders completes a pinhole with what the PROXY protocol asks for.
func (s *Session) withHeaders(p pinhole.Pinhole) pinhole.Pinhole {
	if !p.Active {
		p.Balanced, p.ProxyProtocol = s.balanced(), s.forward.DataProxyProtocol()
		return p
	}
	if p.SourceIP.Is4() != p.Target.Addr().Is4() { // the balancer changed the family: let the kernel choose
		p.SourceIP = netip.Addr{}
	}
	return p
}
