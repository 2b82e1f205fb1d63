package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

// Resolver resolves names. *net.Resolver implements it.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

const (
	// lookupTime bounds the lookup of one name: twice a resolver's wait for one of its servers.
	lookupTime = 10 * time.Second
	// lookupsTime bounds the lookup of all names together: with a thousand names and a resolver that is down,
	// a start must not take minutes.
	lookupsTime = 30 * time.Second
	// lookupsAtOnce keeps ten thousand names from reaching the resolver in one burst.
	lookupsAtOnce = 32
)

// Resolve returns the forwards with their server and advertised addresses. A name that still has the address
// in use keeps it, so that a name with several addresses does not alternate. For a server without an address
// Resolve returns the forward without one, and a fault. An advertised name without an address is a warning.
func (g *Gateway) Resolve(
	ctx context.Context, forwards []forward.Forward,
) ([]forward.Resolved, []finding.Finding) {
	l := g.lookUp(ctx, forwards)
	resolved := make([]forward.Resolved, len(forwards))
	var findings []finding.Finding
	for i, f := range forwards {
		r, wrong := l.server(f)
		findings = append(findings, wrong...)
		r.Advertised, wrong = l.advertised(f)
		findings = append(findings, wrong...)
		resolved[i] = r
	}
	return resolved, findings
}

// Tolerate turns the faults of names that do not resolve into warnings if any forward has a server: one wrong
// name must not keep the others from serving.
func Tolerate(forwards []forward.Resolved, unresolved []finding.Finding) []finding.Finding {
	if !slices.ContainsFunc(forwards, forward.Resolved.HasServer) {
		return unresolved
	}
	tolerated := slices.Clone(unresolved)
	for i := range tolerated {
		tolerated[i].Severity = finding.Warning
	}
	return tolerated
}

// lookups holds the resolver's answers and the addresses in use before, by host.
type lookups struct {
	inUse  map[string][]netip.Addr
	addrs  map[string][]netip.Addr
	failed map[string]error
}

// of returns the addresses of a host, those in use first, or those in use and an error if its lookup failed.
func (l *lookups) of(host string) ([]netip.Addr, error) {
	if err := l.failed[host]; err != nil {
		return l.inUse[host], err
	}
	return keepOrder(l.inUse[host], l.addrs[host]), nil
}

// server returns a forward with the addresses of its server, and findings about them.
func (l *lookups) server(f forward.Forward) (r forward.Resolved, findings []finding.Finding) {
	r.Forward = f
	if f.Outbound != nil {
		r.Reach.Allowed, findings = l.reached(f, f.Outbound.Servers)
		var wrong []finding.Finding
		r.Reach.Denied, wrong = l.reached(f, f.Outbound.Denied)
		return r, append(findings, wrong...)
	}
	addrs, err := l.of(f.Server.Host)
	if err != nil {
		findings = append(findings, unresolved(f, "server", f.Server.Host, err))
	}
	reachable := slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return !f.CanReach(a) })
	r.Server4, r.Server6 = firstOf(reachable, netip.Addr.Is4), firstOf(reachable, netip.Addr.Is6)
	if f.Tracking == forward.TrackingProxy {
		r.Servers = reachable
	}
	if err == nil && !r.HasServer() {
		findings = append(findings, wrongFamily(f, addrs))
	}
	return r, findings
}

// reached returns destinations of an outbound with their addresses, and findings about their names.
func (l *lookups) reached(f forward.Forward, of []forward.Destination) (all []forward.Reached,
	findings []finding.Finding) {
	for _, d := range of {
		var addrs []netip.Addr
		if !d.Prefix.IsValid() {
			var err error
			if addrs, err = l.of(d.Host); err != nil {
				w := unresolved(f, "server", d.Host, err)
				w.Severity = finding.Warning
				findings = append(findings, w)
			}
		}
		all = append(all, forward.Reached{Destination: d, Addrs: addrs})
	}
	return all, findings
}

// advertised returns the addresses that a forward advertises, and findings about them.
func (l *lookups) advertised(f forward.Forward) (all []forward.Advertised, findings []finding.Finding) {
	for _, a := range f.Advertise {
		addrs, err := l.of(a.Host)
		addr := firstOf(addrs, netip.Addr.Is4)
		all = append(all, forward.Advertised{Clients: a.Clients, Addr: addr})
		if err == nil && !addr.IsValid() {
			err = errors.New("it has no IPv4 address")
		}
		if err != nil {
			w := unresolved(f, "advertised", a.Host, err)
			w.Severity = finding.Warning
			findings = append(findings, w)
		}
	}
	return all, findings
}

