package conntrack_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/kernel/conntrack"
	"ftpgate/internal/try/lab"
)

// source is an endless reader; its bytes have no meaning.
type source struct{}

func (source) Read(b []byte) (int, error) { return len(b), nil }

// retries bounds how often a transfer is repeated because a segment was lost or overtaken, which happens on a
// busy machine.
const retries = 200

// transfer carries size bytes from the client to the server, or back. It returns the flow at its end, and how
// many segments were sent again or came out of order, which the ends report in SACK blocks.
func transfer(t *testing.T, l *lab.Lab, c *conntrack.Conn, events <-chan netflow.FlowEvent,
	listener net.Listener, upload bool, size int64) (f netflow.Flow, again uint32) {
	t.Helper()
	accepted := make(chan net.Conn, 1)
	go func() {
		s, err := listener.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- s
	}()
	port := listener.Addr().(*net.TCPAddr)
	gateway := lab.GatewayLAN4
	if port.IP.To4() == nil {
		gateway = lab.GatewayLAN6
	}
	client := dial(t, l.Client(), net.JoinHostPort(gateway.String(), fmt.Sprint(port.Port)))
	original := tupleOf(client)
	server := <-accepted
	bounded(t, server)
	from, to := server.(*net.TCPConn), client.(*net.TCPConn)
	if upload {
		from, to = to, from
	}
	// With a small window hardly more than one packet is on its way, which nothing can overtake.
	if err := to.SetReadBuffer(16 << 10); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(from, io.LimitReader(source{}, size))
		sent <- errors.Join(err, from.CloseWrite())
	}()
	got, err := io.Copy(io.Discard, to)
	if serr := <-sent; serr != nil || err != nil || got != size {
		t.Fatalf("transfer of %d: got %d bytes, %v, %v", size, got, serr, err)
	}
	again = retransmitted(t, from) + retransmitted(t, to)
	if err := errors.Join(to.Close(), from.Close()); err != nil {
		t.Fatal(err)
	}
	await(t, events, "the transfer is over", over(original))
	return one(t, c, original), again
}

// retransmitted returns how many segments one end of a connection sent again, or received out of order.
func retransmitted(t *testing.T, c *net.TCPConn) (count uint32) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) {
		var info *unix.TCPInfo
		if info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			count = info.Total_retrans + info.Rcv_ooopack
		}
	}); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return count
}

// Payload returns exactly the bytes that were transferred: in both families and directions, with and without
// timestamps at each end, for empty and for large files.
func TestPayloadIsWhatWasTransferred(t *testing.T) {
	l := router(t)
	c := open(t, l.Gateway())
	events := watch(t, l.Gateway(), nil, netflow.FlowNew, netflow.FlowUpdated)
	for _, server := range []string{"203.0.113.21:5000", "[2001:db8:113::21]:5000"} {
		listener := listen(t, l.Server(), server)
		for _, stamps := range []string{"11", "00", "10", "01"} { // at the client, at the server
			sysctl(t, l.Client(), "net.ipv4.tcp_timestamps", stamps[:1])
			sysctl(t, l.Server(), "net.ipv4.tcp_timestamps", stamps[1:])
			for _, upload := range []bool{false, true} {
				for _, size := range []int64{0, 1, 1 << 10, 1 << 20} {
					name := fmt.Sprintf("%s timestamps=%s upload=%v %d bytes", server, stamps, upload, size)
					f, again := transfer(t, l, c, events, listener, upload, size)
					for i := 0; again > 0 && i < retries; i++ {
						f, again = transfer(t, l, c, events, listener, upload, size)
					}
					if again > 0 {
						t.Fatalf("%s: segments were lost in every attempt", name)
					}
					checkPayload(t, name, f, upload, uint64(size), stamps)
				}
			}
		}
	}
}

