package passthrough

import (
	"net/netip"
	"sync/atomic"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/port"
	"ftpgate/internal/dataplane/socket"
)

// routeKey is one client at one port of the gateway.
type routeKey struct {
	client netip.Addr
	at     netip.AddrPort
}

// target is the server behind a port, and the gateway's address that the server sees.
type target struct {
	server, sourceIP netip.Addr
	proxyProtocol    forward.ProxyProtocol
}

func targetOf(p pinhole.Passthrough) target { return target{p.Target, p.SourceIP, p.ProxyProtocol} }

// route is one client's target at a port. It is the Receiver of the client's connections.
type route struct {
	*port.Route
	of *Passthroughs
	routeKey
	target
	passthroughs int          // that listen at it: overlapping ones share it
	armed        atomic.Int32 // handles that have it open
}

// Accept relays a connection, and resets one that arrives before Arm.
func (r *route) Accept(c *socket.Conn, peer port.Peer) {
	if r.armed.Load() == 0 {
		_ = c.Close() // a reset: see package socket
		return
	}
	number := r.at.Port()
	p := pinhole.Passthrough{From: r.client, Listen: r.at.Addr(),
		Ports:  forward.PortRange{First: number, Last: number},
		Target: r.server, SourceIP: r.sourceIP}
	r.of.goroutines.Go(func() {
		leg := pinhole.Leg{SourceIP: r.sourceIP, Target: netip.AddrPortFrom(r.server, number)}
		r.of.ended(p, r.of.opener.Carry(r.of.ctx, c, leg, peer.Header(r.proxyProtocol)))
	})
}

// Refused does nothing: refused peers are not counted.
func (r *route) Refused(netip.Addr) {}
