package session

import (
	"errors"
	"io"

	"ftpgate/internal/control/refusal"
	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/verdict"
)

// clientFailed handles an error of the client's connection.
func (s *Session) clientFailed(err error) {
	switch {
	case err == io.EOF || err == io.ErrUnexpectedEOF: // an incomplete line is ignored
		s.clientEnds()
		return
	case badLine(err):
		s.mu.Lock()
		for s.phase == working {
			s.changed.Wait()
		}
		why := refusal.New(verdict.RefusedLine, verdict.CodeClientBadLine, err.Error())
		if isProxyHeader(s.commands, err) {
			why = refusal.New(verdict.RefusedProxyHeader, verdict.CodeUnexpectedProxyHeader,
				dialogue.UnexpectedHeader)
		}
		s.mu.Unlock()
		s.terminate(why)
		return
	}
	s.terminate(refusal.Refusal{}) // the client closed or broke its connection
}

// clientEnds forwards the client's FIN to the server. The client may still read, and gets all answers. The
// session ends when the server closes, or a write to the client fails.
func (s *Session) clientEnds() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clientEnded = true
	if s.barrier != nil {
		s.barrier.release()
	}
	for s.phase != terminated && (s.phase != reading || s.dialogue.MayRetry()) {
		s.changed.Wait()
	}
	if s.phase == terminated {
		return
	}
	if !s.dialogue.HasServer() {
		s.terminateLocked(refusal.Refusal{})
		return
	}
	s.takeTurn()
	s.dialogue.ClientEnded()
	s.beginWrite()
	s.mu.Unlock()
	_ = s.server.CloseWrite() // the server's reader notices a server that has closed
	s.mu.Lock()
	s.endWrite()
	s.endTurn()
	for s.phase != terminated {
		s.changed.Wait()
	}
}

// isProxyHeader reports whether a bad line is most probably the third one of a PROXY protocol header, version
// 2, which begins with two blank lines and then has a NUL.
func isProxyHeader(linesBefore int, err error) bool {
	nul, ok := errors.AsType[*ftp.NULError](err)
	return ok && nul.Offset == 0 && linesBefore == 2
}

// badLine reports whether an error is about a line, and not about the stream.
func badLine(err error) bool {
	_, nul := errors.AsType[*ftp.NULError](err)
	return nul || isTooLong(err)
}
