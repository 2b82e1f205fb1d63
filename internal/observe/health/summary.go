package health

import (
	"log/slog"
	"time"
)

// When the network fails, all servers fail at once. The log then names the first of them, and counts the
// rest.
const (
	linesAtOnce = 20
	period      = time.Minute
)

// summary writes the lines of all servers to the log. It is for one goroutine.
type summary struct {
	log           *slog.Logger
	began         time.Time // of the period
	lines         int       // in it
	silent, again int       // servers without a line of their own
}

// add logs the line of a target, or counts it.
func (s *summary) add(now time.Time, t *target, l *line) {
	if now.Sub(s.began) >= period {
		s.flush(now)
		s.began, s.lines = now, 0
	}
	switch s.lines++; {
	case s.lines <= linesAtOnce:
		s.write(t, l)
	case l.Answers:
		s.again++
	default:
		s.silent++
	}
}

func (s *summary) write(t *target, l *line) {
	log := s.log.With("forward", forwardAttr(t), "server", t.forward.Server.String())
	if l.changes > 1 {
		log = log.With("changes", l.changes)
	}
	if l.Answers {
		log.Info("server answers again", "silent_for", l.outage.Round(time.Second).String())
		return
	}
	log.Warn("server does not answer", "reason", l.Why, "remedy", l.Remedy)
}

// wait returns the time until flush is due.
func (s *summary) wait(now time.Time) time.Duration {
	if s.silent+s.again == 0 {
		return time.Hour
	}
	return max(0, s.began.Add(period).Sub(now))
}

// flush logs the counted servers at the end of the period.
func (s *summary) flush(now time.Time) {
	if s.silent+s.again == 0 || now.Sub(s.began) < period {
		return
	}
	s.log.Warn("more servers have stopped answering, or answer again; ftpgate status lists them",
		"silent", s.silent, "again", s.again)
	s.silent, s.again = 0, 0
}
