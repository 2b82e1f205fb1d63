// Package refusal reports what was refused, corrected or cut off: to the session's record, to the counters
// and to the log.
package refusal

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/netip"

	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/observe/sessions"
)

// Refusal is something that was refused, corrected or cut off.
type Refusal struct {
	verdict.Refusal
	Err   error      // the cause; nil: there is none
	Peer  netip.Addr // the client
	User  string     // whose login failed, as the client spelled the name
	Verb  string     // of the client's last command; "": not a known one
	Reply string     // the server's last reply
	Fatal bool       // the session ends with it

	Unlogged bool // only recorded and counted: the log has enough of the session
}

// New returns a refusal with a reason in the words for a client. An empty code is the usual one of the kind.
func New(kind verdict.RefusalKind, code verdict.Code, reason string) Refusal {
	return Refusal{Refusal: verdict.Refusal{Kind: kind, Code: code, Reason: reason}}
}

// Goodbye returns the last line for the client, without its line end; "": none.
func (r Refusal) Goodbye() string {
	if r.Reason == "" {
		return ""
	}
	return "421 " + r.Reason
}

// FromData returns the refusal of a data connection by the data path.
func FromData(err error) Refusal {
	why := FailureOf(err)
	return Refusal{Err: err,
		Refusal: verdict.Refusal{Kind: verdict.RefusedBrokenTransfer, Reason: why.Reason,
			Remedy: why.Remedy}}
}

// FailureOf returns the data path's description of an error; empty: the error is not the path's.
func FailureOf(err error) pinhole.Failure {
	if f, ok := errors.AsType[*pinhole.Failure](err); ok {
		return *f
	}
	return pinhole.Failure{}
}

// Fault returns the refusal as the session's record keeps it. A code from the data path takes precedence over
// the kind's.
func (r Refusal) Fault() verdict.Fault {
	f := verdict.Fault{
		Code: r.Code, Verb: r.Verb, Reason: r.Reason, Peer: r.Peer, Remedy: r.Remedy, Fatal: r.Fatal,
	}
	if r.Err != nil && r.Err.Error() != r.Reason {
		f.Err = r.Err.Error()
	}
	known := FailureOf(r.Err).Fault
	switch {
	case known.Code != "":
		f.Code, f.Err = known.Code, known.Err
		if known.At.IsValid() {
			f.At = known.At
		}
	case f.Code == "":
		f.Code = r.Kind.Code()
	}
	switch failed := r.Reply != "" && r.Reply[0] >= '4'; {
	case f.Code == verdict.CodeLoginFailed && !f.Fatal, f.Code == verdict.CodeServerTurnedAway && failed:
		f.Reason = r.Reply
	case f.Code == verdict.CodeServerLeft && r.Verb == "" && failed: // it may say why
		f.Reason = cmp.Or(f.Reason, "the server closed the connection") + " after it said: " + r.Reply
	}
	return f
}

// Reporter records, counts and logs refusals. It may be used by several goroutines at once.
type Reporter struct {
	Log   *slog.Logger
	Count func(kind verdict.RefusalKind) // must not block
}

// Report records, counts and logs a refusal. who returns the attributes that identify the session in the log.
// Report does not record a broken transfer: the record gets it from the data connection. The kind NotRefused
// (the server refused, or the session ended without a refusal) is only recorded, as a fault, and only with a
// code.
func (t Reporter) Report(record *sessions.Record, r Refusal, who func() []slog.Attr) {
	fault := r.Fault()
	switch {
	case r.Kind == verdict.NotRefused:
		if r.Code != "" {
			record.Fault(fault)
		}
		return
	case r.Kind != verdict.RefusedBrokenTransfer:
		record.Refuse(fault)
	}
	t.Count(r.Kind)
	if r.Unlogged {
		return
	}
	// Programs such as fail2ban read these two messages: docs/banning.md has what of them stays as it is.
	message, attrs := "request refused", who()
	if r.Kind == verdict.RefusedLogin {
		message, attrs = "login failed", append(attrs, slog.String("user", r.User))
	}
	attrs = append(attrs, slog.String("kind", r.Kind.String()), slog.String("reason", r.Reason))
	if (r.Kind == verdict.RefusedLogin || r.Code == verdict.CodeServerTurnedAway) && r.Reply != "" {
		attrs = append(attrs, slog.String("reply", r.Reply))
	}
	if remedy := fault.Verdict().Remedy; remedy != "" {
		attrs = append(attrs, slog.String("remedy", remedy))
	}
	if r.Err != nil {
		attrs = append(attrs, slog.Any("err", r.Err))
	}
	t.Log.LogAttrs(context.Background(), slog.LevelWarn, message, attrs...)
}
