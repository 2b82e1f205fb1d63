package transcript

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"unicode"

	"ftpgate/internal/core/ftp"
)

// Transcript writes the dialogue as a client's debug log does, and beside each line that changed
// on the way what the server has seen. It is the observer of a client, in step with the server's
// events: one for each line. Without a witness it is the client's side alone.
type Transcript struct {
	Out       io.Writer
	ServerLog *ServerLog // may be nil
	Quiet     bool       // follows the dialogue and writes nothing

	Client227  netip.AddrPort // what the last 227 told the client, and
	Server227  netip.AddrPort // what the server had put there
	ClientPORT string         // the argument of the last PORT, and
	ServerPORT string         // what the server got of it
	greeted    bool
}

// Sent implements ftpclient.Observer.
func (t *Transcript) Sent(ctx context.Context, c ftp.Command) error {
	t.Printf("---> %s\n", c)
	if t.ServerLog == nil {
		return nil
	}
	seen, err := t.ServerLog.Next(ctx, Received)
	if err != nil {
		return err
	}
	if c.Verb == "PORT" {
		t.ClientPORT, t.ServerPORT = string(c.Arg), strings.TrimPrefix(seen, "PORT ")
	}
	if seen != c.String() {
		t.Printf("     ~~~ the server received %s: rewritten by the gateway\n", Printable(seen))
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
	seen, err := t.nextReply(ctx)
	if err != nil {
		return err
	}
	if r.Code == 227 {
		t.Server227, _ = ftp.Parse227([]byte(strings.TrimPrefix(seen, "227 ")))
	}
	if seen == line {
		return nil
	}
	if r.Code == 227 && t.Server227.IsValid() {
		seen = fmt.Sprintf("(%s)", ftp.AppendHostPort(nil, t.Server227))
	}
	t.Printf("     ~~~ the server said %s: rewritten by the gateway\n", Printable(seen))
	return nil
}

func (t *Transcript) nextReply(ctx context.Context) (string, error) {
	if !t.greeted {
		t.greeted = true
		return t.ServerLog.Greeting(ctx)
	}
	return t.ServerLog.Next(ctx, Sent)
}

// Note implements ftpclient.Observer.
func (t *Transcript) Note(text string) { t.Printf("---- %s\n", Printable(text)) }

// Printf writes what is told beside the dialogue.
func (t *Transcript) Printf(format string, args ...any) {
	if !t.Quiet {
		fmt.Fprintf(t.Out, format, args...)
	}
}

// Printable keeps a peer's text from steering the terminal.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}
