package relay

import (
	"bytes"
	"errors"
	"ftpgate/internal/dataplane/relaytest"
	"ftpgate/internal/dataplane/socket"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestResetComesLast has an end reset behind its last byte: all that it sent arrives before that.
func TestResetComesLast(t *testing.T) {
	p := opener()
	p.graceTime = time.Hour // of a busy machine
	dc, client, srv := connectedBy(t, p)
	file := relaytest.Noise(1 << 20)
	_ = srv.SetReadBuffer(16 << 10)
	if _, err := client.Write(file); err != nil {
		t.Fatal(err)
	}
	relaytest.Await(t, func() bool { return acknowledgedAll(client) },
		func() string { return "the gateway has not taken all" })
	relaytest.Reset(client)
	got := make([]byte, len(file))
	if n, err := io.ReadFull(srv, got); err != nil || !bytes.Equal(got, file) {
		t.Errorf("got %d bytes, %v; want all %d", n, err, len(file))
	}
	if _, err := srv.Read(got); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v behind it; want the reset", err)
	}
	wantBroken(t, wait(t, dc).Err, Client)
}

// TestResetWaitsForASlowReader has an end reset while the other one reads for longer than the grace time.
func TestResetWaitsForASlowReader(t *testing.T) {
	t.Parallel()
	const reads = 12
	p := opener()
	p.graceTime = 3 * time.Second
	dc, client, srv := connectedBy(t, p)
	file := relaytest.Noise(3 << 20)
	_ = srv.SetReadBuffer(16 << 10)
	if _, err := client.Write(file); err != nil {
		t.Fatal(err)
	}
	relaytest.Await(t, func() bool { return acknowledgedAll(client) },
		func() string { return "the gateway has not taken all" })
	relaytest.Reset(client)
	pace := time.NewTicker(p.graceTime * 11 / 10 / reads)
	defer pace.Stop()
	got := make([]byte, len(file))
	for i := range reads {
		<-pace.C
		if n, err := io.ReadFull(srv, got[len(got)*i/reads:len(got)*(i+1)/reads]); err != nil {
			t.Fatalf("got %d bytes of part %d of %d, %v; want all", n, i+1, reads, err)
		}
	}
	if !bytes.Equal(got, file) {
		t.Error("got other bytes than were sent")
	}
	wantBroken(t, wait(t, dc).Err, Client)
}

// acknowledgedAll reports whether nothing of what was sent is on its way.
func acknowledgedAll(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	left := 0
	err = socket.Control(raw, func(fd int) (err error) {
		left, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ)
		return err
	})
	return err == nil && left == 0
}
