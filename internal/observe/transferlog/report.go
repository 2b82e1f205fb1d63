package transferlog

import (
	"errors"
	"syscall"
	"time"
)

// sayEvery is how often the same trouble is told.
const sayEvery = time.Minute

// errSlow is why the queue has no room.
var errSlow = errors.New("transfers come faster than they can be written")

// trouble is what is to be told of lost lines.
type trouble struct {
	err    error // why the last ones were lost
	broken bool  // nothing was written since
	lost   uint64
	said   uint64    // how many of them were told
	before uint64    // how many were lost before it began
	told   bool      // that it began, and not yet that it is over
	at     time.Time // when it was told last
}

// failed counts lost lines. It returns whether there is something new to tell.
func (t *trouble) failed(err error, lost int) bool {
	began := !t.broken
	t.err = err
	t.broken = true
	t.lost += uint64(lost)
	return began
}

// works notes that a line was written. It returns whether there is something new to tell.
func (t *trouble) works() bool {
	ended := t.broken
	t.broken = false
	return ended
}

// message is a line of the program's own log about a trouble.
type message struct {
	over  bool
	path  string
	lines uint64
	err   error
}

// due returns what is to be told at a time, and when to ask again; zero: when there is news. With last
// nothing waits for the minute to be over.
func (t *trouble) due(path string, now time.Time, last bool) (messages []message, again time.Time) {
	begins := !t.told && (t.broken || t.lost > t.said)
	goesOn := t.broken && t.told && t.lost > t.said
	if begins || goesOn {
		if next := t.at.Add(sayEvery); now.Before(next) && !last {
			return nil, next
		}
		if begins {
			t.before = t.said
		}
		messages = append(messages, message{path: path, lines: t.lost - t.said, err: t.err})
		t.told, t.said, t.at = true, t.lost, now
	}
	switch {
	case t.told && t.broken:
		again = now.Add(sayEvery)
	case t.told:
		messages = append(messages, message{over: true, path: path, lines: t.lost - t.before})
		t.told, t.said = false, t.lost
	}
	return messages, again
}

// report is the goroutine that tells of lost lines. It is not the writer, which may hang.
func (l *Log) report() {
	defer close(l.told)
	for last := false; ; {
		again := l.say(last)
		if last {
			return
		}
		var clock <-chan time.Time
		if !again.IsZero() {
			clock = time.After(time.Until(again))
		}
		select {
		case <-l.news:
		case <-clock:
		case <-l.flushed:
			last = true
		}
	}
}

// say tells what is due, and returns when to do so again.
func (l *Log) say(last bool) time.Time {
	var soonest time.Time
	var messages []message
	now := time.Now()
	ask := func(t *trouble, path string) {
		found, again := t.due(path, now, last)
		messages = append(messages, found...)
		if !again.IsZero() && (soonest.IsZero() || again.Before(soonest)) {
			soonest = again
		}
	}
	l.mu.Lock()
	ask(&l.overflow, l.paths())
	for _, o := range l.outputs {
		ask(&o.trouble, o.path)
	}
	l.mu.Unlock()
	for _, m := range messages {
		if m.over {
			l.log.Info("transfers are written to the transfer log again", "file", m.path, "missing", m.lines)
			continue
		}
		text := "transfers are missing from the transfer log"
		if m.lines == 0 { // closing it has failed
			text = "transfers may be missing from the transfer log"
		}
		l.log.Error(text, "file", m.path, "missing", m.lines, "err", m.err, "remedy", remedy(m.err))
	}
	return soonest
}

// remedy says what to do where lines are lost.
func remedy(err error) string {
	switch {
	case errors.Is(err, errSlow):
		return "see what keeps the disk busy, or whether anybody reads the pipe"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return "make room on its disk"
	case errors.Is(err, syscall.EPIPE):
		return "start what reads the pipe, then send ftpgate SIGUSR1"
	}
	return "see that the file can be written, then send ftpgate SIGUSR1"
}
