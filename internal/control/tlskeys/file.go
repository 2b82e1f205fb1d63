package tlskeys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/kernel/system"
)

// maxFile is the limit of a PEM file in bytes: all public authorities together need a quarter of it.
const maxFile = 1 << 20

func newFault(key, text, remedy string) *finding.Finding {
	return &finding.Finding{Key: key, Text: text, Remedy: remedy}
}

func newWarning(key, text, remedy string) *finding.Finding {
	return &finding.Finding{Key: key, Text: text, Remedy: remedy, Severity: finding.Warning}
}

// readFile reads a file of at most that many bytes. It does not wait for a writer, as opening a pipe would.
func readFile(key, path string, most int64) ([]byte, *finding.Finding) {
	data, err := system.ReadFile(path, most)
	switch {
	case errors.Is(err, system.ErrNotFile):
		return nil, newFault(key, path+" is not a file", "name a file in PEM")
	case errors.Is(err, system.ErrTooLarge):
		return nil, newFault(key, fmt.Sprintf("%s is larger than %d KiB", path, most>>10),
			"name a file in PEM")
	case err != nil:
		return nil, unreadable(key, path, err)
	}
	return data, nil
}

// unreadable says why this user cannot read a file.
func unreadable(key, path string, err error) *finding.Finding {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return newFault(key, path+" does not exist", "name the file where it is, by its whole path")
	case errors.Is(err, fs.ErrPermission):
		return newFault(key, fmt.Sprintf("%s may not be read by %s", path, whoReads()),
			"let that user read the file, and enter the directories above it (chgrp and chmod 640, "+
				"or setfacl)")
	}
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok { // its text repeats the path
		err = pathErr.Err
	}
	return newFault(key, fmt.Sprintf("%s cannot be read: %v", path, err), "make it readable")
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
	return newWarning(key, fmt.Sprintf("%s holds a private key, and every user of this host may read or "+
		"change it (mode %04o)", path, info.Mode().Perm()), "chmod o= "+path)
}
