package transferlog

import (
	"errors"
	"syscall"
	"time"
)

// reportInterval is how often the same trouble is told.
const reportInterval = time.Minute

// errQueueFull is why the queue has no room.
var errQueueFull = errors.New("transfers come faster than they can be written")

// lossState is what is to be told of lost lines.
type lossState struct {
	err        error // why the last ones were lost
	failing    bool  // nothing was written since
	lost       uint64
	reported   uint64    // how many of them were told
	lostBefore uint64    // how many were lost before it began
	open       bool      // that it began, and not yet that it is over
	lastReport time.Time // when it was told last
}

// recordLoss counts lost lines. It returns whether there is something new to tell.
func (t *lossState) recordLoss(err error, lost int) bool {
	began := !t.failing
	t.err = err
	t.failing = true
	t.lost += uint64(lost)
	return began
}

// recordSuccess notes that a line was written. It returns whether there is something new to tell.
func (t *lossState) recordSuccess() bool {
	ended := t.failing
	t.failing = false
	return ended
}

// message is a line of the program's own log about a trouble.
type message struct {
	resolved bool
	path     string
	lines    uint64
	err      error
}

// due returns what is to be told at a time, and when to ask again; zero: when there is news. With last
// nothing waits for the minute to be over.
func (t *lossState) due(path string, now time.Time, last bool) (messages []message, again time.Time) {
	begins := !t.open && (t.failing || t.lost > t.reported)
	goesOn := t.failing && t.open && t.lost > t.reported
	if begins || goesOn {
		if next := t.lastReport.Add(reportInterval); now.Before(next) && !last {
			return nil, next
		}
		if begins {
			t.lostBefore = t.reported
		}
		messages = append(messages, message{path: path, lines: t.lost - t.reported, err: t.err})
		t.open, t.reported, t.lastReport = true, t.lost, now
	}
	switch {
	case t.open && t.failing:
		again = now.Add(reportInterval)
	case t.open:
		messages = append(messages, message{resolved: true, path: path, lines: t.lost - t.lostBefore})
		t.open, t.reported = false, t.lost
	}
	return messages, again
}

// runReporter is the goroutine that tells of lost lines. It is not the writer, which may hang.
func (l *Log) runReporter() {
	defer close(l.reporterDone)
	for last := false; ; {
		again := l.reportDue(last)
		if last {
			return
		}
		var clock <-chan time.Time
		if !again.IsZero() {
			clock = time.After(time.Until(again))
		}
		select {
		case <-l.reporterWake:
		case <-clock:
		case <-l.writerDone:
			last = true
		}
	}
}

// reportDue tells what is due, and returns when to do so again.
func (l *Log) reportDue(last bool) time.Time {
	var soonest time.Time
	var messages []message
	now := time.Now()
	ask := func(t *lossState, path string) {
		found, again := t.due(path, now, last)
		messages = append(messages, found...)
		if !again.IsZero() && (soonest.IsZero() || again.Before(soonest)) {
			soonest = again
		}
	}
	l.mu.Lock()
	ask(&l.overflow, l.paths())
	for _, o := range l.outputs {
		ask(&o.loss, o.path)
	}
	l.mu.Unlock()
	for _, m := range messages {
		if m.resolved {
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
	case errors.Is(err, errQueueFull):
		return "see what keeps the disk busy, or whether anybody reads the pipe"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return "make room on its disk"
	case errors.Is(err, syscall.EPIPE):
		return "start what reads the pipe, then send ftpgate SIGUSR1"
	}
	return "see that the file can be written, then send ftpgate SIGUSR1"
}
