package quirk

import (
	"context"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

var own = netip.MustParseAddrPort("203.0.113.21:50000")

func TestSegments(t *testing.T) {
	for _, tt := range []struct {
		quirk Quirk
		want  []string
	}{
		{TwoSegments, []string{"227 Entering Passive ", "Mode (203,0,113,21,195,80)\r\n"}},
		{OneSegment, []string{"227 Entering Passive Mode (203,0,113,21,195,80)\r\n"}},
		{PartialLine, []string{"227-Entering Pas", "sive Mode\r\n227 (203,0,113,21,195,80)\r\n"}},
		{Foreign, []string{"227 Entering Passive Mode (198,51,100,7,195,80)\r\n"}},
		{Unspecified, []string{"227 Entering Passive Mode (0,0,0,0,195,80)\r\n"}},
		{"another host", []string{"227 Entering Passive Mode (203,0,113,21,195,80)\r\n"}},
	} {
		if got := tt.quirk.Segments(own); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q; want %q", tt.quirk, got, tt.want)
		}
	}
}

// pipeListener is a listener with one connection, which keeps the segments as they were written.
type pipeListener struct{ conns chan net.Conn }

// serverConn is the server's end of the connection, with a local address.
type serverConn struct{ net.Conn }

func (serverConn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(own) }

func (p pipeListener) Accept() (net.Conn, error) {
	c, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return serverConn{c}, nil
}

func (p pipeListener) Close() error   { close(p.conns); return nil }
func (p pipeListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(own) }

// startSession serves one connection until the test ends. It returns the client's end, and the addresses on
// which the server accepts data connections.
func startSession(t *testing.T) (client net.Conn, data chan net.Addr) {
	t.Helper()
	client, theirs := net.Pipe()
	_ = client.SetDeadline(time.Now().Add(20 * time.Second)) // a test that hangs
	p := pipeListener{make(chan net.Conn, 1)}
	p.conns <- theirs
	data = make(chan net.Addr, 1)
	s := &Server{
		Listing: "a\r\nb\r\n",
		Listen: func(network, _ string) (net.Listener, error) {
			l, err := net.Listen(network, "127.0.0.1:0")
			if err == nil {
				data <- l.Addr()
			}
			return l, err
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, p) }()
	t.Cleanup(func() {
		cancel() // also ends the open session
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return client, data
}

// readSegment reads one segment.
func readSegment(t *testing.T, c net.Conn) string {
	t.Helper()
	segment := make([]byte, 4096)
	n, err := c.Read(segment)
	if err != nil {
		t.Fatal(err)
	}
	return string(segment[:n])
}

func write(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// TestServe checks that the server writes the segments of a quirk one by one, and sends the listing.
func TestServe(t *testing.T) {
	client, data := startSession(t)
	for _, tt := range []struct{ command, want string }{
		{"", "220 the server with quirks\r\n"},
		{"USER two-segments\r\n", "331 password, please\r\n"},
		{"PASS x\r\n", "230 welcome\r\n"},
		{"LIST\r\n", "425 PASV first\r\n"},
		{"EPSV\r\n", "502 not here\r\n"},
		{"PASV\r\n", "227 Entering Passive "},
		{"", "Mode (127,0,0,1,"},
		{"LIST\r\n", "150 here it comes\r\n"},
	} {
		if tt.command != "" {
			write(t, client, tt.command)
		}
		if got := readSegment(t, client); !strings.HasPrefix(got, tt.want) {
			t.Fatalf("%q: got %q; want %q", tt.command, got, tt.want)
		}
	}
	conn, err := net.Dial("tcp", (<-data).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := io.ReadAll(conn); err != nil || string(got) != "a\r\nb\r\n" {
		t.Errorf("got %q, %v; want the listing", got, err)
	}
	if got := readSegment(t, client); got != "226 that was it\r\n" {
		t.Errorf("got %q; want 226", got)
	}
	write(t, client, "QUIT\r\n")
	if got := readSegment(t, client); got != "221 goodbye\r\n" {
		t.Errorf("got %q; want 221", got)
	}
}

// TestServeTogether checks that the server answers commands of one segment in one segment.
func TestServeTogether(t *testing.T) {
	client, _ := startSession(t)
	readSegment(t, client)
	write(t, client, "USER one-segment\r\nTYPE I\r\nPASV\r\n")
	got := readSegment(t, client)
	if !strings.HasPrefix(got, "331 password, please\r\n200 ok\r\n227 Entering") ||
		!strings.HasSuffix(got, ")\r\n") {
		t.Errorf("got %q; want 331, 200 and 227 in one segment", got)
	}
}
