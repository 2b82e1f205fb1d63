package session

import (
	"errors"
	"io"
	"strings"

	"ftpgate/internal/control/refusal"
	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/verdict"
)

// serverBroken is the reason for the client if the connection to its server fails.
const serverBroken = "the connection to the server is broken"

// errNotFTP says that a server sent something else than a greeting, and closed.
var errNotFTP = errors.New("no FTP greeting")

// serverFailed ends the session after an error of the server's connection. If explained is set, the client
// needs no reason: it closed first, or the server gave one.
func (s *Session) serverFailed(err error, explained bool) {
	switch {
	case explained:
		s.terminate(s.serverGoodbye())
	case err == errNotFTP, badLine(err):
		s.terminate(refusal.New(verdict.RefusedBadReply, verdict.CodeServerBadReply, dialogue.NotFTP))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		s.terminate(refusal.New(verdict.RefusedUnreachable, verdict.CodeServerLeft, dialogue.ServerLeft))
	default:
		s.terminate(refusal.New(verdict.RefusedUnreachable, verdict.CodeServerLeft, serverBroken))
	}
}

// serverGoodbye returns the refusal that ends a session after the server said why it closes: a 421 that
// answers no command is the server's own decision.
func (s *Session) serverGoodbye() (r refusal.Refusal) {
	if strings.HasPrefix(s.transcript.ServerReply(), "421") {
		r.Code = verdict.CodeServerLeft
	}
	return r
}
