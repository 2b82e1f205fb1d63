// Package pinhole describes the permission for data connections: a pinhole for exactly one of them, a bridge
// that the gateway connects to both ends, and a passthrough for a session that the gateway does not read. It
// also describes the outcome of a data connection.
//
// It is pure: it opens nothing.
package pinhole

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"ftpgate/internal/core/forward"
)

// Lifetime is how long a pinhole waits for its connection while no transfer command waits for it: a client
// connects at once, or after a few lost SYNs (sent again after 1, 3, 7 and 15 seconds), or never. During a
// transfer command it stays open until the transfer ends: some ends connect only a minute later (z/OS, which
// first recalls a data set from tape).
const Lifetime = 30 * time.Second

// FirstPackets is how many first packets of connections a pinhole of the kernel's accepts. An attacker can
// forge the source address of one, so a single one must not exhaust the pinhole. The connection that
// completes closes it.
const FirstPackets = 4

// Pinhole is the permission for exactly one data connection: which peer can connect, to which port of the
// gateway, and the target of the connection. In passive mode the client connects and the target is the
// server; in active mode the server connects and the target is the client.
type Pinhole struct {
	From     netip.Addr     // the peer that can connect
	Listen   netip.AddrPort // the address and port that it dials; port 0 until one is drawn
	Target   netip.AddrPort // the far end
	SourceIP netip.Addr     // the address that the target sees, as on the control connection

	// The gateway's own addresses in place of Listen's and of SourceIP, where these are the other end's: an
	// end believes to talk to that one, and the kernel leads its packets here. Not valid: they are own ones.
	OwnListen, OwnSource netip.Addr

	// Active: the server connects, and may do so before it accepts PORT. Such a connection waits for Arm,
	// because some servers accept PORT only if they can connect (pyftpdlib).
	Active bool

	// Balanced: the peer may connect through a balancer of the forward, whose header then names From.
	Balanced bool
	// ProxyProtocol is the version of the header that the target gets first.
	ProxyProtocol forward.ProxyProtocol

	TLS TLSLegs // the legs on which the gateway speaks TLS
}

// String returns "FROM > LISTEN > SOURCE > TARGET".
func (p Pinhole) String() string {
	return fmt.Sprintf("%s > %s > %s > %s", p.From, p.Listen, p.SourceIP, p.Target)
}

// OneFamily reports whether every address of the pinhole is of the same version of IP, so that the kernel can
// translate the connection.
func (p Pinhole) OneFamily() bool {
	return oneFamily(p.From, p.Listen.Addr(), p.Target.Addr(), p.SourceIP)
}

// Unmap returns the pinhole with IPv4-mapped addresses converted to IPv4.
func (p Pinhole) Unmap() Pinhole {
	p.From, p.SourceIP = p.From.Unmap(), p.SourceIP.Unmap()
	p.OwnListen, p.OwnSource = p.OwnListen.Unmap(), p.OwnSource.Unmap()
	p.Listen = netip.AddrPortFrom(p.Listen.Addr().Unmap(), p.Listen.Port())
	p.Target = netip.AddrPortFrom(p.Target.Addr().Unmap(), p.Target.Port())
	return p
}

// Accept is where the gateway itself would accept the connection: at Listen, or at its own address.
func (p Pinhole) Accept() netip.AddrPort {
	if p.OwnListen.IsValid() {
		return netip.AddrPortFrom(p.OwnListen, p.Listen.Port())
	}
	return p.Listen
}

// Validate returns an error for a pinhole that is not exact: one for every peer, or at all addresses.
func (p Pinhole) Validate() error {
	switch at := p.Listen.Addr(); {
	case !p.From.IsValid() || p.From.IsUnspecified():
		return errors.New("missing the address that connects")
	case !at.IsValid() || at.IsUnspecified():
		return errors.New("missing the gateway's address")
	case at.Is4() != p.From.Is4() && !p.Balanced:
		return errors.New("the client's address and the gateway's address differ in address family")
	}
	return validateTarget(p.Target)
}

// Leg is one end that the gateway connects to.
type Leg struct {
	SourceIP netip.Addr     // the address that the end sees; not valid: the kernel's choice
	Own      netip.Addr     // the gateway's own address, if SourceIP is the other end's; not valid: it is not
	Target   netip.AddrPort // where the end listens
}

// Bridge is a data connection whose two ends both listen: an active client and a passive server.
type Bridge struct {
	Client, Server Leg
	TLS            TLSLegs // the legs on which the gateway speaks TLS
	// ProxyProtocol is the version of the header that the server gets first.
	ProxyProtocol forward.ProxyProtocol
}

// Validate returns an error if an end is not a usable target.
func (b Bridge) Validate() error {
	if err := validateTarget(b.Client.Target); err != nil {
		return err
	}
	return validateTarget(b.Server.Target)
}

// TLSLegs says on which legs of a data connection the gateway speaks TLS.
type TLSLegs struct{ Client, Server bool }

// Any reports whether a leg has TLS, so that the kernel cannot carry the connection.
func (l TLSLegs) Any() bool { return l.Client || l.Server }

// validateTarget returns an error for an address and port that nothing can listen at.
func validateTarget(to netip.AddrPort) error {
	if !to.IsValid() || to.Addr().IsUnspecified() || to.Port() == 0 {
		return fmt.Errorf("%s is not a usable target", to)
	}
	return nil
}

// oneFamily reports whether addresses are all IPv4 or all IPv6.
func oneFamily(addrs ...netip.Addr) bool {
	for _, a := range addrs {
		if !a.IsValid() || a.Is4() != addrs[0].Is4() {
			return false
		}
	}
	return true
}
