package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

// Resolver looks names up; *net.Resolver does.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

const (
	// lookupTime bounds the look-up of one name: twice what a resolver waits for one of its servers.
	lookupTime = 10 * time.Second
	// lookupsTime bounds the look-up of all names together: with a resolver that is down, a start
	// with a thousand names must not take minutes.
	lookupsTime = 30 * time.Second
	// lookupsAtOnce keeps ten thousand names from reaching the resolver in one burst.
	lookupsAtOnce = 32
)

// Resolve finds the addresses that forwards lead to and advertise. A server whose addresses are known
// already keeps the one that it has for as long as its name leads there, so that a name with
// several addresses does not wander. Faults name the forwards whose server has no address to lead
// to; those come back without one. An advertised name that has no address is a warning.
func (g *Gateway) Resolve(ctx context.Context, forwards []forward.Forward) ([]forward.Resolved, []finding.Finding) {
	addrs, failures := g.lookup(ctx, forwards)
	before := g.known()
	resolved := make([]forward.Resolved, len(forwards))
	var findings []finding.Finding
	for i, f := range forwards {
		r := forward.Resolved{Forward: f}
		known := before[f.Server.Host]
		err := failures[f.Server.Host]
		if err == nil {
			known = keepOrder(known, addrs[f.Server.Host])
		} else {
			findings = append(findings, unresolved(f, "server", f.Server.Host, err))
		}
		reachable := slices.DeleteFunc(slices.Clone(known), func(a netip.Addr) bool { return !f.CanReach(a) })
		r.Server4, r.Server6 = firstOf(reachable, netip.Addr.Is4), firstOf(reachable, netip.Addr.Is6)
		if f.Tracking == forward.TrackingProxy {
			r.Servers = reachable
		}
		if err == nil && !r.HasServer() {
			findings = append(findings, wrongFamily(f, known))
		}
		for _, a := range f.Advertise {
			known, err := before[a.Host], failures[a.Host]
			if err == nil {
				known = keepOrder(known, addrs[a.Host])
			}
			addr := firstOf(known, netip.Addr.Is4)
			r.Advertised = append(r.Advertised, forward.Advertised{Clients: a.Clients, Addr: addr})
			if err == nil && !addr.IsValid() {
				err = errors.New("it has no IPv4 address")
			}
			if err != nil {
				w := unresolved(f, "advertised", a.Host, err)
				w.Severity = finding.Warning
				findings = append(findings, w)
			}
		}
		resolved[i] = r
	}
	return resolved, findings
}

// known returns the addresses in use by host. Forwards to one server may each have only those of
// their own family.
func (g *Gateway) known() map[string][]netip.Addr {
	g.mu.Lock()
	defer g.mu.Unlock()
	known := make(map[string][]netip.Addr, len(g.forwards))
	add := func(host string, addrs ...netip.Addr) {
		for _, a := range addrs {
			if a.IsValid() && !slices.Contains(known[host], a) {
				known[host] = append(known[host], a)
			}
		}
	}
	for _, f := range g.forwards {
		add(f.Server.Host, f.Servers...) // in their order
		add(f.Server.Host, f.Server4, f.Server6)
		for i, a := range f.Advertised {
			add(f.Advertise[i].Host, a.Addr)
		}
	}
	return known
}

// keepOrder puts the addresses that are in use before those that are new; those that are gone are
// left out. Resolvers answer in another order each time.
func keepOrder(inUse, found []netip.Addr) []netip.Addr {
	kept := slices.DeleteFunc(slices.Clone(inUse), func(a netip.Addr) bool { return !slices.Contains(found, a) })
	for _, a := range found {
		if !slices.Contains(kept, a) {
			kept = append(kept, a)
		}
	}
	return kept
}

// firstOf returns the first address of a family, and one that is not valid where there is none.
func firstOf(addrs []netip.Addr, family func(netip.Addr) bool) netip.Addr {
	if i := slices.IndexFunc(addrs, family); i >= 0 {
		return addrs[i]
	}
	return netip.Addr{}
}

func published(f forward.Resolved) bool { return f.Server4.IsValid() || f.Server6.IsValid() }

// lookup resolves each host once.
func (g *Gateway) lookup(ctx context.Context, forwards []forward.Forward) (map[string][]netip.Addr, map[string]error) {
	ctx, cancel := context.WithTimeout(ctx, lookupsTime)
	defer cancel()
	addrs, failures := map[string][]netip.Addr{}, map[string]error{}
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(lookupsAtOnce)
	for _, host := range hosts(forwards) {
		if addr, err := netip.ParseAddr(host); err == nil {
			mu.Lock()
			addrs[host] = []netip.Addr{addr}
			mu.Unlock()
			continue
		}
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, lookupTime)
			defer cancel()
			found, err := g.resolver.LookupNetIP(ctx, "ip", host)
			for i := range found {
				found[i] = found[i].Unmap()
			}
			// What is of use on one link only cannot be translated to.
			found = slices.DeleteFunc(found, func(a netip.Addr) bool { return a.Zone() != "" })
			mu.Lock()
			defer mu.Unlock()
			addrs[host] = found
			if err != nil {
				failures[host] = err
			}
			return nil
		})
	}
	_ = group.Wait() // its functions return no error
	return addrs, failures
}

// hosts returns each name and address of the forwards once.
func hosts(forwards []forward.Forward) []string {
	seen := map[string]bool{}
	var all []string
	add := func(host string) {
		if !seen[host] {
			seen[host] = true
			all = append(all, host)
		}
	}
	for _, f := range forwards {
		add(f.Server.Host)
		for _, a := range f.Advertise {
			add(a.Host)
		}
	}
	return all
}

// addrsText lists the server's addresses.
func addrsText(f forward.Resolved) string {
	if addrs := f.ServerAddrs(); len(addrs) > 0 {
		return join(addrs, " ")
	}
	return "none"
}

// advertisedText lists the advertised addresses.
func advertisedText(f forward.Resolved) string {
	addrs := make([]netip.Addr, len(f.Advertised))
	for i, a := range f.Advertised {
		addrs[i] = a.Addr
	}
	return join(addrs, " ")
}

func join(addrs []netip.Addr, separator string) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, separator)
}

// unresolved says that a name has no address; what is "server" or "advertised".
func unresolved(f forward.Forward, what, host string, err error) finding.Finding {
	why := err.Error()
	if errors.Is(err, context.DeadlineExceeded) {
		why = fmt.Sprintf("no answer within %s", lookupTime)
	}
	instead := "the server's address"
	if what != "server" {
		instead = "an address"
	}
	return finding.Finding{
		Forward: f.Name,
		Text:    fmt.Sprintf("%s name %q cannot be resolved: %s", what, host, why),
		Remedy:  "mend the name or the resolver (getent hosts " + host + "), or give " + instead,
	}
}

func wrongFamily(f forward.Forward, known []netip.Addr) finding.Finding {
	if len(known) == 0 {
		return unresolved(f, "server", f.Server.Host, errors.New("it has no address that can be routed"))
	}
	family, other := "IPv4", "an IPv6 address or :"+fmt.Sprint(f.Listen.Port)
	if f.Listen.Addr.Is6() {
		family, other = "IPv6", "an IPv4 address or :"+fmt.Sprint(f.Listen.Port)
	}
	return finding.Finding{
		Forward: f.Name,
		Text:    fmt.Sprintf("server %q has no %s address (it has %s), and listen %s is %s", f.Server.Host, family, join(known, ", "), f.Listen, family),
		Remedy:  "listen on " + other,
	}
}
