package relay

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane/relaytest"
)

func TestConnection(t *testing.T) {
	const large = 4 << 20 // several chunks, more than the sockets' buffers begin with
	mapped := func(a netip.Addr) netip.Addr { return netip.AddrFrom16(a.As16()) }
	four := pinhole.Pinhole{From: relaytest.Peer, Listen: netip.AddrPortFrom(relaytest.Gateway, 0),
		Target: netip.AddrPortFrom(relaytest.Server, 0), SourceIP: relaytest.Inside}
	six := pinhole.Pinhole{From: relaytest.Loopback6, Listen: netip.AddrPortFrom(relaytest.Loopback6, 0),
		Target: netip.AddrPortFrom(relaytest.Loopback6, 0), SourceIP: relaytest.Loopback6}
	for _, tt := range []struct {
		name    string
		pinhole pinhole.Pinhole
		up, out int // bytes from the client, and from the server
	}{
		{"upload", four, large, 0},
		{"download", four, 0, large},
		{"both at once", four, large, large + 1},
		{"nothing", four, 0, 0},
		{"one byte", four, 1, 0},
		{"ipv6", six, 1000, large},
		{"ipv6 to ipv4", pinhole.Pinhole{From: relaytest.Loopback6, Listen: six.Listen, Target: four.Target,
			SourceIP: relaytest.Inside}, 1000, 1000},
		{"ipv4 to ipv6", pinhole.Pinhole{From: relaytest.Peer, Listen: four.Listen, Target: six.Target,
			SourceIP: relaytest.Loopback6}, 1000, 1000},
		{"mapped", pinhole.Pinhole{From: mapped(relaytest.Peer),
			Listen: netip.AddrPortFrom(mapped(relaytest.Gateway), 0),
			Target: netip.AddrPortFrom(mapped(relaytest.Server),
				0), SourceIP: mapped(relaytest.Inside)}, 1000, 1000},
		{"any source", pinhole.Pinhole{From: relaytest.Peer, Listen: four.Listen, Target: four.Target},
			1000, 1000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := relaytest.Listen(t, tt.pinhole.Target.Addr().Unmap())
			tt.pinhole.Target = netip.AddrPortFrom(tt.pinhole.Target.Addr(),
				relaytest.LocalAddrPort(l.Addr()).Port())
			dc := open(t, opener(), tt.pinhole)
			if got, want := dc.Listen().Addr(), tt.pinhole.Listen.Addr().Unmap(); got != want {
				t.Errorf("announced: got %s; want %s", got, want)
			}
			client := relaytest.Dial(t, tt.pinhole.From.Unmap(), dc.Listen())
			srv := relaytest.Accept(t, l)
			seen, want := relaytest.LocalAddrPort(srv.RemoteAddr()).Addr(), tt.pinhole.SourceIP.Unmap()
			if want.IsValid() && seen != want {
				t.Errorf("the far end sees %s; want %s", seen, want)
			}
			up, out := relaytest.Noise(tt.up), relaytest.Noise(tt.out)
			sentUp, sentOut := relaytest.Send(client, up), relaytest.Send(srv, out)
			got := make(chan struct{})
			go func() {
				defer close(got)
				relaytest.WantData(t, "server", srv, up)
			}()
			relaytest.WantData(t, "client", client, out)
			<-got
			if err := errors.Join(<-sentUp, <-sentOut); err != nil {
				t.Error(err)
			}
			wantComplete(t, dc, int64(tt.up), int64(tt.out))
		})
	}
}

// wantComplete checks the result of a connection that went well.
func wantComplete(t *testing.T, dc *Connection, up, out int64) {
	t.Helper()
	r := wait(t, dc)
	if r.Err != nil || r.Up != up || r.Down != out || r.UnexpectedPeer.IsValid() {
		t.Errorf("got %+v; want no error, %d and %d bytes", r, up, out)
	}
	if r.Connected.IsZero() || !r.BothConnected {
		t.Errorf("got %+v; want both ends connected", r)
	}
}

// TestHalfClose has one end finish first, and the other continue long after.
func TestHalfClose(t *testing.T) {
	for _, first := range []Side{Client, Server} {
		t.Run(first.String(), func(t *testing.T) {
			dc, client, srv := connected(t)
			ends := [2]*net.TCPConn{client, srv}
			early, late := ends[first], ends[first.other()]
			if err := <-relaytest.Send(early, []byte("first")); err != nil {
				t.Fatal(err)
			}
			relaytest.WantData(t, "late end", late, []byte("first"))
			for range 3 { // to and fro, so that each piece is known to have gone through before the next
				if _, err := late.Write([]byte("later")); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(early, make([]byte, 5)); err != nil {
					t.Fatal(err)
				}
			}
			relaytest.Await(t, func() bool { a, b := dc.Bytes(); return a+b == 20 },
				func() string {
					a, b := dc.Bytes()
					return "the counters stand at " +
						time.Duration(a+b).String()
				})
			late.CloseWrite()
			relaytest.WantData(t, "early end", early, nil)
			if r := wait(t, dc); r.Err != nil {
				t.Error(r.Err)
			}
		})
	}
}

