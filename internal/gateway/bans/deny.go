package bans

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"ftpgate/internal/core/ban"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/kernel/system"
)

// maxFile is how large a denied file may be, in bytes.
const maxFile = 4 << 20

// Denied is what a configuration denies, with what its files had when they were read.
type Denied struct {
	deny     ban.Deny
	prefixes []netip.Prefix // of deny itself, then of each file
	ends     []int          // of each file's prefixes
	stamps   []system.FileStamp
}

// find returns a denied prefix that has addresses of p, and where it stands; empty: there is none.
func (d *Denied) find(p netip.Prefix) (denied netip.Prefix, by string) {
	i := slices.IndexFunc(d.prefixes, p.Overlaps)
	if i < 0 {
		return netip.Prefix{}, ""
	}
	for file, end := range d.ends {
		if i >= len(d.deny.Prefixes) && i < end {
			return d.prefixes[i], d.deny.Files[file] + ", which deny names,"
		}
	}
	return d.prefixes[i], "deny in the file"
}

// Read reads the files that a configuration denies. It changes nothing: Deny does. If a finding is a fault,
// the result must not be used. One goroutine calls it.
func (k *Keeper) Read(d ban.Deny) (Denied, []finding.Finding) { return read(d, &k.disk, k.file) }

// Read is the Read of a Keeper that is used once.
func Read(d ban.Deny) (Denied, []finding.Finding) {
	return read(d, new(system.Patience), system.ReadFile)
}

// fileReader is system.ReadFile, but in tests.
type fileReader func(path string, most int64) ([]byte, error)

func read(d ban.Deny, disk *system.Patience, file fileReader) (Denied, []finding.Finding) {
	read := Denied{deny: d, prefixes: slices.Clone(d.Prefixes)}
	var err error
	if len(d.Files) > 0 {
		read.stamps, err = system.InTime(disk, func() ([]system.FileStamp, error) {
			return system.FileStamps(d.Files), nil
		})
	}
	if err != nil {
		return read, []finding.Finding{silence(err)}
	}
	var findings []finding.Finding
	for _, name := range d.Files {
		text, err := system.InTime(disk, func() ([]byte, error) { return file(name, maxFile) })
		prefixes, err := parseFile(name, text, err)
		if err != nil {
			findings = append(findings, finding.Finding{Code: "deny", Key: "deny", Text: err.Error(),
				Remedy: remedyOf(err)})
		}
		read.prefixes = append(read.prefixes, prefixes...)
		read.ends = append(read.ends, len(read.prefixes))
	}
	if len(read.prefixes) > ban.MaxDenied && len(findings) == 0 {
		findings = append(findings, finding.Finding{Code: "deny", Key: "deny",
			Text: fmt.Sprintf("deny has %d addresses and prefixes: want at most %d", len(read.prefixes),
				ban.MaxDenied),
			Remedy: "join them to wider prefixes, or block them in a firewall of its own"})
	}
	return read, findings
}

// silence is the finding about files whose disk does not answer.
func silence(err error) finding.Finding {
	return finding.Finding{Code: "deny", Key: "deny", Text: "the files of denied addresses cannot be read: " +
		err.Error(), Remedy: remedyOf(err)}
}

// parseFile returns the prefixes of a file that was read.
func parseFile(file string, text []byte, err error) ([]netip.Prefix, error) {
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		return nil, fmt.Errorf("%s cannot be read: %w", file, path.Err)
	}
	if errors.Is(err, system.ErrNoAnswer) {
		return nil, fmt.Errorf("%s cannot be read: %w", file, err)
	}
	if err != nil {
		return nil, err
	}
	all, err := ban.ParseFile(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return all, nil
}

// remedyOf says what to do about a file.
func remedyOf(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "let the user that ftpgate runs as read the file, and enter the directories above it"
	case errors.Is(err, fs.ErrNotExist):
		return "name the file where it is, by its whole path; an empty one denies no client"
	case errors.Is(err, system.ErrNoAnswer):
		return "look at the disk or the file server that has the file (mount, df)"
	case errors.Is(err, system.ErrNotFile), errors.Is(err, system.ErrTooLarge):
		return fmt.Sprintf("name a regular file, with at most %d addresses and prefixes", ban.MaxDenied)
	}
	return "write an address or a prefix on each line; what follows a # is a comment"
}

// Deny replaces what the list denies with what was read, and ends the sessions of those clients. It returns
// what the list denied before. The error is the kernel's; then nothing has changed.
func (k *Keeper) Deny(d Denied) (before Denied, err error) {
	k.changing.Lock()
	before = *k.denied
	err = k.denyLocked(d)
	k.changing.Unlock()
	if err == nil {
		k.unused.Store(nil)
		k.config.End(k.Refuses)
	}
	return before, err
}

func (k *Keeper) denyLocked(d Denied) error {
	err := k.changeLocked(func() error { k.list.Deny(d.prefixes); return nil })
	if err == nil {
		k.denied = &d
	}
	return err
}

// denyInPlaceOf is denyLocked, if before is still what the list denies.
func (k *Keeper) denyInPlaceOf(before *Denied, d Denied) (done bool, err error) {
	k.changing.Lock()
	defer k.changing.Unlock()
	if k.denied != before {
		return false, nil
	}
	err = k.denyLocked(d)
	return err == nil, err
}
