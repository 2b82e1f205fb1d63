// Package journal keeps what an operator asks about sessions: who is connected, what runs, what has
// happened line by line, and why something failed, in one sentence with a remedy.
//
// It is told of sessions by those who serve or watch them, and asked by those who show them. It does no
// I/O, and what it keeps is bounded: see Journal.
package sessions

import (
	"net/netip"
	"slices"
	"time"

	"ftpgate/internal/core/verdict"
)

// Session is what is known of a session at a moment. Its names in JSON are part of the interface.
type Session struct {
	ID       string          `json:"id"`
	Forward  string          `json:"forward"`
	Tracking string          `json:"tracking"` // "proxy" or "kernel"
	Client   netip.AddrPort  `json:"client"`
	Gateway  netip.AddrPort  `json:"gateway"` // what the client dialled
	Server   netip.AddrPort  `json:"server"`  // empty: not connected to
	User     string          `json:"user,omitempty"`
	Since    time.Time       `json:"since"`
	Active   time.Time       `json:"active"`         // when something was last said, or the transfer that runs began
	Ended    time.Time       `json:"ended,omitzero"` // zero: it runs
	State    State           `json:"state"`          //
	Mode     string          `json:"mode,omitempty"` // of the last data connection: "PASV", "EPSV", "PORT" or "EPRT"
	TLS      TLS             `json:"tls,omitzero"`   // of the control connections
	Path     string          `json:"path,omitempty"` // what carries the last data connection: "kernel" or "relay"
	Transfer *Transfer       `json:"transfer"`       // the one that runs; null: none
	Totals   Totals          `json:"totals"`         //
	Refused  int             `json:"refused"`        // how often something was refused or put right
	Verdict  verdict.Verdict `json:"verdict"`        //
}

// State is what a session does.
type State string

// The states.
const (
	StateConnecting State = "connecting"  // to the server
	StateGreeting   State = "greeting"    // the server has said nothing yet
	StateLogin      State = "login"       // nobody has logged in
	StateIdle       State = "idle"        //
	StateCommand    State = "command"     // the server has not answered
	StateTransfer   State = "transfer"    //
	StateThrough    State = "passthrough" // encrypted from end to end: nobody here can read it
	StateEnded      State = "ended"       //
)

// TLS is the encryption of a session by leg; empty: in clear.
type TLS struct {
	Client string `json:"client,omitempty"` // like "TLS 1.3", or "end to end"
	Server string `json:"server,omitempty"`
}

// Totals are what the transfers of a session came to. A listing is a transfer.
type Totals struct {
	Transfers int   `json:"transfers"` // that were completed
	Failed    int   `json:"failed"`
	Up        int64 `json:"bytes_up"`   // from the client to the server, in bytes of files and listings
	Down      int64 `json:"bytes_down"` // to the client
}

// Transfer is one file or listing over one data connection.
type Transfer struct {
	Session   string         `json:"session"`
	Forward   string         `json:"forward"`
	Client    netip.Addr     `json:"client"`
	Server    netip.AddrPort `json:"server"`
	User      string         `json:"user,omitempty"`
	Verb      string         `json:"command"`            // "RETR", "STOR", "LIST", ...; empty where nobody could read it
	Direction Direction      `json:"direction"`          //
	File      string         `json:"file,omitempty"`     // as the client named it
	Type      string         `json:"type,omitempty"`     // "A" or "I" (RFC 959 section 3.1.1), as the client set it last; empty: never
	Mode      string         `json:"mode,omitempty"`     // as in Session
	Path      string         `json:"path,omitempty"`     // as in Session
	TLS       TLS            `json:"tls,omitzero"`       // of the data connection
	Began     time.Time      `json:"began"`              //
	Connected time.Time      `json:"connected,omitzero"` // when the data connection stood, or its first packet came
	Ended     time.Time      `json:"ended,omitzero"`     // zero: it runs
	Bytes     int64          `json:"bytes"`              // so far; in the direction of the transfer
	Rate      int64          `json:"rate"`               // bytes a second since it began
	Complete  bool           `json:"complete"`           // the server has said so, and all of it was delivered
	Verdict   string         `json:"verdict,omitempty"`  // why it failed
	number    int            // of its data connection
}

// Direction is where a transfer's data goes.
type Direction string

// The directions.
const (
	Download Direction = "download" // to the client: RETR and listings
	Upload   Direction = "upload"   // from the client: STOR, STOU and APPE
	Unknown  Direction = "unknown"  // of what nobody could read
)

// Event is one entry of a session's time line.
type Event struct {
	At   time.Time `json:"at"`
	Kind Kind      `json:"kind"`
	Data int       `json:"data,omitempty"` // which data connection it is about, counted from 1; 0: none
	Text string    `json:"text"`
}

// Kind is what an event is about.
type Kind uint8

// The kinds of events.
const (
	KindSession  Kind = iota // it begins, is connected, ends
	KindCommand              // the client's
	KindReply                // the server's
	KindAnswer               // the gateway's own to the client
	KindAsk                  // the gateway's own to the server, in place of the client's
	KindTLS                  //
	KindPinhole              // opened, used, closed
	KindData                 // of a data connection: it stands, it is over
	KindTransfer             //
	KindFault                // something was refused, put right, or failed
	KindOmitted              // events that were too many to be kept
	kinds
)

var kindNames = [kinds]string{"session", "command", "reply", "answer", "ask", "tls", "pinhole", "data", "transfer", "fault", "omitted"}

// String returns the kind's name, which is part of the interface.
func (k Kind) String() string {
	if k < kinds {
		return kindNames[k]
	}
	return ""
}

// MarshalText writes the kind as String does.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what MarshalText writes. A name that it does not know, of a later version, has no name.
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

// add adds what a transfer has come to.
func (t *Totals) add(more Totals) {
	t.Transfers += more.Transfers
	t.Failed += more.Failed
	t.Up += more.Up
	t.Down += more.Down
}
