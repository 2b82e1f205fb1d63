// Package sessions records what an operator asks about sessions: who is connected, which transfers run, the
// time line, and why a session failed, in one sentence with a remedy.
//
// The proxy and the watcher of kernel connections record sessions here; the admin API, the metrics and the
// transfer log read them. The package also passes an operator's kill to the session (Record.OnKill). It does
// no I/O, and bounds its memory: see Log.
//
// Locks: Log.mu, then Record.mu, then those of Meter.Outcome. The locks of the forwards' sums are leaves.
package sessions

import (
	"net/netip"
	"slices"
	"time"

	"ftpgate/internal/core/verdict"
)

// Session is a snapshot of a session. Its JSON names are part of the interface.
type Session struct {
	ID       string         `json:"id"`
	Forward  string         `json:"forward"`
	Tracking string         `json:"tracking"` // "proxy" or "kernel"
	Client   netip.AddrPort `json:"client"`
	Gateway  netip.AddrPort `json:"gateway"` // the address that its connection arrived at
	// who passed the connection on, with a PROXY protocol header; absent: nobody
	Balancer netip.AddrPort `json:"balancer,omitzero"`
	// the address that the client dialled, as the balancer says; absent: Gateway
	Dialled netip.AddrPort `json:"dialled,omitzero"`
	Server  netip.AddrPort `json:"server"` // empty: not connected yet
	User    string         `json:"user,omitempty"`
	Since   time.Time      `json:"since"`
	// time of the last line, or the start of the running transfer
	Active time.Time `json:"active"`
	Ended  time.Time `json:"ended,omitzero"` // zero: it is running
	State  State     `json:"state"`
	// of the last data connection: "PASV", "EPSV", "PORT" or "EPRT"; with tracking kernel, "passive" or
	// "active"
	Mode string `json:"mode,omitempty"`
	TLS  TLS    `json:"tls,omitzero"` // of the control connections
	// the subject of the certificate that the client presents; empty: none
	Certificate string `json:"certificate,omitempty"`
	// what carries the last data connection: "kernel" or "relay"
	Path     string          `json:"path,omitempty"`
	Transfer *Transfer       `json:"transfer"` // the running one; null: none
	Totals   Totals          `json:"totals"`
	Refused  int             `json:"refused"` // how often the gateway refused or corrected something
	Verdict  verdict.Verdict `json:"verdict"`
}

// Failed reports whether something failed in a session that has ended. A harmless end, such as an idle
// client's, is no failure.
func (s Session) Failed() bool {
	switch s.Verdict.Code {
	case verdict.CodeFine, verdict.CodeServerRefusedCommand:
		return false
	case verdict.CodeIdle, verdict.CodeShutDown, verdict.CodeKilled, verdict.CodeBanned:
		return s.Totals.Failed > 0
	}
	return true
}

// State is what a session is doing.
type State string

// The states.
const (
	StateConnecting State = "connecting" // to the server
	StateGreeting   State = "greeting"   // the server has not greeted yet
	StateLogin      State = "login"      // no user is logged in
	StateIdle       State = "idle"
	StateCommand    State = "command" // the server has not replied yet
	StateTransfer   State = "transfer"
	StateThrough    State = "passthrough" // encrypted end to end: the gateway cannot read it
	StateData       State = "data"        // the control connections are closed, a data connection is open
	StateEnded      State = "ended"
)

// TLS is the encryption of a session by leg; empty: in clear.
type TLS struct {
	Client string `json:"client,omitempty"` // like "TLS 1.3", or "end to end"
	Server string `json:"server,omitempty"`
}

// Totals sums up the transfers of a session. A listing is a transfer.
type Totals struct {
	Transfers int   `json:"transfers"`  // completed ones
	Failed    int   `json:"failed"`     // also data connections that failed before a transfer used them
	Up        int64 `json:"bytes_up"`   // from the client to the server, in bytes of files and listings
	Down      int64 `json:"bytes_down"` // to the client
}

// Transfer is one file or listing over one data connection.
type Transfer struct {
	Session string         `json:"session"`
	Forward string         `json:"forward"`
	Client  netip.Addr     `json:"client"`
	Server  netip.AddrPort `json:"server"`
	User    string         `json:"user,omitempty"`
	// as in Session
	Certificate string `json:"certificate,omitempty"`
	// "RETR", "STOR", "LIST", ...; empty: the gateway could not read it
	Verb      string    `json:"command"`
	Direction Direction `json:"direction"`
	File      string    `json:"file,omitempty"` // as the client named it
	// "A" or "I" (RFC 959 section 3.1.1), as the client set it last; empty: never
	Type  string    `json:"type,omitempty"`
	Mode  string    `json:"mode,omitempty"` // as in Session
	Path  string    `json:"path,omitempty"` // as in Session
	TLS   TLS       `json:"tls,omitzero"`   // of the data connection
	Began time.Time `json:"began"`
	// when the data connection was established, or its first packet arrived
	Connected time.Time `json:"connected,omitzero"`
	Ended     time.Time `json:"ended,omitzero"`    // zero: it is running
	Bytes     int64     `json:"bytes"`             // so far; in the direction of the transfer
	Rate      int64     `json:"rate"`              // bytes per second since it began
	Complete  bool      `json:"complete"`          // the server said so, and all data was delivered
	Verdict   string    `json:"verdict,omitempty"` // why it failed
	number    int       // of its data connection
}

// Direction is the direction of a transfer's data.
type Direction string

// The directions.
const (
	Download Direction = "download" // to the client: RETR and listings
	Upload   Direction = "upload"   // from the client: STOR, STOU and APPE
	Unknown  Direction = "unknown"  // the gateway could not read the command
)

// Event is one entry of a session's time line.
type Event struct {
	At   time.Time `json:"at"`
	Kind Kind      `json:"kind"`
	// the number of its data connection, from 1; 0: none
	Data int    `json:"data,omitempty"`
	Text string `json:"text"`
}

// Kind says what an event is about.
type Kind uint8

// The kinds of events.
const (
	KindSession Kind = iota // it begins, is connected, ends
	KindCommand             // the client's
	KindReply               // the server's
	KindAnswer              // the gateway's own reply to the client
	KindAsk                 // the gateway's own command to the server, in place of the client's
	KindTLS
	KindPinhole // opened, used, closed
	KindData    // a data connection is established, or over
	KindTransfer
	KindFault   // a refusal, a correction, or a failure
	KindOmitted // events that were dropped because there were too many
	kinds
)

var kindNames = [kinds]string{"session", "command", "reply", "answer", "ask", "tls", "pinhole", "data",
	"transfer", "fault", "omitted"}

// String returns the name of the kind, which is part of the interface.
func (k Kind) String() string {
	if k < kinds {
		return kindNames[k]
	}
	return ""
}

// MarshalText returns what String returns.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what MarshalText wrote. A name of a later version, which it does not know, becomes a
// kind without a name.
func (k *Kind) UnmarshalText(text []byte) error {
	if *k = kinds; slices.Contains(kindNames[:], string(text)) {
		*k = Kind(slices.Index(kindNames[:], string(text)))
	}
	return nil
}

// Explained is a session with its time line.
type Explained struct {
	Session
	Events []Event `json:"events"`
}

func (t *Totals) add(more Totals) {
	t.Transfers += more.Transfers
	t.Failed += more.Failed
	t.Up += more.Up
	t.Down += more.Down
}
