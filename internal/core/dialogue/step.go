package dialogue

import (
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
)

// Action is what an effect asks for.
type Action uint8

// The actions. What a step wants done comes before its lines: a pinhole is there before it is
// announced, and gone before anything else is said.
const (
	None    Action = iota
	Open           // close what is there and open Step.Pinhole; then call Opened, or Failed
	Arm            // let the connection come; then send the lines, or call Failed
	Join           // connect Step.Bridge; then send the lines, or call Failed
	Finish         // wait until the data is delivered, close, then send the lines; or call Broken
	Fail           // the transfer has failed: close; then send the lines, or call Broken where the data path knows better why
	Close          // close what is there, a passage too
	Pass           // open Step.Passage; then send the lines, or call Failed
	Prepare        // have the TLS for the client ready; then send the lines, or call Failed
)

// Then is what becomes of the control connections once the lines of a step are sent.
type Then uint8

// The continuations.
const (
	GoOn    Then = iota
	Encrypt      // the client begins with TLS; what it has sent in plain text by then does not count
	Decrypt      // TLS with the client ends, and the session goes on in plain text
	Tunnel       // nobody reads on: what comes from one side goes to the other as it is
)

// Step is what one line leads to: an effect, then lines for either side. It is the dialogue's, and holds
// until the dialogue is told the next thing.
type Step struct {
	Action             Action
	Pinhole            pinhole.Pinhole     // of Open
	Bridge             pinhole.Bridge      // of Join
	Passage            pinhole.Passthrough // of Pass
	ToClient, ToServer []byte
	Synch              bool         // ToServer is urgent: Telnet IP and Synch go before it (RFC 959 section 4.1.3)
	Failures           int          // failed logins so far, if this was one: the reply is to be delayed
	Refused            Refusal      // that something was refused or put right; for the log and a counter
	Code               verdict.Code // what that is for the journal; empty: what it mostly is
	Reason             string       // why, in plain words without anything that a peer has sent
	Remedy             string       // what the operator can do about it; for the log
	Then               Then
	End                bool // the session is over once the lines are sent
}
