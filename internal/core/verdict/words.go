package verdict

import (
	"strings"
	"time"
)

// FailedToConnect reports whether a server's reply says that the data connection did not come about
// (RFC 959 section 4.2).
func FailedToConnect(said string) bool { return strings.HasPrefix(said, "425") }

// Round makes a duration one for people.
func Round(d time.Duration) time.Duration {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond)
	case d < time.Second:
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(10 * time.Millisecond)
}
