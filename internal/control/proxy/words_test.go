package proxy

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"ftpgate/internal/core/pinhole"
)

// pathFailure returns an error of a data path with words for the client.
func pathFailure(err error) error {
	return &pinhole.Failure{Err: err, ReplyCode: 522, Reason: "no TLS", Remedy: "mend it"}
}

// A server that calls a transfer off does not know why the gateway has broken it: the gateway does.
func TestSessionKnowsBetter(t *testing.T) {
	b := newStage(t).connect().login()
	data := b.transfer()
	data.result = fmt.Errorf("handshake: %w", pathFailure(errors.New("bad alert from 203.0.113.21")))
	close(data.done)
	b.server.say("426-what\r\n426 happened?\r\n")
	b.client.hear("522 no TLS")
	if log := b.logs.String(); !strings.Contains(log, `remedy="mend it"`) ||
		!strings.Contains(log, "bad alert") {
		t.Errorf("log: got no cause and remedy: %s", log)
	}
	data = b.transfer()
	data.result = errors.New("reset")
	close(data.done)
	b.server.say("426 broken\r\n")
	b.client.hear("426 broken")
	b.wantRefused("broken_transfer=1")
}

// A client whose data connection is refused before it asks for a transfer tries something else without a
// word: the log has the reason.
func TestSessionRefusedBeforeTransfer(t *testing.T) {
	b := newStage(t).connect().login()
	data := b.pasv()
	data.result = pathFailure(errors.New("not resumed"))
	b.pasv()
	b.ask("QUIT", "221 bye")
	b.client.heardAll()
	b.wantRefused("broken_transfer=1")
	if log := b.logs.String(); !strings.Contains(log, `reason="no TLS"`) ||
		!strings.Contains(log, `remedy="mend it"`) {
		t.Errorf("log: got no reason and remedy: %s", log)
	}
}

// A client that dials when it has read that its transfer failed finds no listener.
func TestSessionClosesBeforeItSaysSo(t *testing.T) {
	b := newStage(t).connect().login()
	for range 20 { // each is a chance to be seen too early
		data := b.pasv()
		data.missing = true
		b.ask("RETR x", "425 no connection")
		if !data.isClosed() {
			t.Fatal("the pinhole is open; want it closed before the 425")
		}
	}
}

// The client gets the data path's reason for a passthrough or a port that it cannot open.
func TestSessionGetsReason(t *testing.T) {
	b := newStage(t).connect().login()
	b.path.set(pathFailure(errors.New("full")), nil)
	b.client.say("PASV\r\n")
	b.server.hear("PASV")
	b.server.say("227 Entering Passive Mode (10,0,0,1,195,80)\r\n")
	b.client.hear("425 no TLS")
	b.wantRefused("no_port=1")
}
