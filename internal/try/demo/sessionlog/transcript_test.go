package sessionlog

import (
	"io"
	"strings"
	"testing"

	"ftpgate/internal/core/ftp"
)

// TestTranscript prints every kind of line, also one by which a peer tries to steer the terminal.
func TestTranscript(t *testing.T) {
	out, in := io.Pipe()
	w := ReadServerLog(out)
	defer w.Close()
	defer in.Close()
	log := NewLogger(in)
	go func() {
		log.PrintResponse("", 220, "hello")
		log.PrintCommand("", "pass", "secret")
		log.PrintResponse("", 227, "=10,0,0,1,4,1")
		log.PrintResponse("", 200, "\x1b[2Jother")
	}()
	var b strings.Builder
	ctx, tr := t.Context(), &Transcript{Out: &b, ServerLog: w}
	for _, err := range []error{
		tr.Received(ctx, ftp.Reply{Code: 220, Lines: []string{"hello"}}),
		tr.Sent(ctx, ftp.Command{Verb: "PASS", Arg: []byte("secret")}),
		tr.Received(ctx, ftp.Reply{Code: 227, Lines: []string{"=10,0,0,2,4,1"}}),
		tr.Received(ctx, ftp.Reply{Code: 200, Lines: []string{"\x1b[2Jthis"}}),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	const want = `<--- 220 hello
---> PASS ****
<--- 227 =10,0,0,2,4,1
     ~~~ the server sent (10,0,0,1,4,1): rewritten by the gateway
<--- 200 ?[2Jthis
     ~~~ the server sent 200 ?[2Jother: rewritten by the gateway
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
