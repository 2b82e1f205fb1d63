// Package transferlog writes every finished transfer down once: as a line of JSON, in the xferlog format
// that tools for the logs of FTP servers read, or both.
//
// It never makes a session wait: transfers go through a bounded queue to one goroutine that writes, each
// line with one write(2) to a file opened with O_APPEND, so that lines of two processes do not mix. What
// the queue has no room for, and what the disk does not take, is missing from the log, counted and
// reported. A process that is killed loses what is in the queue: nothing as a rule, and 4 MiB (some 8,000
// transfers) at most. It never rotates a file: see Reopen.
package transferlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"

	"ftpgate/internal/observe/sessions"
)

const (
	// maxQueuedBytes bounds what waits to be written, in bytes of memory.
	maxQueuedBytes = 4 << 20
	// fixedSize is what a transfer takes beside its long texts, in bytes.
	fixedSize = 512
	// maxKeptBatch is how many transfers' room is kept for the next ones; a flood's is given back.
	maxKeptBatch = 256
)

// Stdout is the name that stands for standard output.
const Stdout = "-"

// Settings say what is written where.
type Settings struct {
	Transfers string       // the file of the JSON lines: one journal.Transfer each; Stdout, or empty: none
	Xferlog   string       // the file in the xferlog format, see xferlogLine; Stdout, or empty: none
	Log       *slog.Logger // is told what is missing, and when all is well again
}

// Log is the log of transfers. Its methods may be called by several goroutines.
type Log struct {
	log          *slog.Logger
	writerWake   chan struct{} // holds one: there is something to do for the writer
	reporterWake chan struct{} // holds one: there may be something to tell
	writerDone   chan struct{} // closed: the writer has ended
	reporterDone chan struct{} // closed: so has the reporter

	mu          sync.Mutex
	outputs     []*output // the slice is never changed
	queue       []sessions.Transfer
	unwritten   int // transfers that are not written yet; no longer all of them are in the queue
	queuedBytes int // the memory that they take, in bytes
	closed      bool
	overflow    lossState
}

// Open opens the files, makes those that are not there (mode 0640, less the umask), and begins to write.
// The error says what to do. Close ends it.
func Open(s Settings) (*Log, error) {
	l := &Log{
		log:          s.Log,
		writerWake:   make(chan struct{}, 1),
		reporterWake: make(chan struct{}, 1),
		writerDone:   make(chan struct{}),
		reporterDone: make(chan struct{}),
	}
	for _, o := range []*output{{path: s.Transfers, line: jsonLine}, {path: s.Xferlog, line: xferlogLine}} {
		if o.path == "" {
			continue
		}
		f, err := open(o.path)
		if err != nil {
			for _, o := range l.outputs {
				o.close()
			}
			return nil, err
		}
		o.attach(f)
		l.outputs = append(l.outputs, o)
	}
	if len(l.outputs) == 0 {
		close(l.writerDone)
		close(l.reporterDone)
		return l, nil
	}
	go l.runWriter()
	go l.runReporter()
	return l, nil
}

// open opens a file to append to. A pipe that nobody reads is an error, not a wait.
func open(path string) (*os.File, error) {
	if path == Stdout {
		return os.Stdout, nil
	}
	f, err := openAppend(path)
	if err == nil {
		return f, nil
	}
	remedy := "name another file, or see that this one can be written"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		remedy = "make its directory, and let the user that ftpgate runs as write there"
	case errors.Is(err, fs.ErrPermission):
		remedy = "let the user that ftpgate runs as write there, or name another file"
	}
	return nil, fmt.Errorf("transfer log: %w: %s", err, remedy)
}

// Add has a finished transfer written. It returns at once, whatever the disk does. After Close it is
// counted as lost.
func (l *Log) Add(t sessions.Transfer) {
	if len(l.outputs) == 0 {
		return
	}
	size := memorySize(&t)
	l.mu.Lock()
	fits := !l.closed && l.queuedBytes+size <= maxQueuedBytes
	changed := false
	if fits {
		l.queue = append(l.queue, t)
		l.unwritten++
		l.queuedBytes += size
	} else {
		changed = l.overflow.recordLoss(errQueueFull, 1)
	}
	l.mu.Unlock()
	if fits {
		wake(l.writerWake)
	}
	if changed {
		wake(l.reporterWake)
	}
}

