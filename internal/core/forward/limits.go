package forward

import (
	"cmp"
	"net/netip"
	"time"
)

// The default limits of a forward.
const (
	DefaultDialTime      = 10 * time.Second // three SYNs: the server is down, not slow; also for data
	DefaultLoginTime     = 60 * time.Second // time to type a password
	DefaultIdleTime      = 10 * time.Minute // RFC 1123 section 4.1.3.2 asks for five or more
	DefaultSessions      = 20_000           // twice the ten thousand that half a gigabyte of memory carries
	DefaultPerClient     = 200              // an office behind one address; a mirror needs a dozen
	DefaultLoginFailures = 5                // RFC 2577 section 4: three to five
	DefaultIPv6Prefix    = 64               // a client with one address of a network has all of them
)

// HandshakeTime is how long a peer may take for a TLS handshake, on a data connection from its first byte on:
// two round trips and a signature by a slow device, with lost segments. A peer that sends slowly gets no
// more.
const HandshakeTime = 30 * time.Second

// Limits bound the sessions of a forward with tracking proxy. A zero stands for its default.
type Limits struct {
	Dial          time.Duration // until the server accepts the control connection
	Login         time.Duration // until the client has logged in
	Idle          time.Duration // without a command; the clock stands still during a transfer
	Sessions      int           // at once, of all clients
	PerClient     int           // at once, of one client
	IPv6Prefix    int           // how many bits of an IPv6 address make one client
	LoginFailures int           // of one session
}

// OrDefault returns the limits with the defaults in place of zeros.
func (l Limits) OrDefault() Limits {
	return Limits{
		Dial:          cmp.Or(l.Dial, DefaultDialTime),
		Login:         cmp.Or(l.Login, DefaultLoginTime),
		Idle:          cmp.Or(l.Idle, DefaultIdleTime),
		Sessions:      cmp.Or(l.Sessions, DefaultSessions),
		PerClient:     cmp.Or(l.PerClient, DefaultPerClient),
		IPv6Prefix:    cmp.Or(l.IPv6Prefix, DefaultIPv6Prefix),
		LoginFailures: cmp.Or(l.LoginFailures, DefaultLoginFailures),
	}
}

// ClientOf returns the client that an address counts as under these limits.
func (l Limits) ClientOf(addr netip.Addr) netip.Prefix {
	return ClientNetwork(addr, l.OrDefault().IPv6Prefix)
}

// ClientNetwork returns the client that an address counts as: an IPv4 address itself, of IPv6 its network of
// so many bits.
func ClientNetwork(addr netip.Addr, ipv6Bits int) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = min(bits, ipv6Bits)
	}
	network, _ := addr.Prefix(bits) // fails for more bits than there are
	return network
}
