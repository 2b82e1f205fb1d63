package transferlog

import (
	"errors"
	"syscall"
	"time"
)

// reportInterval is the shortest time between two reports of the same problem.
const reportInterval = time.Minute

// errQueueFull is the error of a transfer for which the queue has no room.
var errQueueFull = errors.New("transfers come faster than they can be written")

// lossState counts lost lines, and what was reported of them.
type lossState struct {
	err        error // why the last lines were lost
	failing    bool  // nothing was written since the last loss
	lost       uint64
	reported   uint64    // how many of them were reported
	lostBefore uint64    // how many were lost before the current problem
	open       bool      // its start was reported, its end not yet
	lastReport time.Time // time of the last report
}

// recordLoss counts lost lines. It reports whether a problem began.
func (t *lossState) recordLoss(err error, lost int) bool {
	began := !t.failing
	t.err = err
	t.failing = true
	t.lost += uint64(lost)
	return began
}

// recordSuccess records that a line was written. It reports whether a problem ended.
func (t *lossState) recordSuccess() bool {
	ended := t.failing
	t.failing = false
	return ended
}

// message is a line of the program's own log about lost lines.
type message struct {
	resolved bool
	path     string
	lines    uint64
	err      error
}

// due returns the messages due at now, and when to call it again; zero: at the next change. With last it does
// not wait for the interval to end.
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

// runReporter is the goroutine that reports lost lines. The writer cannot do it, because it may hang.
func (l *Log) runReporter() {
	defer close(l.reporterDone)
	for last := false; ; {
		again := l.reportDue(last)
		if last {
			return
		}
		var timer <-chan time.Time
		if !again.IsZero() {
			timer = time.After(time.Until(again))
		}
		select {
		case <-l.reporterWake:
		case <-timer:
		case <-l.writerDone:
			last = true
		}
	}
}

// reportDue logs what is due, and returns when to call it again.
func (l *Log) reportDue(last bool) time.Time {
	var soonest time.Time
	var messages []message
	now := time.Now()
	collect := func(t *lossState, path string) {
		found, again := t.due(path, now, last)
		messages = append(messages, found...)
		if !again.IsZero() && (soonest.IsZero() || again.Before(soonest)) {
			soonest = again
		}
	}
	l.mu.Lock()
	collect(&l.overflow, l.paths())
	for _, o := range l.outputs {
		collect(&o.loss, o.path)
	}
	l.mu.Unlock()
	for _, m := range messages {
		if m.resolved {
			l.log.Info("transfers are written to the transfer log again", "file", m.path, "missing", m.lines)
			continue
		}
		text := "transfers are missing from the transfer log"
		if m.lines == 0 { // closing the file failed
			text = "transfers may be missing from the transfer log"
		}
		l.log.Error(text, "file", m.path, "missing", m.lines, "err", m.err, "remedy", remedy(m.err))
	}
	return soonest
}

// remedy says how to stop the loss of lines.
func remedy(err error) string {
	switch {
	case errors.Is(err, errQueueFull):
		return "check what keeps the disk busy, or whether the pipe has a reader"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return "make room on its disk"
	case errors.Is(err, syscall.EPIPE):
		return "start what reads the pipe, then send ftpgate SIGUSR1"
	}
	return "make the file writable, then send ftpgate SIGUSR1"
}
