package verdict

import (
	"strings"
)

// FailedToConnect reports whether a server's reply says that the data connection failed (RFC 959 section
// 4.2).
func FailedToConnect(reply string) bool { return strings.HasPrefix(reply, "425") }

// GivesReason reports whether a server's reply gives a reason for a failed transfer that is not the data
// connection, such as a full disk (RFC 959 section 4.2: 450 to 452, 550 to 553).
func GivesReason(reply string) bool {
	return len(reply) > 3 && (reply[:2] == "45" || reply[:2] == "55")
}
