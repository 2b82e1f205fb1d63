package tlskeys

import (
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"ftpgate/internal/core/finding"
)

const (
	// lookAgain is how old the knowledge of a file may be for a new session: a look costs a system call or
	// two, and a thousand sessions a second need not pay for it.
	lookAgain = time.Second
	// settle is how long files may be unusable before the log says so: those who renew a certificate
	// write it and its key one after the other.
	settle = 10 * time.Second
)

// watched is what files hold, read again when they change.
type watched[T any] struct {
	files []string
	make  func(now time.Time) *finding.Finding // makes the files where that is needed; nil: somebody else does
	read  func() (*T, *finding.Finding)
	log   *slog.Logger

	value atomic.Pointer[T]
	asked atomic.Int64 // when the files were last looked at: Unix time in nanoseconds

	mu     sync.Mutex // held while files are looked at
	stamps []stamp    // of the files that value was read from
	broken *broken    // what has kept newer files from being used
}

// broken is files that cannot be used.
type broken struct {
	stamps []stamp
	since  time.Time
	told   bool
}

// stamp is by what a changed file is known. The zero value is a file that is not there.
type stamp struct {
	modified int64 // Unix time in nanoseconds
	size     int64
	inode    uint64
}

// first reads the files. The fault is the reader's, and then w is of no use.
func (w *watched[T]) first(now time.Time) *finding.Finding {
	value, stamps, fault := w.load(now)
	if fault != nil {
		return fault
	}
	w.value.Store(value)
	w.stamps = stamps
	w.asked.Store(now.UnixNano())
	return nil
}

// load reads the files, and how they looked before that: what is written in between is seen by the next look.
func (w *watched[T]) load(now time.Time) (*T, []stamp, *finding.Finding) {
	if w.make != nil {
		if fault := w.make(now); fault != nil {
			return nil, stampsOf(w.files), fault
		}
	}
	stamps := stampsOf(w.files)
	value, fault := w.read()
	return value, stamps, fault
}

// get returns what the files hold, not much more than lookAgain ago.
func (w *watched[T]) get(now time.Time) *T {
	asked := w.asked.Load()
	if now.UnixNano()-asked >= int64(lookAgain) && w.asked.CompareAndSwap(asked, now.UnixNano()) {
		w.check(now, false)
	}
	return w.value.Load()
}

// check reads the files if they have changed, or in any case.
func (w *watched[T]) check(now time.Time, anyhow bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !anyhow && slices.Equal(stampsOf(w.files), w.stamps) {
		w.broken = nil
		return
	}
	value, stamps, fault := w.load(now)
	if fault != nil {
		w.spoilt(stamps, fault, now)
		return
	}
	w.value.Store(value)
	w.stamps, w.broken = stamps, nil
	w.log.Info("the file has changed: sessions that begin from now on use the new one", "file", w.files[0])
}

// spoilt logs files that cannot be used, once for each change and when they have had time to settle.
// They are read again at the next look in any case: a file can change without its stamp.
func (w *watched[T]) spoilt(stamps []stamp, fault *finding.Finding, now time.Time) {
	if w.broken == nil || !slices.Equal(stamps, w.broken.stamps) {
		w.broken = &broken{stamps: stamps, since: now}
	}
	if w.broken.told || now.Sub(w.broken.since) < settle {
		return
	}
	w.broken.told = true
	w.log.Error("the file has changed and cannot be used: what it held before stays in use",
		"file", w.files[0], "error", fault.Text, "remedy", fault.Remedy)
}

// stampsOf looks at files.
func stampsOf(files []string) []stamp {
	stamps := make([]stamp, len(files))
	for i, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			continue
		}
		stamps[i] = stamp{modified: info.ModTime().UnixNano(), size: info.Size()}
		if sys, ok := info.Sys().(*syscall.Stat_t); ok {
			stamps[i].inode = sys.Ino
		}
	}
	return stamps
}
