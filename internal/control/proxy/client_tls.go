package proxy

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"time"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/verdict"
)

// handshakeRecord is the first byte of a client that begins with TLS (RFC 8446 section 5.1); no command
// begins with it.
const handshakeRecord = 22

// begins sees to a client that does not begin with a command: one with implicit TLS, which has its
// handshake first, and one that tries it where that is not meant.
func (s *session) begins(lines *ftp.LineReader) bool {
	if s.plain.TLS.Implicit {
		return s.encrypt(lines)
	}
	first, err := lines.Peek()
	if err != nil || first != handshakeRecord {
		return true // the error will come again
	}
	s.mu.Lock()
	s.do(s.dialogue.Hello())
	then, ended := s.then, s.ended
	s.mu.Unlock()
	return !ended && s.become(then, lines)
}

// turn has the control connections become what a step asks for, which is the client's goroutine to do. It
// is called with the lock held.
func (s *session) turn(then dialogue.Then) {
	s.flush()
	s.then = then
	if then == dialogue.Tunnel {
		s.mute = true
		s.log(slog.LevelInfo, "session passed through, encrypted from end to end")
		s.record.Through(s.passage)
		_ = s.server.SetReadDeadline(past) // whoever waits for a line of the server waits no more
	} else {
		s.hold = &hold{cancel: make(chan struct{})}
	}
	s.changed.Broadcast()
}

// become reads the client on as it was agreed; false: no more lines come. The server's goroutine waits.
func (s *session) become(then dialogue.Then, lines *ftp.LineReader) bool {
	switch then {
	case dialogue.Encrypt:
		return s.encrypt(lines)
	case dialogue.Decrypt:
		return s.decrypt(lines)
	case dialogue.Tunnel:
		s.awaitAside()
		s.pump(s.server, s.client, lines.Rest())
		return false
	}
	return true
}

// awaitAside waits until nobody reads lines of the server any more: what it answers to the client's first
// bytes is none.
func (s *session) awaitAside() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.aside && !s.ended {
		s.changed.Wait()
	}
}

// encrypt has the client begin with TLS. What it has sent in plain text by then is thrown away: somebody
// on the way could have put it there, to have it pass for the client's own.
func (s *session) encrypt(lines *ftp.LineReader) bool {
	first := bytes.Clone(lines.Rest())
	if len(first) > 0 && first[0] != handshakeRecord {
		first = nil
		s.mu.Lock()
		s.refused(dialogue.RefusedSecurity, verdict.CodeTLSOther, "plain text between AUTH and the handshake was thrown away", "", nil)
		s.mu.Unlock()
	}
	if !s.within(s.client, conn.HandshakeTime) {
		return false
	}
	err := s.client.Accept(s.control, first)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(lines)
	if err != nil {
		s.mute = true
		s.noTLS(err)
		return false
	}
	s.encrypted("client", s.client.Secure)
	return !s.ended
}

// decrypt ends TLS with the client, and goes on in plain text.
func (s *session) decrypt(lines *ftp.LineReader) bool {
	if !s.within(s.client, conn.HandshakeTime) {
		return false
	}
	err := s.client.Decrypt()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(lines)
	if err != nil {
		s.mute = true
		s.over(dialogue.NotRefused, verdict.CodeClientTLS, "")
	} else {
		s.record.Encrypted("client", "", "")
	}
	return !s.ended
}

// within gives an end so long for what comes; false: the session has ended.
func (s *session) within(w *conn.Wire, d time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		_ = w.SetDeadline(time.Now().Add(d))
	}
	return !s.ended
}

// settle lets the dialogue go on behind a change of the client's connection. It is called with the lock
// held.
func (s *session) settle(lines *ftp.LineReader) {
	lines.Reset(s.client)
	s.hold, s.then = nil, dialogue.GoOn
	if !s.ended {
		_ = s.client.SetDeadline(time.Time{})
	}
	s.changed.Broadcast()
}

// encrypted tells the log of a control connection with TLS.
func (s *session) encrypted(leg string, c *tls.Conn) {
	state := c.ConnectionState()
	s.record.Encrypted(leg, tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite))
	s.log(slog.LevelInfo, "control connection encrypted", slog.String("leg", leg),
		slog.String("tls", tls.VersionName(state.Version)), slog.String("cipher", tls.CipherSuiteName(state.CipherSuite)))
}

// noTLS ends a session whose TLS with the client has failed.
func (s *session) noTLS(err error) {
	if !s.ended {
		plain, remedy := s.proxy.Keys.Explain(err)
		s.refused(dialogue.RefusedSecurity, verdict.CodeClientTLS, "no TLS with the client: "+plain, remedy, err)
	}
	s.over(dialogue.NotRefused, "", "")
}
