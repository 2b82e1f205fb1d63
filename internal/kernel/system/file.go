package system

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// The errors of ReadFile, beside those of the kernel.
var (
	ErrNotFile  = errors.New("not a file")
	ErrTooLarge = errors.New("too large")
)

// ReadFile reads a regular file of at most so many bytes. It does not wait for a writer, as opening a pipe
// would. The error wraps ErrNotFile, ErrTooLarge, or the *fs.PathError.
func ReadFile(path string, most int64) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close() // only read from: closing cannot lose anything
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is %w", path, ErrNotFile)
	case info.Size() > most:
		return nil, fmt.Errorf("%s is %w: it has more than %d KiB", path, ErrTooLarge, most>>10)
	}
	return io.ReadAll(io.LimitReader(file, most))
}

// FileStamp shows whether a file has changed. The zero value is a file that does not exist.
type FileStamp struct {
	modified int64 // Unix time in nanoseconds
	size     int64
	inode    uint64
}

// FileStamps returns the stamps of files.
func FileStamps(paths []string) []FileStamp {
	stamps := make([]FileStamp, len(paths))
	for i, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		stamps[i] = FileStamp{modified: info.ModTime().UnixNano(), size: info.Size()}
		if sys, ok := info.Sys().(*syscall.Stat_t); ok {
			stamps[i].inode = sys.Ino
		}
	}
	return stamps
}
