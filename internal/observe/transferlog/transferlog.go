// Package transferlog writes one record for every finished transfer: a line of JSON, a line in the xferlog
// format that tools for FTP server logs read, or both.
//
// It never makes a session wait: transfers go through a bounded queue to one goroutine, which writes each
// line with one write(2) to a file opened with O_APPEND, so that lines of two processes do not mix. If the
// queue is full or the disk does not accept a line, the line is missing from the log; the package counts and
// reports it. A process that is killed loses its queue: usually nothing, and at most 4 MiB (some 8,000
// transfers). The package never rotates a file: see Reopen.
//
// Locks: Log.mu is a leaf. Nothing is written while it is held.
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
	// maxQueuedBytes bounds the memory of transfers that wait to be written.
	maxQueuedBytes = 4 << 20
	// fixedSize is the memory of a transfer without its long texts, in bytes.
	fixedSize = 512
	// maxKeptBatch is the capacity, in transfers, up to which a batch's slice is reused.
	maxKeptBatch = 256
)

// Stdout is the file name that means standard output.
const Stdout = "-"

// Settings name the files of the log.
type Settings struct {
	Transfers string       // file for lines of JSON, one sessions.Transfer each; or Stdout; empty: none
	Xferlog   string       // file in the xferlog format, see xferlogLine; or Stdout; empty: none
	Log       *slog.Logger // receives reports of missing lines, and when lines are written again
}

// Log is the transfer log. It is safe for concurrent use.
type Log struct {
	log          *slog.Logger
	writerWake   chan struct{} // capacity 1: the writer has something to do
	reporterWake chan struct{} // capacity 1: there may be something to report
	writerDone   chan struct{} // closed when the writer has ended
	reporterDone chan struct{} // closed when the reporter has ended

	mu          sync.Mutex
	outputs     []*output // the slice never changes
	queue       []sessions.Transfer
	unwritten   int // transfers not yet written: in the queue, or in the writer's batch
	queuedBytes int // memory of the unwritten transfers
	closed      bool
	overflow    lossState
}

// Open opens the files, creates those that do not exist (mode 0640 less the umask), and starts writer and
// reporter. The caller calls Close. An error includes a remedy.
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

// open opens a file for appending. A pipe without a reader is an error; open does not wait for one.
func open(path string) (*os.File, error) {
	if path == Stdout {
		return os.Stdout, nil
	}
	f, err := openAppend(path)
	if err == nil {
		return f, nil
	}
	remedy := "name another file, or make this one writable"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		remedy = "make its directory, and let the user that ftpgate runs as write there"
	case errors.Is(err, fs.ErrPermission):
		remedy = "let the user that ftpgate runs as write there, or name another file"
	}
	return nil, fmt.Errorf("transfer log: %w: %s", err, remedy)
}

// Add queues a finished transfer. It returns at once, whatever the disk does. A transfer added after Close
// counts as lost.
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

// memorySize is the memory that a transfer needs, in bytes.
func memorySize(t *sessions.Transfer) int {
	return fixedSize + len(t.File) + len(t.User) + len(t.Verdict)
}

// Reopen opens the files again by their names, for logrotate. Transfers added from now on go to the new
// files; those in the queue may go to either. If Reopen cannot open a file, it continues with the old one and
// returns an error.
func (l *Log) Reopen() error {
	var errs []error
	for _, o := range l.outputs {
		if o.path == Stdout {
			continue
		}
		f, err := open(o.path)
		if err != nil {
			errs = append(errs, fmt.Errorf("%w; until then the file that was open is used", err))
			continue
		}
		l.mu.Lock()
		if !l.closed {
			o.next, f = f, o.next
		}
		l.mu.Unlock()
		if f != nil {
			f.Close() // cannot lose data: nothing was written to it
		}
	}
	wake(l.writerWake)
	return errors.Join(errs...)
}

// Close writes the queue, closes the files, and reports what is missing. If ctx is done earlier, the error
// says how many transfers may be missing; the goroutines then wait for the disk as long as the process lives.
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

// runWriter is the goroutine that writes lines.
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

// nextBatch waits for transfers and returns them, or false after the last ones. It reuses the slice of the
// previous batch.
func (l *Log) nextBatch(spent []sessions.Transfer) ([]sessions.Transfer, bool) {
	clear(spent) // frees their texts
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

// switchFiles switches to the files that Reopen has opened.
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

// releaseMemory frees the queue's room of a written transfer.
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

// count counts written and lost lines of a file.
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

func (l *Log) paths() string {
	var paths []string
	for _, o := range l.outputs {
		paths = append(paths, o.path)
	}
	return strings.Join(paths, ", ")
}

// wake wakes the goroutine that waits for flag.
func wake(flag chan<- struct{}) {
	select {
	case flag <- struct{}{}:
	default:
	}
}
