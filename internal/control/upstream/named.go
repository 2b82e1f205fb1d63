package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
)

// LookupFunc resolves a name. It is net.Resolver's LookupNetIP.
type LookupFunc func(ctx context.Context, network, host string) ([]netip.Addr, error)

// maxNamed is how many addresses of a name are tried.
const maxNamed = 16

// DialNamed connects to a server that a client named, if the outbound admits it, within the forward's time
// limit. A name is resolved once, and only addresses that were checked are dialled. client is the connection
// that it came from. A nil lookup is the system's resolver, a nil dial is DialTCP. The error is an *Error.
func DialNamed(ctx context.Context, dial DialFunc, lookup LookupFunc, f forward.Resolved, to forward.Server,
	client conn.Accepted) (*net.TCPConn, forward.Resolved, error) {
	ctx, cancel := context.WithTimeout(ctx, f.Limits.OrDefault().Dial)
	defer cancel()
	if why := f.AdmitsPort(to.Port); why != "" {
		return nil, f, refusedServer(to, verdict.CodeServerNotAllowed, "this port is not allowed",
			errors.New(why))
	}
	addrs, err := resolve(ctx, lookup, to.Host)
	if err != nil {
		return nil, f, refusedServer(to, verdict.CodeServerUnknown, "the server's name has no address", err)
	}
	near, err := nearby(client)
	if err != nil {
		return nil, f, refusedServer(to, verdict.CodeServerNotAllowed, "this server is not allowed", err)
	}
	f.Server, f.Server4, f.Server6, f.Servers = to, netip.Addr{}, netip.Addr{}, nil
	var refused error
	for _, a := range addrs {
		a = a.Unmap()
		if why := f.Admits(to, a, near); why != "" {
			refused = errors.Join(refused, fmt.Errorf("%s: %s", a, why))
		} else if len(f.Servers) < maxNamed {
			f.Servers = append(f.Servers, a)
		}
	}
	if len(f.Servers) == 0 {
		return nil, f, refusedServer(to, verdict.CodeServerNotAllowed, "this server is not allowed", refused)
	}
	tcp, err := Dial(ctx, dial, f, client.Client.Addr(), client.Header())
	if err != nil {
		return nil, f, &Error{Err: fmt.Errorf("%s: %w", to, err), Refusal: verdict.Refusal{
			Kind: verdict.RefusedUnreachable, Code: verdict.CodeServerUnreachable,
			Reason: "cannot reach the server"}}
	}
	return tcp, f, nil
}

func refusedServer(to forward.Server, code verdict.Code, reason string, cause error) *Error {
	return &Error{Err: fmt.Errorf("%s: %w", to, cause),
		Refusal: verdict.Refusal{Kind: verdict.RefusedServer, Code: code, Reason: reason}}
}

// resolve returns the addresses of a name, or the address itself.
func resolve(ctx context.Context, lookup LookupFunc, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, nil
	}
	if lookup == nil {
		lookup = net.DefaultResolver.LookupNetIP
	}
	addrs, err := lookup(ctx, "ip", host)
	if err == nil && len(addrs) == 0 {
		err = errors.New("no address")
	}
	return addrs, err
}

// nearby returns the gateway's addresses, and the networks of the interface that a client came in at.
func nearby(client net.Conn) (near forward.Nearby, err error) {
	at := conn.AddrPort(client.LocalAddr()).Addr()
	near.Own = append(near.Own, at)
	all, err := net.Interfaces()
	if err != nil {
		return near, fmt.Errorf("the gateway's addresses: %w", err)
	}
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			return near, fmt.Errorf("the gateway's addresses: %w", err)
		}
		var networks []netip.Prefix
		clients := false
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			addr, _ := netip.AddrFromSlice(n.IP)
			bits, _ := n.Mask.Size()
			addr = addr.Unmap()
			near.Own = append(near.Own, addr)
			if network, err := addr.Prefix(bits); err == nil {
				networks = append(networks, network)
			}
			clients = clients || addr == at
		}
		if clients {
			near.Inside = append(near.Inside, networks...)
		}
	}
	return near, nil
}
