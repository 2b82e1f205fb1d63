package tlskeys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"syscall"

	"ftpgate/internal/core/finding"
)

// maxFile is how large a PEM file may be, in bytes: all public authorities together take a quarter of that.
const maxFile = 1 << 20

// readFile reads a file of reasonable size. It does not wait for a writer, as opening a pipe would.
func readFile(key, path string) ([]byte, *finding.Finding) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, unreadable(key, path, err)
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, unreadable(key, path, err)
	case !info.Mode().IsRegular():
		return nil, &finding.Finding{Key: key, Text: path + " is not a file", Remedy: "name a file in PEM"}
	case info.Size() > maxFile:
		return nil, &finding.Finding{Key: key,
			Text: fmt.Sprintf("%s is larger than %d KiB", path, maxFile>>10), Remedy: "name a file in PEM"}
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		return nil, unreadable(key, path, err)
	}
	return data, nil
}

// unreadable says why this user cannot read a file.
func unreadable(key, path string, err error) *finding.Finding {
	cause := err
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) { // its text repeats the path
		cause = pathErr.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &finding.Finding{Key: key, Text: path + " does not exist",
			Remedy: "name the file where it is, by its whole path"}
	case errors.Is(err, fs.ErrPermission):
		return &finding.Finding{Key: key, Text: fmt.Sprintf("%s may not be read by %s", path, whoReads()),
			Remedy: "let that user read the file, and enter the directories above it (chgrp and chmod 640, " +
				"or setfacl)"}
	}
	return &finding.Finding{Key: key, Text: fmt.Sprintf("%s cannot be read: %v", path, cause),
		Remedy: "make it readable"}
}

// whoReads names the user of this process.
func whoReads() string {
	uid := os.Geteuid()
	if u, err := user.Current(); err == nil && u.Username != "" {
		return fmt.Sprintf("user %s (uid %d)", u.Username, uid)
	}
	return fmt.Sprintf("uid %d", uid)
}

// worldReadable warns of a key that every user of the host may read or change.
func worldReadable(key, path string) *finding.Finding {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o006 == 0 {
		return nil
	}
	return &finding.Finding{Key: key, Severity: finding.Warning,
		Text: fmt.Sprintf("%s holds a private key, and every user of this host may read or change it "+
			"(mode %04o)", path, info.Mode().Perm()),
		Remedy: "chmod o= " + path}
}
