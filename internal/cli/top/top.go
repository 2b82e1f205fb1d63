// Package top is the screen of "ftpgate top": the sessions and forwards of the running ftpgates, with rates,
// on a terminal.
//
// State is pure: events in, a new state and requests out, and Lines draws it from nothing else. Run connects
// it to a terminal and to a Source. What clients and servers have sent is printed only after package terminal
// has escaped it. The package finds no ftpgate and decides nothing about sessions.
package top

import (
	"context"
	"net/netip"
	"time"

	"ftpgate/internal/cli/terminal"
	"ftpgate/internal/observe/sessions"
	"ftpgate/internal/ops/admin"
)

// Source has the running ftpgates. Several goroutines call its methods.
type Source interface {
	// Poll asks all ftpgates, for ended sessions too if ended says so. It waits about a second at most: of
	// one that has not answered by then it returns the last answer.
	Poll(ctx context.Context, ended bool) []Instance
	// Explain returns a session with its time line.
	Explain(ctx context.Context, of SessionID) (sessions.Explained, error)
	// Kill ends a session.
	Kill(ctx context.Context, of SessionID) error
	// Ban bans addresses at the ftpgate that has a key.
	Ban(ctx context.Context, key string, b admin.BanRequest) (admin.Banned, error)
}

// Instance is a running ftpgate, as it was when it answered last.
type Instance struct {
	Key      string // no other ftpgate has it, also not the same one after a restart
	PID      int    // of its process; 0: unknown
	Title    string // what it serves, like "process 12: /etc/ftpgate/ftpgate.toml"
	Status   admin.Status
	Sessions []sessions.Session
	At       time.Time // of the answer; zero: there was none
	Problem  string    // why it does not answer now; empty: it does
}

// SessionID names a session of all ftpgates.
type SessionID struct {
	Key string // of its instance
	ID  string
}

// Request is what a state wants done. The zero value of each field asks for nothing.
type Request struct {
	Quit, Suspend, Redraw, Poll bool

	Kill SessionID
	Ban  struct {
		Key string
		admin.BanRequest
	}
}

// The events of a state.
type (
	// Size is the terminal's new size.
	Size struct{ Width, Height int }
	// Key is a key that was pressed: its character, or a name like "enter", "pgup" or "ctrl+c".
	Key string
	// Paste is text that was pasted: it means no keys.
	Paste string
	// Answer is what a poll has found.
	Answer struct {
		At        time.Time
		Instances []Instance
	}
	// TimeLine is a session that the state has asked for.
	TimeLine struct {
		Of        SessionID
		Explained sessions.Explained
		Err       error // why there is none
	}
	// Result says how a request ended.
	Result struct {
		Text   string
		Failed bool
	}
)

// Words are the texts that other commands print, too.
type Words struct {
	// Explain lays out a session with its verdict and time line, as "ftpgate explain" does.
	Explain func(s terminal.Terminal, e sessions.Explained, now time.Time) []string
	// Activity says what a session does, and its fault.
	Activity func(one sessions.Session, now time.Time) string
	// Health says whether a server answers.
	Health func(h *admin.Health, now time.Time) string
}

// banReason is the reason of a ban, for those who read "ftpgate bans".
const banReason = "ftpgate top"

// banLengths are the answers to the question of how long.
var banLengths = []struct {
	key, text string
	length    time.Duration // 0: until it is lifted
}{
	{"h", "an hour", time.Hour}, {"d", "a day", 24 * time.Hour}, {"u", "until it is lifted", 0},
}

// banOf returns the request for a ban of a session's client.
func banOf(key string, client netip.Addr, length time.Duration) (r Request) {
	client = client.Unmap().WithZone("")
	r.Ban.Key = key
	r.Ban.BanRequest = admin.BanRequest{Prefix: netip.PrefixFrom(client, client.BitLen()), For: length,
		Reason: banReason}
	return r
}
