package ban

import (
	"fmt"
	"net/netip"
	"strings"

	"ftpgate/internal/core/forward"
)

// Deny is what a configuration denies: addresses and prefixes, and files of them.
type Deny struct {
	Prefixes []netip.Prefix
	Files    []string // absolute paths
}

// ParseFile reads the text of a file: an address or a prefix a line; what follows a # or a ; is a comment.
// The text may begin with a byte order mark, as editors of Windows write it. An error begins with the number
// of the line. After it nothing of the file counts.
func ParseFile(text string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	number := 0
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		number++
		if i := strings.IndexAny(line, "#;"); i >= 0 {
			line = line[:i]
		}
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		p, err := ParseDenied(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if len(all) == MaxDenied {
			return nil, fmt.Errorf("line %d: it has more than %d addresses and prefixes", number, MaxDenied)
		}
		all = append(all, p)
	}
	return all, nil
}

// shownText is how many bytes of a bad line an error repeats.
const shownText = 60

// ParseDenied reads an address or a prefix that a configuration denies.
func ParseDenied(text string) (netip.Prefix, error) {
	if len(text) > shownText {
		return netip.Prefix{}, fmt.Errorf("%q...: want an address or a prefix", text[:shownText])
	}
	p, err := forward.ParseClient(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	if p.Bits() == 0 {
		return netip.Prefix{}, fmt.Errorf("%s is every client: want fewer, or remove the forwards", p)
	}
	return p, nil
}
