package forward

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"iter"
	mathrand "math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// DataPath is what carries the data connections of a forward with tracking proxy.
type DataPath uint8

const (
	// DataAuto takes the kernel where it can carry a connection, and the relay else.
	DataAuto DataPath = iota
	// DataKernel has nftables translate data connections, and refuses those that it cannot.
	DataKernel
	// DataRelay has ftpgate accept data connections and splice them. It needs no privilege.
	DataRelay
)

var dataPathNames = []string{DataAuto: "auto", DataKernel: "kernel", DataRelay: "relay"}

// String returns the word that ParseDataPath reads.
func (p DataPath) String() string { return enumWord(dataPathNames, p, "DataPath") }

// ParseDataPath reads "auto", "kernel" or "relay".
func ParseDataPath(s string) (DataPath, error) { return parseEnum[DataPath](dataPathNames, s, "data") }

// ServerMode is how a server with tracking proxy is asked for data connections.
type ServerMode uint8

const (
	// ServerModeClient asks in the way the client has chosen: PASV for passive, PORT for active.
	ServerModeClient ServerMode = iota
	// ServerModePassive always asks for passive, for a server that cannot connect to the gateway. The
	// relay joins an active client with it.
	ServerModePassive
)

var serverModeNames = []string{ServerModeClient: "client", ServerModePassive: "passive"}

// String returns the word that ParseServerMode reads.
func (m ServerMode) String() string { return enumWord(serverModeNames, m, "ServerMode") }

// ParseServerMode reads "client" or "passive".
func ParseServerMode(s string) (ServerMode, error) {
	return parseEnum[ServerMode](serverModeNames, s, "server_mode")
}

// enumWord returns the word for a value, and its type and number where there is none.
func enumWord[T ~uint8](words []string, v T, typ string) string {
	if int(v) < len(words) {
		return words[v]
	}
	return fmt.Sprintf("%s(%d)", typ, v)
}

func parseEnum[T ~uint8](words []string, s, what string) (T, error) {
	if i := slices.Index(words, s); i >= 0 {
		return T(i), nil
	}
	last := len(words) - 1
	return 0, fmt.Errorf("unknown %s %q: want %s or %s", what, s, strings.Join(words[:last], ", "), words[last])
}

// Advertise is what a 227 names instead of the gateway's own address, where the gateway is itself
// behind a translation that its clients have to pass.
type Advertise struct {
	Clients netip.Prefix // whom it is told; not valid: all that no other one is for
	Host    string       // an IPv4 address, or a name that has one: a 227 has no room for IPv6
}

// ParseAdvertise reads "ADDR" or "PREFIX=ADDR"; ADDR may be a name.
func ParseAdvertise(s string) (Advertise, error) {
	var a Advertise
	host := s
	if prefix, rest, cut := strings.Cut(s, "="); cut {
		p, err := ParseClient(prefix)
		if err != nil {
			return Advertise{}, fmt.Errorf("advertise %q: %w", s, err)
		}
		if p.Addr().Is6() {
			return Advertise{}, fmt.Errorf("advertise %q: clients with IPv6 are never told an address", s)
		}
		a.Clients, host = p, rest
	}
	a.Host = host
	addr, err := netip.ParseAddr(host)
	switch {
	case err == nil && !addr.Unmap().Is4():
		return Advertise{}, fmt.Errorf("advertise %q: a 227 has no room for an IPv6 address, and EPSV names none", s)
	case err == nil && (addr.IsUnspecified() || addr.IsMulticast()):
		return Advertise{}, fmt.Errorf("advertise %q: %s is no gateway's address", s, addr)
	case err == nil:
		a.Host = addr.Unmap().String()
	case !isHostName(host):
		return Advertise{}, fmt.Errorf("advertise %q: want ADDR or PREFIX=ADDR, like 198.51.100.7 or 10.0.0.0/8=10.0.0.1", s)
	}
	return a, nil
}

// String returns what ParseAdvertise reads.
func (a Advertise) String() string {
	if !a.Clients.IsValid() {
		return a.Host
	}
	return a.Clients.String() + "=" + a.Host
}

// Advertised is an Advertise with the address of the moment.
type Advertised struct {
	Clients netip.Prefix // as in Advertise
	Addr    netip.Addr   // IPv4; not valid where the name has none at the moment
}

