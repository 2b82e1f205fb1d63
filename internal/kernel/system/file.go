package system

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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

// ReplaceFile writes a file of mode 0600, and makes its directory. Whoever reads it, also after the host has
// lost its power, finds the text of before or the new one. The new one is written to path + ".new" first;
// what is there is removed, and neither a pipe nor a link in its place makes ReplaceFile wait or write
// elsewhere. It waits for the disk.
func ReplaceFile(path string, text []byte) error {
	dir, next := filepath.Dir(path), path+".new"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(next,
		os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return syncDir(dir)
}

// syncDir has the disk keep which files a directory has.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
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
