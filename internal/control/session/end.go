package session

import (
	"log/slog"
	"time"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/observe/sessions"
)

// CloseTime is how long a session that is over waits for the data path. A kernel that does not answer delays
// no client longer.
const CloseTime = time.Second

// callPath calls f, which calls the data path and may wait for the kernel. Only the reader that has the turn
// calls it. It returns false if the other reader took the turn and ended the session: the caller must then
// leave the session's fields alone, clean up what f got, and return.
func (s *Session) callPath(f func()) bool {
	s.setPathCallSince(time.Now())
	f()
	return s.setPathCallSince(time.Time{})
}

// readerEnded is called by each of the two readers when it returns, which happens once the session is over.
// The second one closes what the data path has open, and finishes the session. The first one waits for that.
// If the data path delays the second one longer than Env.CloseTime, the first one takes the turn and finishes
// the session; what is open is closed as soon as the data path answers.
func (s *Session) readerEnded() {
	finished, order := s.leaveTurn()
	switch order {
	case replaced:
		return
	case returnedLast:
		s.reportEnding()
		if s.closeData() {
			s.closeSession(finished)
		}
		return
	}
	limit := time.NewTicker(s.env.CloseTime)
	defer limit.Stop()
	for {
		select {
		case <-finished:
			return
		case <-limit.C:
			if s.takeTurnAway(s.env.CloseTime) {
				s.closeSession(finished)
				return
			}
		}
	}
}

// closeSession sends the client the reason for the end, closes both connections, waits for data connections
// that continue without them, and forgets the session. It closes finished.
func (s *Session) closeSession(finished chan<- struct{}) {
	defer close(finished)
	s.reportEnding()
	s.closeTLS()
	s.server.Close()
	var goodbye string
	if !s.noGoodbye {
		if goodbye = s.goodbye(); goodbye != "" {
			s.toClient = append(append(s.toClient, goodbye...), '\r', '\n')
		}
		if len(s.toClient) > 0 { // after QUIT there is nothing to add
			_ = s.client.SetWriteDeadline(time.Now().Add(conn.LingerTime))
			_, _ = s.client.Write(s.toClient)
		}
	}
	s.client.HangUp()
	s.awaitDetached()
	s.transferStarted.stop()
	s.env.Ended(s)
	ended, final := s.record.Ended(goodbye)
	s.logEnd(ended, final, goodbye)
}

// logEnd logs how the session ended, its last line for the client, and why it failed if that is final.
// Refusals have their own log lines.
func (s *Session) logEnd(ended sessions.Session, final bool, goodbye string) {
	level, v := slog.LevelInfo, ended.Verdict
	if final && ended.Failed() {
		level = slog.LevelWarn
	}
	if !final || v.Code == verdict.CodeFine {
		v = verdict.Verdict{}
	}
	s.log(level, "session ends", slog.Duration("after", time.Since(s.began).Round(time.Millisecond)),
		slog.Int("transfers", ended.Totals.Transfers), slog.Int("failed", ended.Totals.Failed),
		slog.Int("refusals", ended.Refused), slog.Int("unlogged", s.refusals.unlogged()),
		slog.String("goodbye", goodbye),
		slog.String("verdict", v.Text), slog.String("remedy", v.Remedy))
}