// memorySize is what a transfer takes of memory, in bytes.
func memorySize(t *sessions.Transfer) int {
	return fixedSize + len(t.File) + len(t.User) + len(t.Verdict)
}

// Reopen opens the files by their names again, for logrotate: transfers added from now on go to the new
// ones, and what waits may go to either. Of a file that cannot be opened the old one goes on; the error
// says so.
func (l *Log) Reopen() error {
	var faults []error
	for _, o := range l.outputs {
		if o.path == Stdout {
			continue
		}
		f, err := open(o.path)
		if err != nil {
			faults = append(faults, fmt.Errorf("%w; until then the file that was open goes on", err))
			continue
		}
		l.mu.Lock()
		if !l.closed {
			o.next, f = f, o.next
		}
		l.mu.Unlock()
		if f != nil {
			f.Close() // nothing was written to it: closing loses nothing
		}
	}
	wake(l.writerWake)
	return errors.Join(faults...)
}

// Counts returns how many lines were written and how many are missing, in all files together.
func (l *Log) Counts() (written, lost uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range l.outputs {
		written += o.written
		lost += o.loss.lost
	}
	return written, lost + l.overflow.lost*uint64(len(l.outputs))
}

// Close writes what waits and closes the files, and tells what is missing. Where ctx ends before, the
// error says how many transfers may be missing; goroutines then wait for the disk while the process lives.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	wake(l.writerWake)
	select {
	case <-l.writerDone:
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		return fmt.Errorf("transfer log: %d transfers are not written: %w", l.unwritten, ctx.Err())
	}
	select {
	case <-l.reporterDone:
	case <-ctx.Done():
	}
	return nil
}

// runWriter is the goroutine that writes.
func (l *Log) runWriter() {
	defer close(l.writerDone)
	var batch []sessions.Transfer
	for open := true; open; {
		batch, open = l.nextBatch(batch)
		for i := range batch {
			for _, o := range l.outputs {
				l.count(o, o.write(&batch[i]))
			}
			l.releaseMemory(memorySize(&batch[i]))
		}
	}
	l.switchFiles()
	for _, o := range l.outputs {
		l.count(o, o.close())
	}
}

// nextBatch waits for transfers and returns them, or false after the last ones. The slice of those before is
// used again.
func (l *Log) nextBatch(spent []sessions.Transfer) ([]sessions.Transfer, bool) {
	clear(spent) // for the sake of their texts
	if cap(spent) > maxKeptBatch {
		spent = nil
	}
	for {
		l.switchFiles()
		l.mu.Lock()
		batch, open := l.queue, !l.closed
		if len(batch) > 0 || !open {
			l.queue = spent[:0]
			l.mu.Unlock()
			return batch, open || len(batch) > 0
		}
		l.mu.Unlock()
		<-l.writerWake
	}
}

// switchFiles takes the files into use that Reopen has opened.
func (l *Log) switchFiles() {
	for _, o := range l.outputs {
		l.mu.Lock()
		next := o.next
		o.next = nil
		l.mu.Unlock()
		if next == nil {
			continue
		}
		l.count(o, o.close())
		o.attach(next)
	}
}

// releaseMemory gives the room of a written transfer back.
func (l *Log) releaseMemory(size int) {
	l.mu.Lock()
	l.unwritten--
	l.queuedBytes -= size
	changed := l.queuedBytes < maxQueuedBytes/2 && l.overflow.recordSuccess()
	l.mu.Unlock()
	if changed {
		wake(l.reporterWake)
	}
}

// count counts what became of lines.
func (l *Log) count(o *output, r result) {
	l.mu.Lock()
	o.written += uint64(r.written)
	changed := false
	if r.err != nil {
		changed = o.loss.recordLoss(r.err, r.lost)
	}
	if r.complete {
		changed = o.loss.recordSuccess() || changed
	}
	l.mu.Unlock()
	if changed {
		wake(l.reporterWake)
	}
}

// paths names the files.
func (l *Log) paths() string {
	var paths []string
	for _, o := range l.outputs {
		paths = append(paths, o.path)
	}
	return strings.Join(paths, ", ")
}

// wake sets a flag that somebody waits for.
func wake(flag chan<- struct{}) {
	select {
	case flag <- struct{}{}:
	default:
	}
}
