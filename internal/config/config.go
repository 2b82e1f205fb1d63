// Package config turns the text of a configuration file (TOML 1.0) into checked forwards, and
// finds every fault of the text at once, each with its line and column.
//
// It only reads: it never resolves a name, asks the kernel, looks at the host's addresses or
// writes a file. What a sound file asks for may still not fit the host that it is used on.
package config

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"os"
	"time"

	"ftpgate/internal/core/forward"
)

// Reference is the annotated reference file: it is sound, and every key stands in it.
//
//go:embed ftpgate.toml
var Reference string

const (
	// DefaultResolve is how often server names are resolved where the file does not say.
	DefaultResolve = 30 * time.Second
	// DefaultDrain is how long running transfers may end where the file does not say.
	DefaultDrain = 30 * time.Second
	// maxDrain is a day: who waits longer for a stop has forgotten it.
	maxDrain = 24 * time.Hour
	// minResolve keeps a gateway from flooding its resolver with ten thousand names.
	minResolve = time.Second
	// maxSize bounds what is read, in bytes. Ten thousand forwards with every key given are
	// about 2 MiB; a path mistyped as a disk image or /dev/zero ends here, not in memory.
	maxSize = 16 << 20
)

// Config is what a sound file asks for.
type Config struct {
	Forwards []forward.Forward // at least one, in the file's order; dnat.Check finds no fault in them
	Resolve  time.Duration     // how often server names are resolved again; at least a second
	Drain    time.Duration     // how long running transfers may end at a stop and a reload; 0: not at all
	Admin    Admin             // how it can be asked and told while it runs
	Log      Log               // what is written down of transfers
}

// Load reads and parses the file at path. The error is Faults when the text is unsound, and
// wraps the *os.PathError when the file cannot be read.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	defer f.Close() // only read from: closing cannot lose anything
	text, err := readAll(f)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return parse(path, text)
}

// Parse parses what r holds. The name of the file stands in the faults and is not opened. The
// error is Faults when the text is unsound.
func Parse(file string, r io.Reader) (*Config, error) {
	text, err := readAll(r)
	if err != nil {
		return nil, fmt.Errorf("config: read %s: %w", file, err)
	}
	return parse(file, text)
}

// readAll reads one byte more than parse takes, so that it can tell a text that is too long.
func readAll(r io.Reader) ([]byte, error) {
	return io.ReadAll(io.LimitReader(r, maxSize+1))
}

func parse(file string, text []byte) (*Config, error) {
	if len(text) > maxSize {
		return nil, Faults{{File: file, Line: 1, Column: 1, Text: fmt.Sprintf("the file is larger than %d MiB: is it a configuration file?", maxSize>>20)}}
	}
	if bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")) {
		return nil, Faults{{File: file, Line: 1, Column: 1, Text: "the file is UTF-16: save it as UTF-8"}}
	}
	d := newDocument(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))) // some editors mark UTF-8
	d.read()
	d.check(file)
	if len(d.findings) > 0 {
		return nil, d.faults(file)
	}
	return d.config(), nil
}

// config is what a sound document asks for.
func (d *document) config() *Config {
	c := &Config{Forwards: make([]forward.Forward, len(d.forwards)), Resolve: d.resolve, Drain: d.drain, Admin: d.admin, Log: d.log}
	for i, f := range d.forwards {
		c.Forwards[i] = f.Forward
	}
	return c
}
