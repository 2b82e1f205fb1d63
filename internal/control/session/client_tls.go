package session

import (
	"bytes"
	"crypto/tls"
	"log/slog"

	"ftpgate/internal/control/refusal"
	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/verdict"
)

// handshakeRecord is the first byte of a TLS handshake (RFC 8446 section 5.1); no command begins with it.
const handshakeRecord = 22

// clientHello handles a TLS handshake in place of a command; false: no further line of the client's is read.
func (s *Session) clientHello(lines *ftp.LineReader) bool {
	s.mu.Lock()
	for s.phase.inStep() {
		s.changed.Wait()
	}
	if s.phase != reading {
		s.mu.Unlock()
		return false
	}
	s.takeTurn()
	s.mu.Unlock()
	if _, ok := s.carryOut(s.dialogue.ClientHello()); !ok {
		return false
	}
	s.flush()
	s.mu.Lock()
	s.endTurn()
	next := s.transition
	s.mu.Unlock()
	return !s.isTerminated() && s.apply(next, lines)
}

// apply makes the transition that a step requested, while the server's reader waits. It returns false if no
// further line of the client's is read.
func (s *Session) apply(t dialogue.Transition, lines *ftp.LineReader) bool {
	switch t {
	case dialogue.Encrypt:
		return s.encrypt(lines)
	case dialogue.Decrypt:
		return s.decrypt(lines)
	case dialogue.Passthrough:
		s.awaitServerReader()
		s.pump(s.server, s.client, lines.Rest())
		return false
	}
	return true
}

// awaitServerReader waits until the server's reader has stopped reading lines: the server's answer to the
// client's first bytes is not an FTP line.
func (s *Session) awaitServerReader() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.phase == stopping {
		s.changed.Wait()
	}
}

// prepareTLS makes the TLS of the client's next handshake.
func (s *Session) prepareTLS() error {
	s.closeTLS()
	prepared, err := s.env.Keys.ForClient(s.forward, s.Client())
	if err == nil {
		s.clientTLS = prepared
		s.shareLogin()
	}
	return err
}

// shareLogin passes the logged-in user to the client's TLS.
func (s *Session) shareLogin() {
	if s.clientTLS != nil {
		s.clientTLS.Login(s.dialogue.User(), s.dialogue.LoggedIn())
	}
}

// closeTLS notes that the client's TLS is over: no data connection of another session can resume it any more.
func (s *Session) closeTLS() {
	if s.clientTLS != nil {
		s.clientTLS.Close()
	}
}

// encrypt begins TLS with the client. It drops what arrived in plain text before that: an attacker on the
// path could have inserted it.
func (s *Session) encrypt(lines *ftp.LineReader) bool {
	first := bytes.Clone(lines.Rest())
	if len(first) > 0 && first[0] != handshakeRecord {
		first = nil
		s.refuse(refusal.New(verdict.RefusedEncryption, verdict.CodeTLSCommandRefused,
			"plain text between AUTH and the handshake was discarded"))
	}
	if !s.setDeadline(s.client.SetDeadline, forward.HandshakeTime) {
		return false
	}
	err := s.client.AcceptTLS(s.clientTLS.Control(), first)
	if err != nil {
		s.noGoodbye = true
		s.clientNotEncrypted(err)
		return false
	}
	s.encrypted("client", s.client.TLS)
	subject, err := s.clientTLS.Admit(s.client.TLS.ConnectionState())
	s.presented(subject)
	if err != nil {
		code, reason, remedy := s.clientTLS.Explain(err)
		r := refusal.New(verdict.RefusedEncryption, code, reason) // reason is all that err says
		r.Remedy = remedy
		s.terminate(r)
		return false
	}
	return s.switched(lines)
}

// decrypt ends TLS with the client; the session continues in plain text.
func (s *Session) decrypt(lines *ftp.LineReader) bool {
	if !s.setDeadline(s.client.SetDeadline, forward.HandshakeTime) {
		return false
	}
	if err := s.client.EndTLS(); err != nil {
		s.noGoodbye = true
		s.terminate(refusal.New(verdict.NotRefused, verdict.CodeClientTLS, ""))
		return false
	}
	s.record.Encrypted("client", "", "")
	if !s.dialogue.LoggedIn() { // after REIN, unlike after CCC, another user may log in
		s.presented("")
	}
	return s.switched(lines)
}

// switched reads lines again after TLS with the client began or ended; false: the session is over.
func (s *Session) switched(lines *ftp.LineReader) bool {
	lines.Reset(s.client)
	s.setDeadline(s.client.SetDeadline, 0)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.finishTransition()
}

// presented says whose certificate the client presents, in the record and in the log; "": none.
func (s *Session) presented(subject string) {
	s.record.ClientCertificate(subject)
	if subject != "" {
		s.log(slog.LevelInfo, "client certificate presented", slog.String("certificate", subject))
	}
}

// encrypted notes in the record and in the log that a control connection has TLS.
func (s *Session) encrypted(leg string, c *tls.Conn) {
	state := c.ConnectionState()
	version, cipher := tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite)
	s.record.Encrypted(leg, version, cipher)
	s.log(slog.LevelInfo, "control connection encrypted", slog.String("leg", leg),
		slog.String("tls", version), slog.String("cipher", cipher))
}

// clientNotEncrypted ends a session whose TLS with the client failed.
func (s *Session) clientNotEncrypted(err error) {
	if !s.isTerminated() {
		code, reason, remedy := s.clientTLS.Explain(err)
		r := refusal.New(verdict.RefusedEncryption, code, "no TLS with the client: "+reason)
		r.Remedy, r.Err = remedy, err
		s.refuse(r)
	}
	s.terminate(refusal.Refusal{})
}
