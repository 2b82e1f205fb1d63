// Package dialogue is what the two ends of a session have said and heard, and how that is shown: a Log at
// the server, a Witness who reads it, and a Transcript of the client's side with what changed on the way.
// It takes no part in the dialogue.
package transcript

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"

	"ftpgate/internal/core/ftp"
)

// Kind is what an event of the server is about.
type Kind string

// The kinds.
const (
	Ready    Kind = "ready"    // connections are taken, at this address
	Received Kind = "received" // a command from the client, as it came in
	Sent     Kind = "sent"     // a reply to the client, as it went out
	// Encrypted is a TLS handshake: its version, and Resumed behind that of a session that began before.
	Encrypted Kind = "encrypted"
)

// Resumed is how the text of an Encrypted event ends where a session was resumed.
const Resumed = ", resumed"

// Event is one line of JSON on the server's standard output: how the other processes see what
// went through this end of the wire.
type Event struct {
	Kind Kind   `json:"kind"`
	Text string `json:"text,omitempty"`
}

// Logger writes the dialogue as the server sees it. It implements server.Logger.
type Logger struct {
	mu  sync.Mutex // guards enc: sessions log at the same time
	enc *json.Encoder
}

// NewLogger returns a Log that writes to out.
func NewLogger(out io.Writer) *Logger { return &Logger{enc: json.NewEncoder(out)} }

// Write writes one event.
func (e *Logger) Write(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_ = e.enc.Encode(ev) // whoever would read it is gone, and so will be this process
}

// Print implements server.Logger: the library's own remarks are of no use to the story.
func (e *Logger) Print(string, any) {}

// Printf implements server.Logger.
func (e *Logger) Printf(string, string, ...any) {}

// PrintCommand implements server.Logger. A password does not leave the server.
func (e *Logger) PrintCommand(_, verb, arg string) {
	c := ftp.Command{Verb: strings.ToUpper(verb)}
	if arg != "" {
		c.Arg = []byte(arg)
	}
	e.Write(Event{Kind: Received, Text: c.String()})
}

// PrintResponse implements server.Logger.
func (e *Logger) PrintResponse(_ string, code int, text string) {
	e.Write(Event{Kind: Sent, Text: fmt.Sprintf("%d %s", code, text)})
}
