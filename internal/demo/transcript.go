package demo

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"unicode"

	"ftpgate/internal/ftp"
)

// transcript writes the dialogue as a client's debug log does, and beside each line that changed
// on the way what the server has seen. It is the observer of a client, in step with the server's
// events: one for each line. Without a witness it is the client's side alone.
type transcript struct {
	out     io.Writer
	witness *witness // may be nil
	quiet   bool     // follows the dialogue and writes nothing

	greeted   bool
	told      netip.AddrPort // what the last 227 told the client, and
	announced netip.AddrPort // what the server had put there
	named     string         // the argument of the last PORT, and
	heard     string         // what the server got of it
}

// Sent implements observer.
func (t *transcript) Sent(ctx context.Context, c ftp.Command) error {
	t.printf("---> %s\n", c)
	if t.witness == nil {
		return nil
	}
	seen, err := t.witness.next(ctx, received)
	if err != nil {
		return err
	}
	if c.Verb == "PORT" {
		t.named, t.heard = string(c.Arg), strings.TrimPrefix(seen, "PORT ")
	}
	if seen != c.String() {
		t.printf("     ~~~ the server received %s: rewritten by the gateway\n", printable(seen))
	}
	return nil
}

// Received implements observer.
func (t *transcript) Received(ctx context.Context, r ftp.Reply) error {
	line := fmt.Sprintf("%d %s", r.Code, r.Text())
	t.printf("<--- %s\n", printable(line))
	if r.Code == 227 {
		t.told, _ = ftp.Parse227([]byte(r.Last()))
	}
	if t.witness == nil {
		return nil
	}
	seen, err := t.serverSent(ctx)
	if err != nil {
		return err
	}
	if r.Code == 227 {
		t.announced, _ = ftp.Parse227([]byte(strings.TrimPrefix(seen, "227 ")))
	}
	if seen == line {
		return nil
	}
	if r.Code == 227 && t.announced.IsValid() {
		seen = fmt.Sprintf("(%s)", ftp.AppendHostPort(nil, t.announced))
	}
	t.printf("     ~~~ the server said %s: rewritten by the gateway\n", printable(seen))
	return nil
}

func (t *transcript) serverSent(ctx context.Context) (string, error) {
	if !t.greeted {
		t.greeted = true
		return t.witness.greeting(ctx)
	}
	return t.witness.next(ctx, sent)
}

// Note implements observer.
func (t *transcript) Note(text string) { t.printf("---- %s\n", printable(text)) }

func (t *transcript) printf(format string, args ...any) {
	if !t.quiet {
		fmt.Fprintf(t.out, format, args...)
	}
}

// printable keeps a peer's text from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}
