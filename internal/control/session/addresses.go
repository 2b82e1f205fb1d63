package session

import (
	"net"
	"net/netip"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/forward"
)

// addressesOf returns the addresses of a session. Each end has one that it believes to talk to: as a rule the
// gateway's own; the server's for the client of a transparent outbound; the client's for the server of a
// forward with source "client".
func addressesOf(f forward.Resolved, client conn.Accepted, server net.Conn) dialogue.Addresses {
	a := dialogue.Addresses{
		Client:    client.Client.Addr(),
		Gateway:   local(client),
		Outside:   local(server),
		Server:    conn.PeerAddr(server),
		Announced: announced(f, client),
	}
	if f.Transparent() {
		a.Gateway, a.OwnGateway = a.Server, a.Gateway
	}
	if f.Source == forward.SourceClient {
		a.Outside, a.OwnOutside = a.Client, a.Outside
	}
	return a
}

func local(c net.Conn) netip.Addr { return conn.AddrPort(c.LocalAddr()).Addr() }
