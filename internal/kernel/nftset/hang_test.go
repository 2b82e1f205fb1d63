package nftset

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/kernel/netlink"
)

// While the kernel does not answer, ranges can be listed and the PassthroughSet closed. The socket is closed
// when the answer has arrived.
func TestPassthroughKernelHangs(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		t.Fatal(err)
	}
	kernel := pair[1]
	defer unix.Close(kernel)
	c := newElementConn("ftpgate")
	c.fd = pair[0]
	p := newPassthroughs(c, nil, time.Hour)
	go p.renewLoop(time.Hour)
	passthrough := pinhole.Passthrough{
		From: netip.MustParseAddr("192.168.5.1"), Listen: netip.MustParseAddr("192.168.5.2"),
		Ports: forward.PortRange{First: 50000, Last: 50100}, Target: netip.MustParseAddr("203.0.113.21"),
		SourceIP: netip.MustParseAddr("203.0.113.1"),
	}
	added := make(chan error, 1)
	go func() { added <- p.Add(passthrough) }()
	request := make([]byte, 4096)
	n, err := unix.Read(kernel, request)
	if err != nil {
		t.Fatal(err)
	}

	if got := p.Ranges(); !slices.Equal(got, []forward.PortRange{passthrough.Ports}) {
		t.Errorf("got ranges %v; want that of the range that is being added", got)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := p.Remove(passthrough); err == nil {
		t.Error("got no error from a Remove after Close")
	}

	var last uint32 // the last message with changes stands before the end of the batch
	for h := range netlink.Messages(request[:n]) {
		if h.Type != unix.NFNL_MSG_BATCH_END {
			last = h.Sequence
		}
	}
	var answer netlink.Buffer
	start := answer.BeginMessage(netlink.Header{Type: unix.NLMSG_ERROR, Sequence: last})
	answer = append(answer, 0, 0, 0, 0) // done
	answer.EndMessage(start)
	if _, err := unix.Write(kernel, answer); err != nil {
		t.Fatal(err)
	}
	if err := <-added; err != nil {
		t.Errorf("Add: got %v; want that the range was added", err)
	}
	if n, err := unix.Read(kernel, request); n != 0 || err != nil {
		t.Errorf("got %d bytes, %v; want the other end closed", n, err)
	}
}