func checkPayload(t *testing.T, name string, f netflow.Flow, upload bool, size uint64, stamps string) {
	t.Helper()
	sent, received, exact := conntrack.Payload(f)
	wantSent, wantReceived := uint64(0), size
	if upload {
		wantSent, wantReceived = size, 0
	}
	// If neither end uses timestamps, and the client's bytes are its data, its SYN may have offered them.
	wantExact := stamps == "11" || !upload && size > 0 || stamps[0] == '0' && size < 8
	if stamps == "10" && (upload || size == 0) {
		wantSent += 8
	}
	if sent != wantSent || received != wantReceived || exact != wantExact {
		t.Errorf("%s: got %d and %d, exact %v; want %d and %d, %v (counted %+v and %+v)",
			name, sent, received, exact, wantSent, wantReceived, wantExact, f.Sent, f.Received)
	}
}

// Segments that are lost after the gateway are counted twice. The count is not below the size of the
// transfer, and Payload reports that it is not exact.
func TestPayloadAfterLossIsNotExact(t *testing.T) {
	l := router(t)
	nft(t, l.Gateway(), `table inet loss {
		chain forward {
			type filter hook forward priority 0;
			tcp sport 5000 ip length > 1000 numgen inc mod 7 == 5 drop
		}
	}`)
	c := open(t, l.Gateway())
	events := watch(t, l.Gateway(), nil, netflow.FlowNew, netflow.FlowUpdated)
	const size = 1 << 20
	f, again := transfer(t, l, c, events, listen(t, l.Server(), "203.0.113.21:5000"), false, size)
	sent, received, exact := conntrack.Payload(f)
	t.Logf("%d segments sent again: %d and %d bytes too many", again, sent, received-size)
	if again == 0 || exact || received < size || received > 2*size {
		t.Errorf("got %d, exact %v, with %d segments sent again; want some more than %d, false", received,
			exact, again, size)
	}
}

// The counts of a flow give its payload, or say that they cannot.
func TestPayloadOf(t *testing.T) {
	v4 := tuple("192.168.5.1:40000", "192.168.5.2:5000")
	v6 := tuple("[2001:db8:5::1]:40000", "[2001:db8:5::2]:5000")
	for _, tt := range []struct {
		name           string
		original       netflow.Tuple
		sent, received netflow.Counter
		wantSent       uint64
		wantReceived   uint64
		wantExact      bool
	}{
		{"no accounting", v4, netflow.Counter{}, netflow.Counter{}, 0, 0, false},
		{"no answer yet, with timestamps or without and 8 bytes", v4, netflow.Counter{Packets: 1, Bytes: 60},
			netflow.Counter{}, 0, 0, false},
		{"timestamps", v4, netflow.Counter{Packets: 4, Bytes: 216}, netflow.Counter{Packets: 4, Bytes: 1240},
			0, 1024, true},
		{"timestamps, running", v6, netflow.Counter{Packets: 2, Bytes: 152},
			netflow.Counter{Packets: 2, Bytes: 1176}, 0, 1024, true},
		{"no timestamps", v4, netflow.Counter{Packets: 4, Bytes: 172},
			netflow.Counter{Packets: 4, Bytes: 1196}, 0, 1024, true},
		{"no timestamps, SYN may have had them", v4, netflow.Counter{Packets: 5, Bytes: 1236},
			netflow.Counter{Packets: 3, Bytes: 132}, 1024, 0, false},
		{"SACK", v4, netflow.Counter{Packets: 1200, Bytes: 62456},
			netflow.Counter{Packets: 1591, Bytes: 67319028}, 48, 67236288, false},
		{"SACK, no timestamps", v4, netflow.Counter{Packets: 1901, Bytes: 67474644},
			netflow.Counter{Packets: 1822, Bytes: 73012}, 67398592, 120, false},
		{"both directions", v4, netflow.Counter{Packets: 11, Bytes: 1580},
			netflow.Counter{Packets: 11, Bytes: 2580}, 1000, 2000, false},
		{"nonsense", v4, netflow.Counter{Packets: 10, Bytes: 10}, netflow.Counter{Packets: 1 << 63, Bytes: 3},
			0, 0, false},
	} {
		f := netflow.Flow{Original: tt.original, Sent: tt.sent, Received: tt.received}
		sent, received, exact := conntrack.Payload(f)
		if sent != tt.wantSent || received != tt.wantReceived || exact != tt.wantExact {
			t.Errorf("%s: got %d and %d, exact %v; want %d and %d, %v", tt.name, sent, received, exact,
				tt.wantSent, tt.wantReceived, tt.wantExact)
		}
	}
}
