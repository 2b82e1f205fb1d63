package dialogue

import (
	"fmt"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/core/verdict"
)

// Action is what a step asks of the data path, or of TLS.
type Action uint8

// The actions. A caller carries out a step's action before it sends the step's lines: a pinhole exists before
// it is announced, and is closed before the next one is. Closing ends the permission and not the connection,
// which belongs to its two ends.
const (
	NoAction        Action = iota
	Open                   // close what is open and open Step.Pinhole; then call Opened, or Failed
	Arm                    // admit the connection; then send the lines, or call Failed
	Use                    // a transfer begins: wait for the connection at both ends; then send the lines
	Bridge                 // connect Step.Bridge for a transfer; then send the lines, or call Failed
	Finish                 // wait until a download is delivered, then as Complete
	Complete               // the transfer is complete: close, then send the lines; or call Broken
	Fail                   // the transfer failed: send the lines, then close; or call Broken
	Decline                // as Fail, but the data connection stays for the next transfer
	Close                  // close what is open, a passthrough too
	OpenPassthrough        // open Step.Passthrough; then send the lines, or call Failed
	PrepareTLS             // prepare TLS for the client; then send the lines, or call Failed
	Dial                   // leave the server, connect to Step.Server; then call Dialled, or NotDialled
)

// Transition is how the control connections continue once the lines of a step are sent.
type Transition uint8

// The transitions.
const (
	None        Transition = iota
	Encrypt                // the client begins TLS; whatever it sent in plain text before that is dropped
	Decrypt                // TLS with the client ends, and the session continues in plain text
	Passthrough            // no lines are read any more: bytes from one side go to the other unchanged
)

// Login is how a step changes the client's login.
type Login uint8

// What becomes of a login.
const (
	SameLogin Login = iota
	LoggedIn        // the server accepted it, perhaps in place of another user's: see Dialogue.User
	LoggedOut       // it has ended
)

// Step is the answer to one event: an action, then lines for either side. It is a value of its own: it shares
// no memory with the event's line, and no later event changes it. It is small, because idle sessions have
// several on their stacks.
type Step struct {
	Action      Action
	Pinhole     *pinhole.Pinhole     // of Open; else nil
	Bridge      *pinhole.Bridge      // of Bridge; else nil
	Passthrough *pinhole.Passthrough // of OpenPassthrough; else nil
	Server      *forward.Server      // of Dial; else nil

	ToClient, ToServer []byte // whole lines with CR LF; ToClient may begin with answers to Telnet options
	Urgent             int    // how many bytes of ToServer are urgent: Telnet commands before its line

	Login         Login  // of a server's reply
	TransferBegan bool   // a transfer is under way from now on
	DataRefused   bool   // the server ends the transfer because of its data connection
	Aborted       bool   // the client sent ABOR for the transfer that ends with the step
	FailedUser    string // the user name of a failed login, as the client spelled it
	FailedLogins  int    // how many logins failed so far, if this was one: delay the reply; else 0
	// a refusal or correction, for the log, a counter and the session's record
	Refusal    verdict.Refusal
	Transition Transition // once the lines are sent
	End        bool       // the session is over once the lines are sent
}

// say answers the client.
func (s *Step) say(code int, format string, args ...any) {
	s.ToClient = fmt.Appendf(s.ToClient, "%d ", code)
	s.ToClient = fmt.Appendf(s.ToClient, format, args...)
	s.ToClient = append(s.ToClient, '\r', '\n')
}

// refuse answers the client with a reason, which is logged too.
func (s *Step) refuse(kind verdict.RefusalKind, code int, format string, args ...any) {
	s.say(code, format, args...)
	s.Refusal.Kind, s.Refusal.Reason = kind, fmt.Sprintf(format, args...)
}

// end refuses and ends the session.
func (s *Step) end(kind verdict.RefusalKind, format string, args ...any) {
	s.refuse(kind, 421, format, args...)
	s.End = true
}

// send sends the server a command of the gateway's own.
func (s *Step) send(c ftp.Command) { s.ToServer = c.AppendTo(s.ToServer) }
