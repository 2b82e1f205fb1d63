// Package config declares every key of the file, which is also a flag of "ftpgate forward". It parses a file
// (TOML 1.0), and finds every fault of it at once, each with its line and column.
//
// It only reads: it never resolves a name, asks the kernel, reads the host's addresses or writes a file. A
// valid file may still ask for something that the host does not have.
package config

import (
	"bufio"
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"syscall"
	"time"

	"ftpgate/internal/core/ban"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/system"
)

// reference is the annotated reference file: it is sound, and has every key.
//
//go:embed ftpgate.toml
var reference string

// CommentedReference returns the reference file with every key commented out: a file that asks for nothing.
// A comment in prose has a space behind its #; without that # the line of a key is as in the reference file.
func CommentedReference() string {
	return uncommented.ReplaceAllString(reference, "#$0")
}

var uncommented = regexp.MustCompile(`(?m)^[^#\n].*$`)

const (
	// DefaultResolve is how often to resolve server names: a new address of a server is found soon, and ten
	// thousand names are no burden for a resolver.
	DefaultResolve = 30 * time.Second
	// DefaultDrain is how long running transfers may continue: longer than most listings and small files
	// take, and shorter than the 90 seconds after which systemd kills a service (DefaultTimeoutStopSec).
	DefaultDrain = 30 * time.Second
	// DefaultHealth is how often to ask each server whether it answers: often enough to notice an outage
	// before most clients, and seldom enough for a server's log.
	DefaultHealth = 30 * time.Second
	// minHealth and maxHealth bound it. More often would fill the servers' logs; a longer interval would be
	// useless.
	minHealth = 5 * time.Second
	maxHealth = 24 * time.Hour
	// maxDrain is a day: no stop takes longer.
	maxDrain = 24 * time.Hour
	// minResolve keeps a gateway from flooding its resolver with ten thousand names.
	minResolve = time.Second
	// maxSize is the largest file, in bytes. Ten thousand forwards with every key given are about 2 MiB; it
	// keeps a disk image or /dev/zero, given by mistake, out of memory.
	maxSize = 4 << 20
	// maxForwards bounds the cost of a file that repeats itself: reading stops there.
	maxForwards = 20_000
)

// Config is the content of a sound file.
type Config struct {
	Forwards []forward.Forward // at least one, in the file's order; forward.Check finds no fault in them
	Resolve  time.Duration     // how often to resolve server names again; at least a second
	// Drain is how long running transfers may continue at a stop and a reload; 0: not at all.
	Drain  time.Duration
	Health time.Duration // how often to ask each server whether it answers; 0: never
	Deny   ban.Deny      // the clients that no forward serves
	Admin  Admin         // the admin API
	Log    Log           // where to log transfers
}

// WaitsForRestart returns the tables in which c differs from the configuration of the start, and which only a
// start reads: "[admin]", "[log]".
func (c *Config) WaitsForRestart(start *Config) []string {
	var waiting []string
	if c.Admin != start.Admin {
		waiting = append(waiting, adminTable.header())
	}
	if c.Log != start.Log {
		waiting = append(waiting, logTable.header())
	}
	return waiting
}

// Loader reads a file that may be on a disk that does not answer. The zero value is ready for use, by one
// goroutine.
type Loader struct {
	disk system.Patience
	open func(path string) ([]byte, error) // nil: readFile
}

// Load reads and parses the file at path, which may be a pipe with a writer. It waits for a second or two
// at most. The error is Faults if the text is unsound, and wraps the *os.PathError if the file cannot be
// read, or system.ErrNoAnswer.
func (l *Loader) Load(path string) (*Config, error) {
	open := l.open
	if open == nil {
		open = readFile
	}
	text, err := system.InTime(&l.disk, func() ([]byte, error) { return open(path) })
	if errors.Is(err, system.ErrNoAnswer) {
		return nil, fmt.Errorf("config: %s cannot be read: %w", path, err)
	}
	if err != nil {
		return nil, err
	}
	return parse(path, bytes.NewReader(text))
}

// Load is the Load of a Loader that is used once.
func Load(path string) (*Config, error) { return new(Loader).Load(path) }

// readFile returns what is in the file at path, and no more than shows that it is too large.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO without a writer opens, too
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	defer f.Close()                                    // only read from: closing cannot lose anything
	_ = f.SetReadDeadline(time.Now().Add(time.Second)) // files on disks have no deadline
	r := bufio.NewReader(f)
	if _, err := r.Peek(1); err == io.EOF && isPipe(f) {
		return nil, fmt.Errorf("config: %s is a pipe, and no program writes to it: "+
			"name a file that can be read again at a reload", path)
	}
	text, err := io.ReadAll(io.LimitReader(r, maxSize+1)) // one byte more shows that it is too long
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return text, nil
}

// isPipe reports whether the file is a FIFO or a pipe.
func isPipe(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeNamedPipe != 0
}

// parse parses the text from r. The name of the file is only for the faults. The error is Faults if the text
// is unsound.
func parse(file string, r io.Reader) (*Config, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxSize+1)) // one byte more shows that it is too long
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	whole := func(text string) error {
		return Faults{{Place: finding.Place{File: file, Line: 1, Column: 1}, Text: text}}
	}
	switch {
	case len(text) > maxSize:
		return nil, whole(fmt.Sprintf("the file is larger than %d MiB: is it a configuration file?",
			maxSize>>20))
	case bytes.HasPrefix(text, []byte("\xff\xfe")), bytes.HasPrefix(text, []byte("\xfe\xff")):
		return nil, whole("the file is UTF-16: save it as UTF-8")
	}
	d := newDocument(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))) // some editors mark UTF-8
	d.read()
	d.check(file)
	if len(d.faults) > 0 {
		return nil, d.placedFaults(file)
	}
	return d.result(), nil
}

// result returns the Config of a sound document.
func (d *document) result() *Config {
	c := d.config
	c.Forwards = make([]forward.Forward, len(d.forwards))
	for i, f := range d.forwards {
		c.Forwards[i] = f.Forward
	}
	return &c
}