// addressesInUse returns the published addresses by host. Two forwards to one server may each have only the
// addresses of their own family.
func (g *Gateway) addressesInUse() map[string][]netip.Addr {
	forwards, _ := g.published()
	inUse := make(map[string][]netip.Addr, len(forwards))
	add := func(host string, addrs ...netip.Addr) {
		for _, a := range addrs {
			if a.IsValid() && !slices.Contains(inUse[host], a) {
				inUse[host] = append(inUse[host], a)
			}
		}
	}
	for _, f := range forwards {
		add(f.Server.Host, f.Servers...) // in their order
		add(f.Server.Host, f.Server4, f.Server6)
		for _, d := range slices.Concat(f.Reach.Allowed, f.Reach.Denied) {
			add(d.Host, d.Addrs...)
		}
		for i, a := range f.Advertised {
			add(f.Advertise[i].Host, a.Addr)
		}
	}
	return inUse
}

// keepOrder puts the addresses in use before new ones, and leaves out those that the resolver no longer
// returns. Resolvers change the order with each answer.
func keepOrder(inUse, found []netip.Addr) []netip.Addr {
	gone := func(a netip.Addr) bool { return !slices.Contains(found, a) }
	kept := slices.DeleteFunc(slices.Clone(inUse), gone)
	for _, a := range found {
		if !slices.Contains(kept, a) {
			kept = append(kept, a)
		}
	}
	return kept
}

// firstOf returns the first address of a family, or the invalid address if there is none.
func firstOf(addrs []netip.Addr, family func(netip.Addr) bool) netip.Addr {
	if i := slices.IndexFunc(addrs, family); i >= 0 {
		return addrs[i]
	}
	return netip.Addr{}
}

// lookUp resolves each host of the forwards once.
func (g *Gateway) lookUp(ctx context.Context, forwards []forward.Forward) *lookups {
	ctx, cancel := context.WithTimeout(ctx, lookupsTime)
	defer cancel()
	l := &lookups{addrs: map[string][]netip.Addr{}, failed: map[string]error{}}
	var mu sync.Mutex // guards l
	var group errgroup.Group
	group.SetLimit(lookupsAtOnce)
	for _, host := range hosts(forwards) {
		if addr, err := netip.ParseAddr(host); err == nil {
			mu.Lock()
			l.addrs[host] = []netip.Addr{addr}
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
			// An address that is valid on one link only cannot be translated to.
			found = slices.DeleteFunc(found, func(a netip.Addr) bool { return a.Zone() != "" })
			mu.Lock()
			defer mu.Unlock()
			l.addrs[host] = found
			if err != nil {
				l.failed[host] = err
			}
			return nil
		})
	}
	_ = group.Wait() // its functions return no error
	l.inUse = g.addressesInUse()
	return l
}

// hosts returns each host name and address in the forwards once.
func hosts(forwards []forward.Forward) []string {
	var all []string
	for _, f := range forwards {
		if f.Outbound == nil {
			all = append(all, f.Server.Host)
		} else {
			for _, d := range slices.Concat(f.Outbound.Servers, f.Outbound.Denied) {
				if !d.Prefix.IsValid() {
					all = append(all, d.Host)
				}
			}
		}
		for _, a := range f.Advertise {
			all = append(all, a.Host)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// unresolved returns the finding for a name without an address; what is "server" or "advertised".
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
		Remedy:  "fix the name or the resolver (getent hosts " + host + "), or give " + instead,
	}
}

// wrongFamily returns the finding for a server none of whose addresses suits the listen address.
func wrongFamily(f forward.Forward, addrs []netip.Addr) finding.Finding {
	if len(addrs) == 0 {
		return unresolved(f, "server", f.Server.Host, errors.New("it has no address that can be routed"))
	}
	family, other := "IPv4", "an IPv6 address or :"+fmt.Sprint(f.Listen.Port)
	if f.Listen.Addr.Is6() {
		family, other = "IPv6", "an IPv4 address or :"+fmt.Sprint(f.Listen.Port)
	}
	return finding.Finding{
		Forward: f.Name,
		Text: fmt.Sprintf("server %q has no %s address (it has %s), and listen %s is %s",
			f.Server.Host, family, finding.Join(addrs, ", "), f.Listen, family),
		Remedy: "listen on " + other,
	}
}
