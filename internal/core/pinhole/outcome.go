package pinhole

import (
	"errors"
	"net/netip"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
)

// Outcome is the outcome of a data connection, so far or at its end.
type Outcome struct {
	Path           forward.DataPath // DataKernel or DataRelay: what carries it
	Counted        bool             // false: Connected, the bytes and Over are unknown
	Connected      time.Time        // when the connection, or its first packet, arrived; zero: none has
	Up, Down       int64            // payload from the client, and to it, in bytes
	UnexpectedPeer netip.Addr       // the last peer refused for its address; not valid: none
	Over           bool             // it has ended, and all bytes are counted

	// FinishReturnsNow reports that dataplane.Data.Finish would not wait.
	FinishReturnsNow bool
	// Complete reports that no failure is known: the data was delivered or is on its way, there was none, or
	// the path cannot know because both ends see a failure themselves (the kernel's path). It is false with
	// the Failure of a connection that broke, of a failed connect, and of TLS.
	Complete bool
	// ServerReset reports that the server's end was reset, or timed out, before its FIN: a download is cut
	// short, whatever the server's reply.
	ServerReset bool
	// BrokeAfterEnd reports that the Failure happened when nothing was left to be delivered: a transfer that
	// the server calls complete is complete.
	BrokeAfterEnd bool
	// NotResumed reports that TLS with the server was set up without resuming the session of the control
	// connection. Some servers then refuse data.
	NotResumed bool
	// Failure says what went wrong; nil: nothing so far. It is set if Complete is false. The watcher of flows
	// sets it for a connection that the kernel carries.
	Failure *Failure
}

// KernelOutcome returns the outcome of a connection that the kernel carries without counters. The ends see a
// failure themselves, so it counts as complete.
func KernelOutcome() Outcome {
	return Outcome{Path: forward.DataKernel, FinishReturnsNow: true, Complete: true}
}

// onlyUnexpectedPeer reports whether only a peer with an unexpected address connected, and was refused: in
// active mode most probably the server, from another address of its own. Then no data was transferred,
// whatever the server's reply.
func (o Outcome) onlyUnexpectedPeer() bool { return o.Connected.IsZero() && o.UnexpectedPeer.IsValid() }

// Lives reports whether a connection was made and is not over, as far as it is counted.
func (o Outcome) Lives() bool { return !o.Connected.IsZero() && !o.Over }

// Fault returns the known fault for the session's verdict; nil: none, or the session knows better.
func (o Outcome) Fault() *verdict.Fault {
	if o.Failure == nil || o.Failure.Fault.Code == "" {
		return nil
	}
	return &o.Failure.Fault
}

// ForClient returns the failure to report to the client, because the gateway broke the connection and the
// server cannot know why; nil: there is none.
func (o Outcome) ForClient() *Failure {
	if o.Complete || o.Failure == nil || o.Failure.Reason == "" {
		return nil
	}
	return o.Failure
}

// TransferEnd is how a server ended a transfer.
type TransferEnd struct {
	Complete    bool // the server calls it complete
	Held        bool // its reply is held back until a download is delivered
	DataRefused bool // it is not complete, because of its data connection
}

// TransferFailure returns why a transfer failed if the gateway knows more than the server's reply: data was
// not delivered, the gateway broke the connection, or the server most probably refused it for TLS that was
// not resumed. Otherwise it returns nil. A failure without a ReplyCode leaves the server's reply to the
// client.
func (o Outcome) TransferFailure(end TransferEnd) *Failure {
	switch {
	case end.Complete && o.Counted && o.onlyUnexpectedPeer():
		return &Failure{Err: errUnexpectedPeer, ReplyCode: 425,
			Reason: "no data connection from the expected address"}
	case o.ForClient() != nil:
		return o.ForClient()
	case end.Held && o.ServerReset && o.Down > 0 && !o.Complete: // else no file is cut short
		return o.Failure
	case end.DataRefused && o.NotResumed:
		return notResumed()
	}
	return nil
}

// errUnexpectedPeer is why no data was transferred, whatever the server's reply.
var errUnexpectedPeer = errors.New("the data connection came from another address, and was refused")

// notResumed returns why a server most probably refuses data.
func notResumed() *Failure {
	return &Failure{
		Err: errors.New("the server has not resumed the TLS session of its control connection on the data " +
			"connection"),
		Reason: "the server refused a data connection that did not resume the TLS session of its " +
			"control connection",
		Remedy: "have the server offer TLS 1.3, or tickets with TLS 1.2 (proftpd: TLSSessionTickets on), " +
			"or not ask for it (proftpd: TLSOptions NoSessionReuseRequired)",
		Fault: verdict.Fault{Code: verdict.CodeServerDataTLS},
	}
}

// Failure says why a data connection could not be opened, or how it broke.
type Failure struct {
	Err error // the cause, for the log

	// ReplyCode and Reason are for the FTP client, and contain nothing that a peer has sent. An
	// empty Reason means that the path has no words for the client.
	ReplyCode int
	Reason    string
	Remedy    string        // what the operator can do; empty: not known
	Fault     verdict.Fault // for the session's verdict; an empty Code: the session knows better
}

// Error returns the cause.
func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }
