package relay

import (
	"bytes"
	"io"
	"testing"
	"time"

	"ftpgate/internal/dataplane/relaytest"
)

// patient is an opener that takes no silence for the end.
func patient() *Opener {
	p := opener()
	p.graceTime = 2 * relaytest.Patience
	return p
}

// finishing calls Finish in a goroutine of its own; how the connection stands then comes through the channel.
func finishing(dc *Connection, cancel <-chan struct{}) <-chan error {
	finished := make(chan error, 1)
	go func() {
		dc.Finish(cancel)
		finished <- dc.Err()
	}()
	return finished
}

// wantFinish waits for what Finish returns.
func wantFinish(t *testing.T, finished <-chan error, want error) {
	t.Helper()
	select {
	case err := <-finished:
		if err != want {
			t.Errorf("Finish: got %v; want %v", err, want)
		}
	case <-time.After(relaytest.Patience):
		t.Fatal("Finish does not return")
	}
}

// wantWaiting checks that Finish has not returned so far.
func wantWaiting(t *testing.T, finished <-chan error) {
	t.Helper()
	select {
	case err := <-finished:
		t.Fatalf("Finish: got %v; want it to wait", err)
	default:
	}
}

// TestFinishAtOnce has a server in active mode connect, send, close, and say that it is done before
// anything here has run.
func TestFinishAtOnce(t *testing.T) {
	for range 100 {
		l := relaytest.Listen(t, relaytest.Server)
		h := pinholeTo(l)
		h.Active = true
		dc := open(t, opener(), h)
		srv := relaytest.Dial(t, relaytest.Peer, dc.Listen())
		finished := finishing(dc, nil)
		srv.Write([]byte("small"))
		client := relaytest.Accept(t, l)
		if _, err := io.ReadFull(client, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		wantWaiting(t, finished)
		srv.Close()
		relaytest.WantData(t, "client", client, nil)
		client.Close()
		wantFinish(t, finished, nil)
		if _, sent := dc.Bytes(); sent != 5 {
			t.Errorf("Finish returned after %d bytes; want 5", sent)
		}
	}
}

func TestFinishWithoutPeer(t *testing.T) {
	t.Run("never armed", func(t *testing.T) {
		dc := reserve(t, opener(), pinholeTo(relaytest.Listen(t, relaytest.Server)))
		wantFinish(t, finishing(dc, nil), nil)
	})
	t.Run("armed", func(t *testing.T) {
		for _, active := range []bool{false, true} {
			h := pinholeTo(relaytest.Listen(t, relaytest.Server))
			h.Active = active
			dc := open(t, hasty(), h)
			relaytest.WantCutOff(t, "unexpected peer", relaytest.UnexpectedPeer, dc.Listen())
			wantFinish(t, finishing(dc, nil), nil)
			wantRuns(t, dc)
		}
	})
	t.Run("in its time", func(t *testing.T) {
		p := opener()
		p.WaitTime = time.Millisecond
		dc := open(t, p, pinholeTo(relaytest.Listen(t, relaytest.Server)))
		wait(t, dc)
		wantFinish(t, finishing(dc, nil), nil)
	})
	t.Run("closed", func(t *testing.T) {
		dc := open(t, opener(), pinholeTo(relaytest.Listen(t, relaytest.Server)))
		dc.Close()
		wantFinish(t, finishing(dc, nil), nil)
	})
}

// wantRuns checks that a connection is not over.
func wantRuns(t *testing.T, dc *Connection) {
	t.Helper()
	select {
	case <-dc.Done():
		t.Errorf("the connection is over: %v; want it to go on", dc.Err())
	default:
	}
}

// A wait that is cancelled leaves the connection as it is.
func TestFinishCancelled(t *testing.T) {
	dc, _, _ := connectedBy(t, patient())
	cancel := make(chan struct{})
	finished := finishing(dc, cancel)
	wantWaiting(t, finished)
	close(cancel)
	wantFinish(t, finished, nil)
	wantRuns(t, dc)
}

// A server that keeps the connection open behind the last byte, or behind none, holds up no reply.
func TestFinishQuiet(t *testing.T) {
	for _, file := range []string{"", "a file"} {
		dc, client, srv := connectedBy(t, hasty())
		if _, err := io.WriteString(srv, file); err != nil {
			t.Fatal(err)
		}
		wantFinish(t, finishing(dc, nil), nil)
		wantRuns(t, dc)
		dc.Close()
		srv.Close()
		relaytest.WantData(t, "client", client, []byte(file))
	}
}

func TestFinishBroken(t *testing.T) {
	dc, client, srv := connected(t)
	finished := finishing(dc, nil)
	srv.Write([]byte("half of a file"))
	io.ReadFull(client, make([]byte, len("half of a file")))
	wantWaiting(t, finished)
	relaytest.Reset(srv)
	relaytest.WantReset(t, "client", client)
	select {
	case err := <-finished:
		wantBroken(t, err, Server)
	case <-time.After(relaytest.Patience):
		t.Fatal("Finish does not return")
	}
}

// TestFinishBeforeClose has an end wait for the reply before it closes: the reply must not wait for
// it, and the end of the connection must not take from it what it has not read yet.
func TestFinishBeforeClose(t *testing.T) {
	for _, tt := range []struct {
		name string
		file []byte
	}{{"nothing", nil}, {"small", []byte("small")}, {"large", relaytest.Noise(3 << 20)}} {
		t.Run(tt.name, func(t *testing.T) {
			dc, client, srv := connectedBy(t, patient()) // a busy machine may be slow to carry the rest
			relaytest.Send(srv, tt.file)
			got := new(bytes.Buffer)
			if len(tt.file) > 1<<20 { // as much as the client's kernel does not take by itself
				io.CopyN(got, client, int64(len(tt.file)-1<<10))
			}
			wantFinish(t, finishing(dc, nil), nil)
			dc.Close()
			dc.Sever() // as a stop of the gateway does
			if _, err := io.Copy(got, client); err != nil || !bytes.Equal(got.Bytes(), tt.file) {
				t.Errorf("got %d bytes, %v; want %d and a FIN", got.Len(), err, len(tt.file))
			}
			if r := resultOf(dc); r.Err != nil {
				t.Errorf("got %v; want it delivered", r.Err)
			}
		})
	}
}

// TestFinishStalled has a client not read what the server has sent: it is not delivered.
func TestFinishStalled(t *testing.T) {
	dc, client, srv := connectedBy(t, patient())
	client.SetReadBuffer(64 << 10)
	sent := relaytest.Send(srv, make([]byte, 8<<20))
	finished := finishing(dc, nil)
	io.CopyN(io.Discard, client, 1<<20)
	wantWaiting(t, finished)
	// The last piece is with the gateway's kernel, and that is not delivered either.
	io.CopyN(io.Discard, client, 6<<20)
	relaytest.Await(t, func() bool { return dc.finReceived[Server].Load() },
		func() string { return "the gateway still has some" })
	if dc.isDelivered() {
		t.Error("delivered is what the client's kernel has not acknowledged")
	}
	io.Copy(io.Discard, client)
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	wantFinish(t, finished, nil)
}

// TestFinishHalfClosed has a client close its direction before the download has ended.
func TestFinishHalfClosed(t *testing.T) {
	dc, client, srv := connectedBy(t, patient())
	client.CloseWrite()
	relaytest.WantData(t, "server", srv, nil)
	finished := finishing(dc, nil)
	piece, got := make([]byte, 1<<20), make([]byte, 1<<20)
	for range 50 { // to and fro, longer than firstPoll
		wantWaiting(t, finished)
		go srv.Write(piece)
		if _, err := io.ReadFull(client, got); err != nil {
			t.Fatal(err)
		}
	}
	wantWaiting(t, finished)
	if dc.isDelivered() {
		t.Error("delivered is a file that has not ended")
	}
	srv.CloseWrite()
	relaytest.WantData(t, "client", client, nil)
	wantFinish(t, finished, nil)
}
