// Package admin is the admin API of a running ftpgate, and its client: HTTP with JSON on a unix socket, and
// on TCP if configured. docs/api.md is its reference.
//
// A Source has the answers and carries out the requests. It never serves beyond the loopback without a token.
package admin

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"net/netip"
	"strings"

	"ftpgate/internal/core/ban"
	"ftpgate/internal/observe/sessions"
)

// Source is the server's access to the daemon. Several goroutines call its methods.
type Source interface {
	// Status returns the state of the daemon.
	Status() Status
	// Sessions yields the running sessions, or those that have ended, in the order in which they began. They
	// are those at the time of the call: it also yields one that ends meanwhile.
	Sessions(ended bool) iter.Seq[sessions.Session]
	// Explain returns a session with its time line; false: the session is unknown, or no longer kept.
	Explain(id string) (sessions.Explained, bool)
	// Kill ends a session. The error is ErrNoSession if there is none, and ErrNotNow if it cannot be ended,
	// for example because it has ended.
	Kill(id string) error
	// Doctor returns what ftpgate doctor finds on this host. The error says that the host was not examined
	// in time.
	Doctor(ctx context.Context) (Findings, error)
	// Bans returns who is banned.
	Bans() Bans
	// Ban bans addresses, or changes their ban. The error wraps ban.ErrUnfit or ban.ErrTooMany, or is the
	// kernel's.
	Ban(b BanRequest) (Banned, error)
	// Unban lifts a ban. The error wraps ban.ErrNotBanned, or is the kernel's.
	Unban(p netip.Prefix) (Unbanned, error)
	// Reload reads the configuration again, and returns when it is in effect. The error is ErrFile if the
	// file is unsound, and ErrNotNow if there is no file.
	Reload(ctx context.Context) error
}

// The kinds of a Source's errors. Those of the client wrap them, too.
var (
	ErrNoSession = errors.New("there is no such session")
	ErrNotNow    = errors.New("not possible now")
	ErrFile      = errors.New("the file is invalid, and nothing has changed")
)

// Error is the answer to a request that the server does not carry out. A Source may return one, to give a
// remedy; its Kind is then one of the above, or nil.
type Error struct {
	Text   string `json:"error"`            // a sentence; for an invalid file one line for each fault
	Remedy string `json:"remedy,omitempty"` // what to do, another sentence; empty: unknown
	Kind   error  `json:"-"`                // nil: none of those above
	status int    // of HTTP; 0: that of the kind
}

func (e *Error) Error() string {
	switch {
	case e.Remedy == "":
		return e.Text
	case strings.Contains(e.Text, "\n"):
		return e.Text + "\n" + e.Remedy
	}
	return e.Text + ": " + e.Remedy
}

func (e *Error) Unwrap() error { return e.Kind }

// kindStatus has the HTTP status of each kind of error.
var kindStatus = []struct {
	kind   error
	status int
}{
	{ErrNoSession, http.StatusNotFound},
	{ErrNotNow, http.StatusConflict},
	{ErrFile, http.StatusUnprocessableEntity},
	{ban.ErrUnfit, http.StatusBadRequest},
	{ban.ErrTooMany, http.StatusConflict},
	{ban.ErrNotBanned, http.StatusNotFound},
}

// errorAnswer turns a Source's error into an answer.
func errorAnswer(err error) *Error {
	e := &Error{Text: err.Error()}
	if own := (*Error)(nil); errors.As(err, &own) {
		*e = *own
	}
	if e.status != 0 {
		return e
	}
	e.status = http.StatusInternalServerError
	for _, k := range kindStatus {
		if errors.Is(err, k.kind) {
			e.Kind, e.status = k.kind, k.status
		}
	}
	return e
}