// both joins a connection, has f break it off, and checks who is said to have done so.
func both(f func(t *testing.T, breaker, other *net.TCPConn)) func(*testing.T, Side) {
	return func(t *testing.T, side Side) {
		dc, client, srv := connected(t)
		srv.Write([]byte("150")) // once it is there, both ends are connected
		if _, err := io.ReadFull(client, make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
		ends := [2]*net.TCPConn{client, srv}
		f(t, ends[side], ends[side.other()])
		wantBroken(t, wait(t, dc).Err, side)
	}
}

// TestReset has an end break off in every state: the other must see a reset, and never a FIN.
func TestReset(t *testing.T) {
	for _, tt := range []struct {
		name string
		run  func(*testing.T, Side)
	}{
		{"idle", both(func(t *testing.T, breaker, other *net.TCPConn) {
			relaytest.Reset(breaker)
			relaytest.WantReset(t, "other end", other)
		})},
		{"after data", both(func(t *testing.T, breaker, other *net.TCPConn) {
			breaker.Write(relaytest.Noise(100_000))
			io.CopyN(io.Discard, other, 100_000)
			relaytest.Reset(breaker)
			relaytest.WantReset(t, "other end", other)
		})},
		{"while the other sends", both(func(t *testing.T, breaker, other *net.TCPConn) {
			sent := make(chan error, 1)
			go func() { // without an end
				_, err := io.Copy(other, zeros{})
				sent <- err
			}()
			io.CopyN(io.Discard, breaker, 1<<20)
			relaytest.Reset(breaker)
			if err := <-sent; !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("got %v; want a reset", err)
			}
		})},
		{"after its FIN", both(func(t *testing.T, breaker, other *net.TCPConn) {
			breaker.CloseWrite()
			relaytest.WantData(t, "other end", other, nil)
			relaytest.Reset(breaker)
			// The FIN has arrived before: only a write can show the reset.
			if _, err := io.Copy(other, zeros{}); !errors.Is(err, syscall.ECONNRESET) &&
				!errors.Is(err, syscall.EPIPE) {
				t.Errorf("got %v; want a reset", err)
			}
		})},
		{"after the other's FIN", both(func(t *testing.T, breaker, other *net.TCPConn) {
			other.CloseWrite()
			relaytest.WantData(t, "breaker", breaker, nil)
			relaytest.Reset(breaker)
			relaytest.WantReset(t, "other end", other)
		})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Run(Client.String(), func(t *testing.T) { tt.run(t, Client) })
			t.Run(Server.String(), func(t *testing.T) { tt.run(t, Server) })
		})
	}
}

// zeros is data without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestResetWhileWritten resets an upload while data for the one that breaks off waits in the gateway: the
// kernel reports a reset once, to the direction that asks first, and the other one must not take what it sees
// then for a FIN.
func TestResetWhileWritten(t *testing.T) {
	for range 30 {
		dc, client, srv := connected(t)
		client.SetReadBuffer(4096)
		if _, err := srv.Write(make([]byte, 1<<20)); err != nil { // more than goes through
			t.Fatal(err)
		}
		client.Write([]byte("half of a file"))
		io.ReadFull(client, make([]byte, 1))
		relaytest.Reset(client)
		relaytest.WantReset(t, "server", srv)
		wantBroken(t, wait(t, dc).Err, Client)
	}
}

// deaf is a far end that never answers: its queue of connections is full, and the kernel drops
// further SYNs.
func deaf(t *testing.T) *net.TCPListener {
	t.Helper()
	l := relaytest.Listen(t, relaytest.Server)
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.Listen(int(fd), 0) })
	if err != nil {
		t.Fatal(err)
	}
	relaytest.Dial(t, relaytest.Peer, relaytest.LocalAddrPort(l.Addr()))
	return l
}

func TestDialFails(t *testing.T) {
	gone := relaytest.Listen(t, relaytest.Server)
	gone.Close()
	for _, tt := range []struct {
		name   string
		opener *Opener
		to     *net.TCPListener
		want   error
	}{
		{"refused", opener(), gone, syscall.ECONNREFUSED},
		{"no answer", &Opener{Relay: newRelay(), Ports: forward.DefaultPassivePorts,
			DialTime: 20 * time.Millisecond}, deaf(t),
			os.ErrDeadlineExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dc := open(t, tt.opener, pinholeTo(tt.to))
			relaytest.WantCutOff(t, "client", relaytest.Peer, dc.Listen())
			r := wait(t, dc)
			var dial *DialError
			timeout := false
			if ne, ok := errors.AsType[net.Error](r.Err); ok {
				timeout = ne.Timeout()
			}
			if !errors.As(r.Err, &dial) || dial.Side != Server || !errors.Is(r.Err, tt.want) && !timeout {
				t.Errorf("got %v; want a DialError of the %s: %v", r.Err, Server, tt.want)
			}
			if r.Connected.IsZero() || r.BothConnected {
				t.Errorf("got %+v; want it connected at one end only", r)
			}
		})
	}
}