// AdvertisedTo returns what a client is to be told: of those meant for it the one with the longest
// prefix. It is not valid where the gateway's own address is to be told.
func (r Resolved) AdvertisedTo(client netip.Addr) netip.Addr {
	var addr netip.Addr
	if !client.Is4() { // it is told no address
		return addr
	}
	longest := -2
	for _, a := range r.Advertised {
		bits := -1
		if a.Clients.IsValid() {
			if bits = a.Clients.Bits(); !a.Clients.Contains(client) {
				continue
			}
		}
		if bits > longest {
			addr, longest = a.Addr, bits
		}
	}
	return addr
}

// Limits bound the sessions of a forward with tracking proxy. A zero stands for its default.
type Limits struct {
	Dial          time.Duration // until the server takes the control connection
	Login         time.Duration // until the client has logged in
	Idle          time.Duration // without a command; it never runs while a transfer does
	Sessions      int           // at once, of all clients
	PerClient     int           // at once, of one client address
	LoginFailures int           // of one session
}

// DefaultLimits returns the limits that hold where none are given, each with its reason.
func DefaultLimits() Limits {
	return Limits{
		Dial:          10 * time.Second, // three SYNs: the server is down, not slow
		Login:         60 * time.Second, // time to type a password
		Idle:          10 * time.Minute, // RFC 1123 section 4.1.3.2 asks for five at least; servers have five to fifteen
		Sessions:      20_000,           // twice the ten thousand that half a gigabyte of memory carries
		PerClient:     200,              // an office behind one address; a mirror needs a dozen
		LoginFailures: 5,                // RFC 2577 section 4: three to five
	}
}

// OrDefault returns the limits with the defaults in place of zeros.
func (l Limits) OrDefault() Limits {
	d := DefaultLimits()
	return Limits{
		Dial:          cmp.Or(l.Dial, d.Dial),
		Login:         cmp.Or(l.Login, d.Login),
		Idle:          cmp.Or(l.Idle, d.Idle),
		Sessions:      cmp.Or(l.Sessions, d.Sessions),
		PerClient:     cmp.Or(l.PerClient, d.PerClient),
		LoginFailures: cmp.Or(l.LoginFailures, d.LoginFailures),
	}
}

// DefaultPassivePorts is IANA's range for private use (RFC 6335 section 6).
var DefaultPassivePorts = PortRange{49152, 65535}

// NeedsKernel tells whether the forward cannot be served without the kernel's tables.
func (f Forward) NeedsKernel() bool { return f.Tracking != TrackingProxy || f.Data == DataKernel }

// MayUseKernel tells whether the kernel's tables serve the forward where they can be had.
func (f Forward) MayUseKernel() bool { return f.Tracking != TrackingProxy || f.Data != DataRelay }

// DataPorts returns the range of the gateway's ports that the forward's data connections use.
func (f Forward) DataPorts() PortRange {
	if f.PassivePorts.IsEmpty() {
		return DefaultPassivePorts
	}
	return f.PassivePorts
}

// LowestDataPort is the lowest port that a data connection may go to: below are the ports of
// services (RFC 2577 section 3).
const LowestDataPort = 1024

// Shuffled yields every port of r once, in an order that nobody can foretell: a third party must not
// guess the port of a data connection (RFC 2577 section 5). It is the shuffle of Fisher and Yates,
// of which only what is asked for is made: the first port costs the same for a range of any size.
func (r PortRange) Shuffled() iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		first := int(max(r.First, 1)) // port 0 is no port
		draw := mathrand.New(cryptoSource{})
		moved := map[int]int{} // what stands at an index, where it is not the index itself
		at := func(i int) int {
			if v, ok := moved[i]; ok {
				return v
			}
			return i
		}
		for left := int(r.Last) - first + 1; left > 0; left-- {
			i := draw.IntN(left)
			port := at(i)
			moved[i] = at(left - 1)
			if !yield(uint16(first + port)) {
				return
			}
		}
	}
}

// cryptoSource is a source of random numbers from crypto/rand.
type cryptoSource struct{}

// Uint64 returns 64 bits of crypto/rand, which never fails.
func (cryptoSource) Uint64() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.NativeEndian.Uint64(b[:])
}
