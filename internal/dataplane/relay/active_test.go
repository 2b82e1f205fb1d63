package relay

import (
	"testing"
	"time"

	"ftpgate/internal/dataplane/relaytest"
)

// A server that connects before its yes to PORT waits, and nothing of it reaches the client until
// the pinhole is armed.
func TestActiveWaits(t *testing.T) {
	l := relaytest.Listen(t, relaytest.Server)
	h := pinholeTo(l)
	h.Active = true
	dc := reserve(t, opener(), h)
	if dc.Waiting() {
		t.Error("got a connection that waits; want none yet")
	}
	early := relaytest.Dial(t, relaytest.Peer, dc.Listen())
	relaytest.Send(early, []byte("early"))
	if !dc.Waiting() {
		t.Error("got no connection that waits; want the server's")
	}
	_ = l.SetDeadline(time.Now()) // data would have arrived by now
	if c, err := l.AcceptTCP(); err == nil {
		t.Errorf("got %s at the far end before Arm", c.RemoteAddr())
	}
	_ = l.SetDeadline(time.Time{})
	if err := dc.Arm(); err != nil {
		t.Fatal(err)
	}
	srv := relaytest.Accept(t, l)
	relaytest.WantData(t, "far end", srv, []byte("early"))
	srv.Close()
	if r := wait(t, dc); r.Err != nil {
		t.Errorf("got %v; want no error", r.Err)
	}
	if dc.Waiting() {
		t.Error("got a connection that waits after the end")
	}
}

// A server that connects early and is then refused is reset.
func TestActiveClosed(t *testing.T) {
	h := pinholeTo(relaytest.Listen(t, relaytest.Server))
	h.Active = true
	dc := reserve(t, opener(), h)
	early := relaytest.Dial(t, relaytest.Peer, dc.Listen())
	dc.Close()
	relaytest.WantReset(t, "early server", early)
	relaytest.WantRefused(t, dc.Listen())
}
