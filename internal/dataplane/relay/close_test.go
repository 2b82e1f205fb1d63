package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/dataplane"
	"ftpgate/internal/dataplane/relaytest"
)

// What is to be done before the server learns that the client has ended its data is done before.
func TestBeforeClientEnds(t *testing.T) {
	for name, end := range map[string]func(*net.TCPConn){
		"FIN": func(c *net.TCPConn) { _ = c.CloseWrite() }, "reset": relaytest.Reset,
	} {
		dc, client, srv := connected(t)
		called, release := make(chan struct{}), make(chan struct{})
		dc.BeforeClientEnds(func() {
			close(called)
			<-release
		})
		if _, err := client.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(srv, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		end(client)
		select {
		case <-called:
		case <-time.After(relaytest.Patience):
			t.Fatalf("%s: got nothing called at the client's end", name)
		}
		raw, err := srv.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Read(func(fd uintptr) bool {
			if n, err := unix.Read(int(fd), make([]byte, 1)); err != unix.EAGAIN {
				t.Errorf("%s: got %d bytes, %v at the server before; want nothing yet", name, n, err)
			}
			return true
		})
		close(release)
		if n, err := srv.Read(make([]byte, 1)); n > 0 || err == nil || (err == io.EOF) != (name == "FIN") {
			t.Errorf("%s: got %d bytes, %v at the server; want the client's end", name, n, err)
		}
		srv.Close()
		wait(t, dc)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	t.Run("before a connection", func(t *testing.T) {
		dc := open(t, opener(), pinholeTo(relaytest.Listen(t, relaytest.Server)))
		dc.Close()
		relaytest.WantRefused(t, dc.Listen())
		if r := resultOf(dc); r.Err != ErrClosed || !r.Connected.IsZero() {
			t.Errorf("got %+v; want %v", r, ErrClosed)
		}
		dc.Close() // once more: nothing
	})
	t.Run("during", func(t *testing.T) {
		dc, client, srv := connected(t)
		dc.Close()
		relaytest.Send(client, []byte("an upload"))
		relaytest.WantData(t, "server", srv, []byte("an upload"))
		wantRuns(t, dc)
		srv.Close()
		relaytest.WantData(t, "client", client, nil)
		wantComplete(t, dc, int64(len("an upload")), 0)
	})
	t.Run("while dialling", func(t *testing.T) {
		l := deaf(t)
		dc := open(t, opener(), pinholeTo(l))
		client := relaytest.Dial(t, relaytest.Peer, dc.Listen())
		<-dc.connected
		dc.Close()
		relaytest.WantRefused(t, dc.Listen()) // before the far end has answered
		relaytest.Accept(t, l)                // that of deaf: now there is room
		relaytest.Send(client, []byte("an upload"))
		relaytest.WantData(t, "server", relaytest.Accept(t, l), []byte("an upload"))
	})
	t.Run("idle", func(t *testing.T) {
		p := opener()
		p.IdleTime = 20 * time.Millisecond
		dc, client, srv := connectedBy(t, p)
		dc.Close()
		relaytest.WantReset(t, "client", client)
		relaytest.WantReset(t, "server", srv)
		if r := resultOf(dc); !errors.Is(r.Err, ErrClosed) {
			t.Errorf("got %v; want %v", r.Err, ErrClosed)
		}
	})
	t.Run("after the end", func(t *testing.T) {
		dc, client, srv := connected(t)
		client.Close()
		srv.Close()
		wait(t, dc)
		dc.Close()
		if r := resultOf(dc); r.Err != nil {
			t.Error(r.Err)
		}
	})
}

// After Close, a download that is finished ends in order as soon as it is delivered, though its client keeps
// its end open. Nothing else does.
func TestCloseEndsDownload(t *testing.T) {
	t.Parallel()
	cancelled := make(chan struct{})
	close(cancelled)
	t.Run("the client keeps its end open", func(t *testing.T) {
		dc, client, srv := connectedBy(t, hasty())
		dc.Finish(cancelled)
		dc.Close()
		relaytest.Send(srv, []byte("a download"))
		relaytest.WantData(t, "client", client, []byte("a download"))
		relaytest.WantData(t, "server", srv, nil)
		wantComplete(t, dc, 0, int64(len("a download")))
	})
	t.Run("an upload is under way", func(t *testing.T) {
		dc, client, srv := connectedBy(t, hasty())
		if _, err := client.Write([]byte("an upload")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(srv, make([]byte, len("an upload"))); err != nil {
			t.Fatal(err)
		}
		dc.Finish(cancelled)
		dc.Close()
		wantGoesOn(t, dc, client, srv)
	})
	t.Run("not finished", func(t *testing.T) {
		dc, client, srv := connectedBy(t, hasty())
		dc.Close()
		wantGoesOn(t, dc, client, srv)
	})
}

// wantGoesOn expects that a connection is not ended for its server's FIN, and has it end.
func wantGoesOn(t *testing.T, dc *Connection, client, srv *net.TCPConn) {
	t.Helper()
	srv.CloseWrite()
	relaytest.WantData(t, "client", client, nil)
	silent := time.NewTimer(4 * hasty().graceTime)
	defer silent.Stop()
	select {
	case <-dc.Done():
		t.Fatal("it is over; want it to go on until its client ends it")
	case <-silent.C:
	}
	relaytest.Send(client, []byte("and ends"))
	relaytest.WantData(t, "server", srv, []byte("and ends"))
	if r := wait(t, dc); r.Err != nil {
		t.Errorf("got %v; want no error", r.Err)
	}
}

// A connection that is severed resets both ends, before Close and after it.
func TestSever(t *testing.T) {
	for _, closed := range []bool{false, true} {
		dc, client, srv := connected(t)
		if closed {
			dc.Close()
		}
		dc.Sever()
		relaytest.WantReset(t, "client", client)
		relaytest.WantReset(t, "server", srv)
		if r := resultOf(dc); r.Err != ErrClosed {
			t.Errorf("closed %t: got %v; want %v", closed, r.Err, ErrClosed)
		}
	}
	dc := open(t, opener(), pinholeTo(deaf(t)))
	client := relaytest.Dial(t, relaytest.Peer, dc.Listen())
	<-dc.connected
	dc.Sever()
	relaytest.WantReset(t, "client", client)
	if r := wait(t, dc); r.Err != ErrClosed {
		t.Errorf("while dialling: got %v; want %v", r.Err, ErrClosed)
	}
}

// What continues after Close is waited for, and ended with the gateway.
func TestRunning(t *testing.T) {
	p := opener()
	p.Relay.Wait(t.Context()) // for nothing
	dc, client, srv := connectedBy(t, p)
	dc.Close()
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		p.Relay.Wait(ctx)
	}()
	relaytest.Send(client, []byte("x"))
	relaytest.WantData(t, "server", srv, []byte("x"))
	select {
	case <-waited:
		t.Error("Wait has returned; want it to wait for the server's end")
	default:
	}
	srv.Close()
	<-waited
	cancel()
	dc, client, srv = connectedBy(t, p)
	dc.Close()
	p.Relay.Wait(ctx) // which has ended
	p.Relay.Close()
	relaytest.WantReset(t, "client", client)
	relaytest.WantReset(t, "server", srv)
	if r := resultOf(dc); r.Err != ErrClosed {
		t.Errorf("got %v; want %v", r.Err, ErrClosed)
	}
}

// Once it is closed, a connection that continues has nothing to do with its session.
func TestContextEndsLater(t *testing.T) {
	l := relaytest.Listen(t, relaytest.Server)
	ctx, cancel := context.WithCancel(context.Background())
	dc, err := opener().Open(ctx, pinholeTo(l), dataplane.DataTLS{})
	if err != nil {
		t.Fatal(err)
	}
	owned(t, dc)
	if err := dc.Arm(); err != nil {
		t.Fatal(err)
	}
	client := relaytest.Dial(t, relaytest.Peer, dc.Listen())
	srv := relaytest.Accept(t, l)
	dc.Close()
	cancel()
	relaytest.Send(client, []byte("an upload"))
	relaytest.WantData(t, "server", srv, []byte("an upload"))
}

// TestContextEnds ends the context in the middle of a connection.
func TestContextEnds(t *testing.T) {
	l := relaytest.Listen(t, relaytest.Server)
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("the session is over")
	dc, err := opener().Open(ctx, pinholeTo(l), dataplane.DataTLS{})
	if err != nil {
		t.Fatal(err)
	}
	owned(t, dc)
	if err := dc.Arm(); err != nil {
		t.Fatal(err)
	}
	client := relaytest.Dial(t, relaytest.Peer, dc.Listen())
	srv := relaytest.Accept(t, l)
	cancel(why)
	relaytest.WantReset(t, "client", client)
	relaytest.WantReset(t, "server", srv)
	if r := wait(t, dc); !errors.Is(r.Err, ErrClosed) || !errors.Is(r.Err, why) {
		t.Errorf("got %v; want %v and %v", r.Err, ErrClosed, why)
	}
}
