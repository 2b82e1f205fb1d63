package session

import (
	"errors"
	"log/slog"
	"slices"

	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane"
)

// maxDetached is how many data connections of a session may continue after their transfers. Each uses two
// descriptors of the gateway. A client that leaves more open gets no new one before one of them ends.
const maxDetached = 16

// errTooManyDetached returns why a session gets no further data connection.
func errTooManyDetached() error {
	return &pinhole.Failure{Err: errors.New("too many earlier data connections of the session are open"),
		ReplyCode: 425, Reason: "too many of your earlier data connections are open, close them first"}
}

// keepDetached notes a data connection that continues after Close, so that the session counts until it ends.
// Only the reader that has the turn calls it, and the functions below.
func (s *Session) keepDetached(data dataplane.Data) {
	if data.Ended() == nil {
		return
	}
	s.detached = append(s.detached, data)
	s.forgetEnded()
}

// forgetEnded drops the data connections that have ended.
func (s *Session) forgetEnded() {
	s.detached = slices.DeleteFunc(s.detached, func(data dataplane.Data) bool {
		select {
		case <-data.Ended():
			return true
		default:
			return false
		}
	})
}

// awaitDetached waits for the data connections that continue without the control connections. Their ends,
// their idle limit, an operator or the time limit of a stop ends them.
func (s *Session) awaitDetached() {
	if s.forgetEnded(); len(s.detached) == 0 {
		return
	}
	severed := s.severedSignal()
	s.record.OnlyData()
	s.log(slog.LevelInfo, "control connections closed, data continues", slog.Int("data", len(s.detached)))
	for len(s.detached) > 0 {
		data := s.detached[0]
		select {
		case <-data.Ended():
		case <-s.aborted.Done():
			data.Sever()
		case <-severed:
			data.Sever()
		}
		<-data.Ended()
		s.detached = s.detached[1:]
	}
	s.detached = nil
	if s.wasKilledAfterEnd() {
		r := s.killed()
		r.Fatal, r.Peer = true, s.Client()
		s.report(r)
	}
}
