package tlskeys

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/kernel/system"
)

const (
	// checkInterval is how old the last check of a file may be for a new session. A check costs a system call
	// or two, too many for a thousand sessions a second.
	checkInterval = time.Second
	// unusableTime is how long files may be unusable before the log says so: a renewal writes the certificate
	// and its key one after the other.
	unusableTime = 10 * time.Second
)

// watched is the parsed content of files, read again when they change.
type watched[T any] struct {
	paths []string
	make  func(now time.Time) *finding.Finding // writes the files if necessary; nil: another program does
	read  func() (*T, *finding.Finding)
	log   *slog.Logger

	value   atomic.Pointer[T]
	checked atomic.Int64 // when the files were last checked: Unix time in nanoseconds

	mu       sync.Mutex         // held during a check
	stamps   []system.FileStamp // of the files that value was read from
	rejected *rejection         // the newer files that cannot be used
}

// rejection is about files that cannot be used.
type rejection struct {
	stamps []system.FileStamp
	since  time.Time
	logged bool
}

// load reads the files for the first time. After a fault, w must not be used.
func (w *watched[T]) load(now time.Time) *finding.Finding {
	value, stamps, fault := w.readAll(now)
	if fault != nil {
		return fault
	}
	w.value.Store(value)
	w.stamps = stamps
	w.checked.Store(now.UnixNano())
	return nil
}

// readAll returns the content of the files, and their stamps from before reading, so that the next check
// notices a write during it.
func (w *watched[T]) readAll(now time.Time) (*T, []system.FileStamp, *finding.Finding) {
	if w.make != nil {
		if fault := w.make(now); fault != nil {
			return nil, system.FileStamps(w.paths), fault
		}
	}
	stamps := system.FileStamps(w.paths)
	value, fault := w.read()
	return value, stamps, fault
}

// get returns the content of about checkInterval ago at most, or older while another goroutine reads the
// files: a handshake does not wait for it.
func (w *watched[T]) get(now time.Time) *T {
	last := w.checked.Load()
	if now.UnixNano()-last >= int64(checkInterval) && w.checked.CompareAndSwap(last, now.UnixNano()) &&
		w.mu.TryLock() {
		defer w.mu.Unlock()
		w.checkLocked(now, false)
	}
	return w.value.Load()
}

// check reads the files if they have changed, or always.
func (w *watched[T]) check(now time.Time, always bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.checkLocked(now, always)
}

// checkLocked is check for a caller that holds mu.
func (w *watched[T]) checkLocked(now time.Time, always bool) {
	if !always && slices.Equal(system.FileStamps(w.paths), w.stamps) {
		w.rejected = nil
		return
	}
	value, stamps, fault := w.readAll(now)
	if fault != nil {
		w.reject(stamps, fault, now)
		return
	}
	w.value.Store(value)
	w.stamps, w.rejected = stamps, nil
	w.log.Info("the file has changed: sessions that begin from now on use the new one", "file", w.paths[0])
}

// reject logs files that cannot be used: once for each change, and not before unusableTime. The next check
// reads them again in any case, because a file can change without its stamp.
func (w *watched[T]) reject(stamps []system.FileStamp, fault *finding.Finding, now time.Time) {
	if w.rejected == nil || !slices.Equal(stamps, w.rejected.stamps) {
		w.rejected = &rejection{stamps: stamps, since: now}
	}
	if w.rejected.logged || now.Sub(w.rejected.since) < unusableTime {
		return
	}
	w.rejected.logged = true
	w.log.Error("cannot use the changed file; its previous content stays in use",
		"file", w.paths[0], "error", fault.Text, "remedy", fault.Remedy)
}
