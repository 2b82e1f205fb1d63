package health

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"ftpgate/internal/core/forward"
)

// spacing is the time between the first checks of servers: a small gateway checks all at once, and a large
// one does not begin with a burst.
const spacing = 20 * time.Millisecond

// retry is the pause after a missed check.
const retry = 5 * time.Second

// target is one way to check a server. All forwards with the same way share the result.
type target struct {
	key      key
	forward  forward.Resolved // the first of them
	forwards []string
	history
}

// key tells targets apart.
type key struct {
	addresses string // in the order in which to try them, with the port
	tls       serverTLS
	mayWait   bool // for the client to begin, as servers of tracking none may
}

// serverTLS is the settings of the gateway's TLS with a server; zero: none.
type serverTLS struct {
	when             forward.ServerTLS
	host, serverName string // for the name in the certificate
	ca, cert, key    string // files
	insecure         bool
}

func keyOf(f forward.Resolved) key {
	k := key{addresses: fmt.Sprint(f.ServerAddrs(), f.Server.Port),
		mayWait: f.Tracking == forward.TrackingNone}
	if t := f.TLS; t.Server != forward.ServerTLSOff {
		k.tls = serverTLS{t.Server, f.Server.Host, t.ServerName, t.CA, t.ClientCert, t.ClientKey, t.Insecure}
	}
	return k
}

// server is a host and port with its targets, which are checked one after the other: a server may limit the
// connections of one address.
type server struct {
	at      netip.AddrPort
	targets []*target
	due     time.Time
}

// plan says which servers are checked, and when. It is pure: the caller has the clock.
type plan struct {
	every     time.Duration
	servers   map[netip.AddrPort]*server
	targets   map[key]*target
	byForward map[string]*target
	running   map[netip.AddrPort]bool // servers under check, also those removed from servers
	queue     []*server               // the others, by due
}

// newPlan returns the plan for these forwards, which continues before. It leaves out forwards whose server
// has no address.
func newPlan(before *plan, every time.Duration, forwards []forward.Resolved, now time.Time) *plan {
	p := &plan{every: every, servers: map[netip.AddrPort]*server{}, targets: map[key]*target{},
		byForward: map[string]*target{}, running: before.running}
	if every == 0 {
		return p
	}
	var fresh []*server
	for _, f := range forwards {
		addrs := f.ServerAddrs()
		if len(addrs) == 0 {
			continue
		}
		at := netip.AddrPortFrom(slices.MinFunc(addrs, netip.Addr.Compare), f.Server.Port)
		s := p.servers[at]
		if s == nil {
			s = &server{at: at}
			p.servers[at] = s
			if known := before.servers[at]; known == nil || before.every != every {
				fresh = append(fresh, s)
			} else {
				s.due = known.due
			}
		}
		k := keyOf(f)
		t := p.targets[k]
		if t == nil {
			t = &target{key: k, forward: f, history: before.historyOf(k, f)}
			p.targets[k] = t
			s.targets = append(s.targets, t)
		}
		t.forwards = append(t.forwards, f.Name)
		p.byForward[f.Name] = t
	}
	for i, s := range fresh {
		s.due = now.Add(time.Duration(i) * min(spacing, every/time.Duration(len(fresh))))
	}
	for _, s := range p.servers {
		if !p.running[s.at] {
			p.queue = append(p.queue, s)
		}
	}
	slices.SortFunc(p.queue, byDue)
	return p
}

func byDue(a, b *server) int { return cmp.Or(a.due.Compare(b.due), a.at.Compare(b.at)) }

// historyOf returns the history of a target, also if the name of the forward's server has another address
// now.
func (p *plan) historyOf(k key, f forward.Resolved) history {
	if t := p.targets[k]; t != nil {
		return t.history
	}
	if t := p.byForward[f.Name]; t != nil && t.forward.Server == f.Server && t.key.tls == k.tls {
		return t.history
	}
	return history{}
}

// next removes the server that is due from the queue, and notes that it is under check; nil: none is due.
func (p *plan) next(now time.Time) *server {
	if len(p.queue) == 0 || p.queue[0].due.After(now) {
		return nil
	}
	s := p.queue[0]
	p.queue = p.queue[1:]
	p.running[s.at] = true
	return s
}

// done returns a checked server to the queue, if it is still in the plan.
func (p *plan) done(at netip.AddrPort, now time.Time) {
	delete(p.running, at)
	s := p.servers[at]
	if s == nil {
		return
	}
	pause := p.every
	for _, t := range s.targets {
		if t.unconfirmed() {
			pause = min(p.every, retry)
		}
	}
	s.due = now.Add(pause)
	i, _ := slices.BinarySearchFunc(p.queue, s, byDue)
	p.queue = slices.Insert(p.queue, i, s)
}

// wait returns the time until a server is due; an hour if there is none.
func (p *plan) wait(now time.Time) time.Duration {
	if len(p.queue) == 0 {
		return time.Hour
	}
	return max(0, p.queue[0].due.Sub(now))
}
