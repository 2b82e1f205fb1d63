package cli

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/ban"
	"ftpgate/internal/observe/sessions"
	"ftpgate/internal/ops/admin"
)

// TestCompleteSessions: the sessions, bans and forwards of the running ftpgate are offered, with what tells
// one from another; what a user typed does nothing to the terminal.
func TestCompleteSessions(t *testing.T) {
	one := oneSession(time.Now())
	one.User = "an\x1b[2Jna"
	socket := answering(t, &answers{running: []sessions.Session{one},
		bans: admin.Bans{Bans: []ban.Ban{{Prefix: netip.MustParsePrefix("192.0.2.7/32"),
			Reason: "sp\x1bam"}}},
		status: admin.Status{Forwards: []admin.Forward{{Name: "archive", Listen: ":2121"}}}})
	const session = "3p5kx-17\tarchive 192.168.5.17 an\\x1b[2Jna\n:4\n"
	for _, tt := range []struct{ words, want string }{
		{"explain --socket " + socket + " ", session},
		{"kill --socket " + socket + " ", session},
		{"kill --socket " + socket + " 3p5kx-17 ", ":4\n"},
		{"unban --socket " + socket + " ", "192.0.2.7\tsp\\x1bam\n:4\n"},
		{"sessions --socket " + socket + " --forward ", "archive\t:2121\n:4\n"},
	} {
		var out, errs strings.Builder
		args := append([]string{"__complete"}, strings.Split(tt.words, " ")...)
		if status := Main(args, strings.NewReader(""), &out, &errs); status != 0 || out.String() != tt.want {
			t.Errorf("%q: got exit status %d, %s\n%s\nwant\n%s", tt.words, status, &errs, &out, tt.want)
		}
	}
}
