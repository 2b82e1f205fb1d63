package sessionlog

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"unicode"

	"ftpgate/internal/core/ftp"
)

// Transcript prints the dialogue as a client's debug log does. Below each line that changed on the way it
// prints the server's version. It implements ftpclient.Observer, and reads one server event for each line.
// Without a ServerLog it prints the client's side alone.
type Transcript struct {
	Out       io.Writer
	ServerLog *ServerLog // may be nil
	Quiet     bool       // follow the dialogue, but print nothing

	Client227  netip.AddrPort // address in the last 227, as the client received it
	Server227  netip.AddrPort // and as the server sent it
	ClientPORT string         // argument of the last PORT, as the client sent it
	ServerPORT string         // and as the server received it
	greeted    bool
}

// Sent implements ftpclient.Observer.
func (t *Transcript) Sent(ctx context.Context, c ftp.Command) error {
	t.Printf("---> %s\n", c)
	if t.ServerLog == nil {
		return nil
	}
	received, err := t.ServerLog.Next(ctx, Received)
	if err != nil {
		return err
	}
	if c.Verb == "PORT" {
		t.ClientPORT, t.ServerPORT = string(c.Arg), strings.TrimPrefix(received, "PORT ")
	}
	if received != c.String() {
		t.Printf("     ~~~ the server received %s: rewritten by the gateway\n", Printable(received))
	}
	return nil
}

// Received implements ftpclient.Observer.
func (t *Transcript) Received(ctx context.Context, r ftp.Reply) error {
	line := fmt.Sprintf("%d %s", r.Code, r.Text())
	for i, text := range r.Lines {
		switch {
		case i == len(r.Lines)-1:
			text = fmt.Sprintf("%d %s", r.Code, text)
		case i == 0:
			text = fmt.Sprintf("%d-%s", r.Code, text)
		}
		t.Printf("%s\n", strings.TrimRight("<--- "+Printable(text), " "))
	}
	if r.Code == 227 {
		t.Client227, _ = ftp.Parse227([]byte(r.Last()))
	}
	if t.ServerLog == nil {
		return nil
	}
	sent, err := t.nextReply(ctx)
	if err != nil {
		return err
	}
	if r.Code == 227 {
		t.Server227, _ = ftp.Parse227([]byte(strings.TrimPrefix(sent, "227 ")))
	}
	if sent == line {
		return nil
	}
	if r.Code == 227 && t.Server227.IsValid() {
		sent = fmt.Sprintf("(%s)", ftp.AppendHostPort(nil, t.Server227))
	}
	t.Printf("     ~~~ the server sent %s: rewritten by the gateway\n", Printable(sent))
	return nil
}

// nextReply returns the next reply from the server's log.
func (t *Transcript) nextReply(ctx context.Context) (string, error) {
	if !t.greeted {
		t.greeted = true
		return t.ServerLog.Greeting(ctx)
	}
	return t.ServerLog.Next(ctx, Sent)
}

// Note implements ftpclient.Observer.
func (t *Transcript) Note(text string) { t.Printf("---- %s\n", Printable(text)) }

// Printf prints a remark, unless the transcript is quiet.
func (t *Transcript) Printf(format string, args ...any) {
	if !t.Quiet {
		fmt.Fprintf(t.Out, format, args...)
	}
}

// Printable returns s with a question mark for each control character, so that a peer's text cannot steer the
// terminal.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}
