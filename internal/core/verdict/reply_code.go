package verdict

import "strings"

// FailedToConnect reports whether a server's reply says that the data connection did not come about
// (RFC 959 section 4.2).
func FailedToConnect(said string) bool { return strings.HasPrefix(said, "425") }

// TellsWhy reports whether a server's reply gives a reason for a failed transfer that is not the data
// connection, such as a full disk (RFC 959 section 4.2: 450 to 452, 550 to 553).
func TellsWhy(said string) bool {
	return len(said) > 3 && (said[:2] == "45" || said[:2] == "55")
}
