package session

import (
	"errors"
	"io"

	"ftpgate/internal/control/refusal"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/verdict"
)

// clientFailed takes what is wrong with the client's stream.
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
		s.mu.Unlock()
		s.terminate(refusal.New(verdict.RefusedLine, verdict.CodeClientBadLine, err.Error()))
		return
	}
	s.terminate(refusal.Refusal{}) // the client has gone
}

// clientEnds passes it on to the server that the client has closed its side of the connection. The client may
// still read: it gets all answers. The session ends when the server closes, or the client takes no more.
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
	s.takeTurn()
	s.beginWrite()
	s.mu.Unlock()
	_ = s.server.CloseWrite() // a server that has gone is seen by its reader
	s.mu.Lock()
	s.endWrite()
	s.endTurn()
	for s.phase != terminated {
		s.changed.Wait()
	}
}

// badLine reports whether an error is about a line, and not about the stream.
func badLine(err error) bool {
	_, nul := errors.AsType[*ftp.NULError](err)
	return nul || isTooLong(err)
}
