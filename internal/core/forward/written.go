package forward

import (
	"errors"
	"fmt"
	"strings"
)

// typographicQuotes are the quotes of word processors and web pages.
const typographicQuotes = "“”„‟‘’‚‛«»"

var errQuotes = errors.New("these quotes are a word processor's: " +
	"write straight ones, or none on a command line")

// checkWritten returns the mistake in a text, or nil: typographic quotes, a URL, or a list. want says what to
// write instead of a list.
func checkWritten(s, want string) error {
	switch {
	case strings.ContainsAny(s, typographicQuotes):
		return errQuotes
	case strings.Contains(s, "://"):
		return fmt.Errorf("a URL: want only its host and port, like %s", hostOfURL(s))
	case strings.ContainsAny(s, ",; "):
		return fmt.Errorf("a list: want %s", want)
	}
	return nil
}

// hostOfURL returns the part of a URL between the scheme, or the user, and the path.
func hostOfURL(s string) string {
	_, s, _ = strings.Cut(s, "://")
	s, _, _ = strings.Cut(s, "/")
	if _, host, found := strings.Cut(s, "@"); found {
		s = host
	}
	if s == "" {
		return "ftp.example.com:21"
	}
	return s
}
