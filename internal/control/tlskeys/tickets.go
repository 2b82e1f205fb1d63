package tlskeys

import (
	"crypto/tls"
	"sync"
	"time"
)

const (
	// maxTickets is how many tickets of a server are kept for a session: servers give out two at a time.
	maxTickets = 4
	// freshTicket is how old a ticket may be to be chosen for not having been used: some servers forget
	// one after five minutes (the default of OpenSSL's cache of sessions).
	freshTicket = 5 * time.Minute
)

// tickets is the tls.ClientSessionCache of one session with a server: whatever the name, there is only that
// one session to resume.
//
// A server may take each ticket of TLS 1.3 only once (RFC 8446 section 8.1), so that one that has not been
// used is preferred. And a server may take no data connection without a ticket, so that the newest is
// never thrown away: crypto/tls asks for that when a handshake with it fails, which most often means
// that a transfer was given up.
type tickets struct {
	now func() time.Time

	mu   sync.Mutex
	kept []ticket // in the order of their arrival
}

type ticket struct {
	state *tls.ClientSessionState
	came  time.Time
	used  bool
}

// Get returns the newest ticket that has not been used, else the newest.
func (t *tickets) Get(string) (*tls.ClientSessionState, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.kept) == 0 {
		return nil, false
	}
	chosen := len(t.kept) - 1
	oldest := t.now().Add(-freshTicket)
	for i := chosen; i >= 0 && t.kept[i].came.After(oldest); i-- {
		if !t.kept[i].used {
			chosen = i
			break
		}
	}
	t.kept[chosen].used = true
	return t.kept[chosen].state, true
}

// Put keeps a ticket; nil changes nothing.
func (t *tickets) Put(_ string, state *tls.ClientSessionState) {
	if state == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.kept) == maxTickets {
		t.kept = append(t.kept[:0], t.kept[1:]...)
	}
	t.kept = append(t.kept, ticket{state: state, came: t.now()})
}
