package conntrack_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/kernel/conntrack"
	"ftpgate/internal/try/lab"
)

const logRules = `
table inet logging {
	chain forward {
		type filter hook forward priority security;
		tcp flags fin,syn,rst ct status dnat log group 2121
	}
}`

// wantBusy checks that no other socket can listen to a group.
func wantBusy(t *testing.T, h *lab.Host, group uint16) {
	t.Helper()
	if err := h.Do(func() error {
		_, err := conntrack.Listen(group)
		return err
	}); !errors.Is(err, unix.EPERM) {
		t.Errorf("a second listener: got %v; want %v", err, unix.EPERM)
	}
}

// Segments have the addresses of both ends, and show how many bytes were transferred even if packets are
// lost.
func TestSegments(t *testing.T) {
	l := router(t)
	nft(t, l.Gateway(), logRules)
	const lossy = `table inet lossy { chain input {
		type filter hook input priority 0; tcp sport 5000 numgen random mod 20 0 drop; }; }`
	nft(t, l.Client(), lossy)
	s := opened(t, l.Gateway(), func() (*conntrack.Segments, error) { return conntrack.Listen(2121) })
	wantBusy(t, l.Gateway(), 2121)
	const size = 1<<20 + 17
	for dialled, at := range map[string]string{
		"192.168.5.2:5000":     "203.0.113.21:5000",
		"[2001:db8:5::2]:5000": "[2001:db8:113::21]:5000",
	} {
		serve(t, listen(t, l.Server(), at), func(c net.Conn) error {
			_, err := c.Write(make([]byte, size))
			return err
		})
		c := dial(t, l.Client(), dialled)
		if n, err := io.Copy(io.Discard, c); n != size || err != nil {
			t.Fatalf("got %d bytes, %v; want %d", n, err, size)
		}
		c.Close()
	}
	segments := make(chan netflow.Segment, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- s.Run(ctx, func(s netflow.Segment) { segments <- s },
			func() { t.Error("segments were lost") })
	}()
	first := map[string]uint32{}
	fins := map[string]bool{} // of the servers
	for late := time.After(deadline); len(fins) < 2; {
		select {
		case s := <-segments:
			switch from := s.From.String(); {
			case s.SYN && s.ACK:
				first[from] = s.Sequence + 1
			case s.FIN && s.From.Port() == 5000:
				if got := s.Sequence + s.Length - first[from]; got != size {
					t.Errorf("from %s: got %d bytes; want %d", from, got, size)
				}
				fins[from] = true
			}
		case <-late:
			t.Fatalf("got the FIN of %v only", fins)
		}
	}
	if !fins["203.0.113.21:5000"] || !fins["[2001:db8:113::21]:5000"] {
		t.Errorf("got the FIN of %v; want those of both servers at their own addresses", fins)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: got %v; want nil", err)
	}
}

// Run delivers the segments that the kernel has gathered before it ends.
func TestSegmentsAtTheEnd(t *testing.T) {
	l := router(t)
	nft(t, l.Gateway(), logRules)
	s := opened(t, l.Gateway(), func() (*conntrack.Segments, error) { return conntrack.Listen(2121) })
	serve(t, listen(t, l.Server(), "203.0.113.21:5000"), func(c net.Conn) error { return nil })
	if _, err := io.Copy(io.Discard, dial(t, l.Client(), "192.168.5.2:5000")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	got := 0
	err := s.Run(ctx, func(netflow.Segment) { got++ }, func() { t.Error("segments were lost") })
	if err != nil || got < 2 {
		t.Errorf("got %d segments, %v; want SYN and its answer at least", got, err)
	}
}
