// Package sessionlog shows what the two ends of an FTP session sent and received. A Logger in the server's
// process writes events, a ServerLog reads them, and a Transcript prints the client's side with all that
// changed on the way. The package only observes the dialogue.
package sessionlog

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"

	"ftpgate/internal/core/ftp"
)

// Kind is the kind of a server event.
type Kind string

// The kinds.
const (
	Ready    Kind = "ready"    // the server accepts connections, at this address
	Received Kind = "received" // a command from the client, as the server received it
	Sent     Kind = "sent"     // a reply to the client, as the server sent it
	// Encrypted is a TLS handshake: the version, followed by Resumed if it resumed a session.
	Encrypted Kind = "encrypted"
)

// Resumed ends the text of an Encrypted event that resumed a session.
const Resumed = ", resumed"

// Event is one line of JSON on the server's standard output. It shows other processes what the server sent
// and received.
type Event struct {
	Kind Kind   `json:"kind"`
	Text string `json:"text,omitempty"`
}

// Logger writes the server's events. It implements server.Logger of the FTP library.
type Logger struct {
	mu  sync.Mutex // guards enc: sessions log concurrently
	enc *json.Encoder
}

// NewLogger returns a Log that writes to out.
func NewLogger(out io.Writer) *Logger { return &Logger{enc: json.NewEncoder(out)} }

// Write writes one event.
func (e *Logger) Write(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_ = e.enc.Encode(ev) // fails if the reader is gone; then this process ends too
}

// Print implements server.Logger. It drops the library's own remarks.
func (e *Logger) Print(string, any) {}

// Printf implements server.Logger. It drops the library's own remarks.
func (e *Logger) Printf(string, string, ...any) {}

// PrintCommand implements server.Logger. It hides passwords.
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
