package port

import (
	"net/netip"
	"slices"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/dataplane/socket"
	"ftpgate/internal/proxyprotocol"
)

// maxHeaders is how many connections of a port may wait for their header. A balancer sends it at once.
const maxHeaders = 64

// Header returns the header that names the peer; nil without a version.
func (p Peer) Header(version forward.ProxyProtocol) []byte {
	return proxyprotocol.Append(nil, version, proxyprotocol.Header{Client: p.From, Dialled: p.Dialled})
}

// accepts reports whether the route accepts connections through a balancer.
func (r *Route) accepts(balancer netip.Addr) bool {
	return slices.ContainsFunc(r.via, func(p netip.Prefix) bool { return p.Contains(balancer) })
}

// hasBalancer reports whether an address is a balancer of one of the routes. It is then no client of any:
// else a connection of one client could reach another one, with the header as the first data. The caller
// holds the lock.
func (l *listener) hasBalancer(from netip.Addr) bool {
	for _, r := range l.routes {
		if r.accepts(from) {
			return true
		}
	}
	return false
}

// readHeader reads the header of a balancer's connection, and then hands the connection to the receiver of
// the client that the header names. A connection with another header, or with none, is reset. The caller
// holds the lock.
func (a *Acceptor) readHeader(l *listener, c *socket.Conn, balancer netip.Addr) {
	if len(l.headers) >= maxHeaders {
		c.Close() // a reset: see package socket
		return
	}
	l.headers[c] = struct{}{}
	a.goroutines.Go(func() {
		_ = c.SetReadDeadline(time.Now().Add(proxyprotocol.ReadTime)) // fails only on a closed one
		header, _, err := proxyprotocol.Read(c)
		if err == nil {
			err = c.SetReadDeadline(time.Time{})
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if delete(l.headers, c); err != nil {
			c.Close()
			l.refused(balancer)
			return
		}
		to := l.routes[header.Client.Addr()]
		if to == nil || !to.accepts(balancer) {
			c.Close()
			if !header.IsLocal() {
				l.refused(header.Client.Addr())
			}
			return
		}
		to.to.Accept(c, Peer{From: header.Client, Dialled: header.Dialled})
	})
}

// dropHeaders resets the connections whose header is being read. The caller holds the lock.
func (l *listener) dropHeaders() {
	for c := range l.headers {
		c.Close()
	}
}
