package sessions

import (
	"testing"
	"time"

	"ftpgate/internal/core/pinhole"
)

// A data connection that outlives its session is counted to its end.
func TestTransferOutlivesSession(t *testing.T) {
	l := New(time.Now())
	var finished []Transfer
	l.Finished = func(tr Transfer) { finished = append(finished, tr) }
	r := logIn(l)
	m := &meter{pinhole.Outcome{Connected: time.Now()}}
	hole(r, m)
	r.TransferStarted(time.Now(), "STOR", "x")
	r.Ends("")
	now := time.Now()
	for range 5 {
		m.o.Up += 1000
		now = now.Add(finalizeTimeout - time.Second)
		if l.Finalize(now); len(finished) != 0 {
			t.Fatalf("finished while bytes move: %+v", finished)
		}
	}
	m.o.Over = true
	if l.Finalize(now); len(finished) != 1 || finished[0].Bytes != 5000 || finished[0].Complete {
		t.Errorf("got %+v; want one transfer with 5000 bytes that its client has left", finished)
	}
}
