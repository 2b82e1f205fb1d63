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
	openPinhole(r, m)
	r.TransferStarted(time.Now(), "STOR", "x")
	r.Ended("")
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

// A session and its transfers say whose certificate the client presents.
func TestTransferCertificate(t *testing.T) {
	l := New(time.Now())
	var finished []Transfer
	l.Finished = func(tr Transfer) { finished = append(finished, tr) }
	r := logIn(l)
	r.ClientCertificate("CN=scanner 7")
	openPinhole(r, &meter{pinhole.Outcome{Connected: time.Now(), Over: true}})
	r.TransferStarted(time.Now(), "STOR", "x")
	r.Ended("")
	if len(finished) != 1 || finished[0].Certificate != "CN=scanner 7" ||
		r.Session(time.Now()).Certificate != "CN=scanner 7" {
		t.Errorf("got %+v of %+v; want the certificate in both", finished, r.Session(time.Now()))
	}
}
