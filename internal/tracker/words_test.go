package tracker

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// refusal is an error of a data path with words for the client.
type refusal struct{ error }

func (refusal) Reply() (code int, text string) { return 522, "no TLS" }
func (refusal) Remedy() string                 { return "mend it" }

// A server that calls a transfer off does not know why the gateway has broken it: the gateway does.
func TestSessionKnowsBetter(t *testing.T) {
	b := newStage(t).connect().login()
	data := b.transfer()
	data.result = fmt.Errorf("handshake: %w", refusal{errors.New("bad alert from 203.0.113.21")})
	close(data.done)
	b.server.say("426-what\r\n426 happened?\r\n")
	b.client.hear("522 no TLS")
	if log := b.logs.String(); !strings.Contains(log, `remedy="mend it"`) || !strings.Contains(log, "bad alert") {
		t.Errorf("log: got no cause and remedy: %s", log)
	}
	data = b.transfer()
	data.result = errors.New("reset")
	close(data.done)
	b.server.say("426 broken\r\n")
	b.client.hear("426 broken")
	b.wantRefused("broken_transfer=1")
}
