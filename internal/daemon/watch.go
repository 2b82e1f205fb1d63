package daemon

import (
	"slices"
	"time"

	"ftpgate/internal/kernel/system"
)

// watchTime is how often the configuration file is checked for changes. A check is one system call.
const watchTime = time.Second

// FileWatch notices that the configuration file has changed: written, or replaced by a rename or by another
// target of a link, as Kubernetes replaces the files of a ConfigMap. Only one goroutine uses it.
type FileWatch struct {
	file string
	read []system.FileStamp // when it was last read
	last []system.FileStamp // at the last check
	disk system.Patience
}

// WatchFile watches a file from now on. Call it before you read the file for the first time.
func WatchFile(file string) *FileWatch {
	w := &FileWatch{file: file}
	w.reads()
	return w
}

// reads is called before the file is read again.
func (w *FileWatch) reads() {
	if w != nil {
		w.read = w.stamps()
	}
}

// changed reports whether the file differs from what was read. It was the same for two checks then: a program
// may be writing it.
func (w *FileWatch) changed() bool {
	now := w.stamps()
	if now == nil { // the disk does not answer
		return false
	}
	settled := slices.Equal(now, w.last)
	w.last = now
	return settled && !slices.Equal(now, w.read)
}

// stamps returns nil if the disk does not answer.
func (w *FileWatch) stamps() []system.FileStamp {
	stamps, _ := system.InTime(&w.disk, func() ([]system.FileStamp, error) {
		return system.FileStamps([]string{w.file}), nil
	})
	return stamps
}

// ticks returns when to check the file: never if there is no watch. The caller stops it.
func (w *FileWatch) ticks() (ticks <-chan time.Time, stop func()) {
	if w == nil {
		return nil, func() {}
	}
	ticker := time.NewTicker(watchTime)
	return ticker.C, ticker.Stop
}
