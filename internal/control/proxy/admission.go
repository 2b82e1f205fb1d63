package proxy

import (
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/control/refusal"
	"ftpgate/internal/control/session"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/observe/sessions"
)

// maxRejecting is how many clients at once get the time to read why they were rejected.
const maxRejecting = 256

// admit counts a client, or returns why it is rejected.
func (p *Proxy) admit(from netip.Addr, f forward.Resolved) (kind verdict.RefusalKind, reason string) {
	if p.Banned != nil && p.Banned(from) {
		return verdict.RefusedBanned, session.Banned
	}
	allowed := func(c netip.Prefix) bool { return c.Contains(from) }
	if len(f.Clients) > 0 && !slices.ContainsFunc(f.Clients, allowed) {
		return verdict.RefusedClient, "this address may not use this gateway"
	}
	limits, client := f.Limits.OrDefault(), f.Limits.ClientOf(from)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.draining != nil:
		return verdict.RefusedDrain, session.DrainRefusal(p.draining).Reason
	case p.sessions >= limits.Sessions:
		return verdict.RefusedLimit, "too many sessions, try again later"
	case p.clients[client] >= limits.PerClient:
		return verdict.RefusedLimit, "too many sessions from your address"
	}
	p.sessions++
	p.clients[client]++
	return verdict.NotRefused, ""
}

// leave takes back the count of admit.
func (p *Proxy) leave(client netip.Prefix) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.clients[client]--; p.clients[client] == 0 {
		delete(p.clients, client)
	}
	if p.sessions--; p.sessions == 0 {
		p.wake()
	}
}

// track adds a session to the timeout watch.
func (p *Proxy) track(s *session.Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running[s] = struct{}{}
	shortest := s.ShortestLimit()
	if len(p.running) == 1 || p.draining != nil || shortest < p.shortest {
		p.shortest = shortest
		p.wake()
	}
}

// untrack removes a session from the timeout watch.
func (p *Proxy) untrack(s *session.Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.running, s)
}

// wake makes the watch check the timeouts now. It never waits.
func (p *Proxy) wake() {
	select {
	case p.wakeup <- struct{}{}:
	default:
	}
}

// reject sends a client the reason, and closes its connection. Only maxRejecting clients get the time to read
// it: a flood of clients does not read it.
func (p *Proxy) reject(f forward.Resolved, client conn.Accepted, record *sessions.Record, r refusal.Refusal) {
	r.Peer, r.Fatal = client.Client.Addr(), true
	p.env.Reporter.Report(record, r, func() []slog.Attr {
		who := []slog.Attr{slog.String("forward", f.Name), slog.String("session", record.ID()),
			slog.String("client", client.Client.String())}
		if client.Balancer.IsValid() {
			who = append(who, slog.String("balancer", client.Balancer.String()))
		}
		if r.Err != nil {
			who = append(who, slog.String("server", f.Server.String()))
		}
		return who
	})
	record.Ended(r.Goodbye())
	_ = client.SetWriteDeadline(time.Now().Add(conn.LingerTime))
	if !f.TLS.Implicit { // such a client would take it for TLS
		_, _ = client.Write([]byte(r.Goodbye() + "\r\n"))
	}
	p.mu.Lock()
	linger := p.rejecting < maxRejecting
	if linger {
		p.rejecting++
	}
	p.mu.Unlock()
	if !linger {
		client.Close()
		return
	}
	client.Control().HangUp()
	p.mu.Lock()
	p.rejecting--
	p.mu.Unlock()
}
