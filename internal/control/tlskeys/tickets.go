package tlskeys

import (
	"crypto/tls"
	"slices"
	"sync"
	"time"
)

const (
	// maxTickets is how many of a server's tickets are kept for a session: servers give out two at a time.
	maxTickets = 4
	// ticketLife is how long an unused ticket is preferred: some servers forget one after five minutes (the
	// default of OpenSSL's session cache).
	ticketLife = 5 * time.Minute
)

// tickets is the tls.ClientSessionCache of one session with a server. It ignores names: there is only one TLS
// session to resume.
//
// A server may accept each TLS 1.3 ticket only once (RFC 8446 section 8.1), so an unused one is preferred. A
// server may also accept no data connection without a ticket, so the newest one is never dropped, although
// crypto/tls asks for that after a failed handshake, which most often is an aborted transfer.
type tickets struct {
	now func() time.Time

	mu   sync.Mutex
	kept []ticket // the newest last
}

type ticket struct {
	state    *tls.ClientSessionState
	received time.Time
	used     bool
}

// Get returns the newest unused ticket, else the newest.
func (t *tickets) Get(string) (*tls.ClientSessionState, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.kept) == 0 {
		return nil, false
	}
	chosen := len(t.kept) - 1
	oldest := t.now().Add(-ticketLife)
	for i := chosen; i >= 0 && t.kept[i].received.After(oldest); i-- {
		if !t.kept[i].used {
			chosen = i
			break
		}
	}
	t.kept[chosen].used = true
	return t.kept[chosen].state, true
}

// Put keeps a ticket; nil does nothing.
func (t *tickets) Put(_ string, state *tls.ClientSessionState) {
	if state == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.kept) == maxTickets {
		t.kept = slices.Delete(t.kept, 0, 1)
	}
	t.kept = append(t.kept, ticket{state: state, received: t.now()})
}
