// Package admin is where a running ftpgate is asked and told: HTTP with JSON on a unix socket, and on TCP
// where that is wanted, and the client of it. docs/api.md is its reference.
//
// It shows and passes on; what there is to know, and what is to be done, is the Source's. It never serves
// beyond the loopback to somebody who has no token.
package admin

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"strings"

	"ftpgate/internal/observe/sessions"
)

// Source is what the server asks of the daemon. Its methods are called from several goroutines.
type Source interface {
	// Status tells how the daemon is.
	Status() Status
	// Sessions yields the sessions that run, or else those that have ended, in the order in which they
	// began. Those of the moment of the call: one that ends while the others are yielded is yielded, too.
	Sessions(ended bool) iter.Seq[sessions.Session]
	// Explain returns a session with its time line; false: it is not known, or not any more.
	Explain(id string) (sessions.Explained, bool)
	// Kill ends a session. The error is ErrNoSession where there is none, and ErrNotNow where it cannot be
	// ended, as one that has ended.
	Kill(id string) error
	// Reload reads the configuration again, and returns when it holds. The error is ErrFile where the file is
	// unsound, and ErrNotNow where there is none.
	Reload(ctx context.Context) error
}

// What a Source's errors are made of, behind which the client's can be told apart, too.
var (
	ErrNoSession = errors.New("there is no such session")
	ErrNotNow    = errors.New("not possible now")
	ErrFile      = errors.New("the file is unsound, and nothing has changed")
)

// Error is what the server answers where it does not do what it is asked for. A Source may return one, to
// say what is to be done; its Kind is then one of the above, or nil.
type Error struct {
	Text   string `json:"error"`            // a sentence; of an unsound file a line for each fault
	Remedy string `json:"remedy,omitempty"` // another one; empty: nobody knows
	Kind   error  `json:"-"`                // nil: of no kind that a caller could tell apart
	status int    // of HTTP; 0: the kind's
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

// kindStatus are the statuses of HTTP that stand for a kind of error.
var kindStatus = []struct {
	kind   error
	status int
}{
	{ErrNoSession, http.StatusNotFound},
	{ErrNotNow, http.StatusConflict},
	{ErrFile, http.StatusUnprocessableEntity},
}

// errorAnswer makes an answer of a Source's error.
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
