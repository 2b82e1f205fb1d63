package ftpclient

import (
	"crypto/tls"
)

// Session is the TLS session of one control connection, for its data connections to resume. It implements
// tls.ClientSessionCache and keeps the newest session always: crypto/tls would drop it after a failed
// handshake, and then no later data connection could resume. It is for one connection at a time.
type Session struct{ newest *tls.ClientSessionState }

// Get returns the newest session for any name: there is only one server.
func (s *Session) Get(string) (*tls.ClientSessionState, bool) { return s.newest, s.newest != nil }

// Put keeps a session; nil does nothing.
func (s *Session) Put(_ string, state *tls.ClientSessionState) {
	if state != nil {
		s.newest = state
	}
}

// Clone returns a cache of its own with the same session.
func (s *Session) Clone() *Session { return &Session{s.newest} }
