package proxy

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane"
)

// benched is a proxy on loopback without any log, and the server behind it.
type benched struct {
	b       *testing.B
	servers *net.TCPListener
	address string
	buf     [256]byte // of exchange
}

func newBenched(b *testing.B) *benched {
	b.Helper()
	s := &benched{b: b, servers: loopback(b)}
	f := forward.Resolved{Forward: forward.Forward{Name: "bench", Limits: forward.Limits{PerClient: 1 << 20}}}
	at := s.servers.Addr().(*net.TCPAddr).AddrPort()
	f.Server4, f.Server.Port = at.Addr(), at.Port()
	p := &Proxy{Path: &instantPath{}, Log: slog.New(slog.DiscardHandler),
		Forward: func() forward.Resolved { return f }}
	l := loopback(b)
	s.address = l.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := p.Serve(ctx, ctx, l); err != nil {
			b.Error(err)
		}
	})
	b.Cleanup(func() {
		stop()
		done.Wait()
	})
	return s
}

// instantPath reports every transfer as delivered at once.
type instantPath struct{ fakePath }

func (p *instantPath) Open(_ context.Context, pinhole pinhole.Pinhole, _ dataplane.DataTLS) (dataplane.Data,
	netip.AddrPort, error) {
	return instantData{&fakeData{pinhole: pinhole}}, netip.AddrPortFrom(pinhole.Listen.Addr(), 50000), nil
}

type instantData struct{ *fakeData }

func (d instantData) AwaitBothEnds(<-chan struct{}) {}
func (d instantData) Use()                          {}
func (d instantData) Ended() <-chan struct{}        { return nil }
func (d instantData) Unuse()                        {}
func (d instantData) BeforeClientEnds(func())       {}
func (d instantData) Arm() error                    { return nil }
func (d instantData) Finish(<-chan struct{})        {}
func (d instantData) Close() pinhole.Outcome        { return d.Outcome() }
func (d instantData) Outcome() pinhole.Outcome {
	return pinhole.Outcome{Path: forward.DataRelay, FinishReturnsNow: true, Complete: true}
}

// session connects, and has the server greet and take the client in.
func (s *benched) session() (client, server *net.TCPConn) {
	s.b.Helper()
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		s.b.Fatal(err)
	}
	a, err := s.servers.AcceptTCP()
	if err != nil {
		s.b.Fatal(err)
	}
	s.exchange(a, c, "220 hello\r\n")
	s.exchange(c, a, "USER anonymous\r\n")
	s.exchange(a, c, "331 any password\r\n")
	s.exchange(c, a, "PASS me@example.com\r\n")
	s.exchange(a, c, "230 welcome\r\n")
	return c.(*net.TCPConn), a
}

// exchange has one end send lines, and waits until the other end has about as many bytes.
func (s *benched) exchange(from, to net.Conn, lines string) {
	s.b.Helper()
	if _, err := io.WriteString(from, lines); err != nil {
		s.b.Fatal(err)
	}
	if _, err := io.ReadAtLeast(to, s.buf[:], len(lines)); err != nil {
		s.b.Fatal(err)
	}
}

// BenchmarkIdleSession is what an idle session holds: B/session, of heap and stacks, without the test's own
// ends.
func BenchmarkIdleSession(b *testing.B) {
	const sessions = 2000
	for b.Loop() {
		s := newBenched(b)
		// The ends of the test cost what two bare connections cost: they are measured first.
		own := footprint(func() func() { return bare(b, sessions) })
		all := footprint(func() func() {
			var held []net.Conn
			for range sessions {
				c, a := s.session()
				held = append(held, c, a)
			}
			return func() {
				for _, c := range held {
					c.Close()
				}
			}
		})
		b.ReportMetric((all-own)/sessions, "B/session")
	}
}

// bare opens as many pairs of connections as a test of sessions has in its own hands.
func bare(b *testing.B, n int) (closeAll func()) {
	l := loopback(b)
	var held []net.Conn
	for range n {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		a, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		held = append(held, c, a)
	}
	return func() {
		for _, c := range held {
			c.Close()
		}
	}
}

// footprint is how much heap and stacks grow by what f leaves behind, in bytes.
func footprint(f func() (undo func())) float64 {
	before := inUse()
	undo := f()
	after := inUse()
	undo()
	return after - before
}

func inUse() float64 {
	for range 3 { // stacks shrink with the collector
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapInuse) + float64(m.StackInuse)
}

// BenchmarkRoundTrip is a command and its reply through the proxy, and directly.
func BenchmarkRoundTrip(b *testing.B) {
	b.Run("proxy", func(b *testing.B) {
		client, server := newBenched(b).session()
		roundTrips(b, client, server)
	})
	b.Run("direct", func(b *testing.B) {
		l := loopback(b)
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		a, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		roundTrips(b, c, a)
	})
}

func roundTrips(b *testing.B, client, server net.Conn) {
	go func() {
		lines := bufio.NewReader(server)
		for {
			if _, err := lines.ReadSlice('\n'); err != nil {
				return
			}
			if _, err := io.WriteString(server, "200 ok\r\n"); err != nil {
				return
			}
		}
	}()
	lines := bufio.NewReader(client)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.WriteString(client, "NOOP\r\n"); err != nil {
			b.Fatal(err)
		}
		if _, err := lines.ReadSlice('\n'); err != nil {
			b.Fatal(err)
		}
	}
	client.Close()
	server.Close()
}

// BenchmarkTransfer is the dialogue of one passive transfer through the proxy.
func BenchmarkTransfer(b *testing.B) {
	client, server := newBenched(b).session()
	go func() {
		lines := bufio.NewReader(server)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			reply := "150 here\r\n226 done\r\n"
			if strings.HasPrefix(line, "EPSV") {
				reply = "229 ok (|||50000|)\r\n"
			}
			if _, err := io.WriteString(server, reply); err != nil {
				return
			}
		}
	}()
	lines := bufio.NewReader(client)
	b.ReportAllocs()
	for b.Loop() {
		for _, step := range []struct {
			command string
			replies int
		}{{"EPSV\r\n", 1}, {"RETR x\r\n", 2}} {
			if _, err := io.WriteString(client, step.command); err != nil {
				b.Fatal(err)
			}
			for range step.replies {
				if _, err := lines.ReadSlice('\n'); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	client.Close()
	server.Close()
}

// BenchmarkSession is a whole session with one passive transfer, from its connection to its end.
func BenchmarkSession(b *testing.B) {
	s := newBenched(b)
	b.ReportAllocs()
	for b.Loop() {
		client, server := s.session()
		for _, step := range []struct{ command, reply string }{
			{"PASV\r\n", "227 Entering Passive Mode (127,0,0,1,195,80)\r\n"},
			{"RETR x\r\n", "150 here\r\n226 done\r\n"},
			{"QUIT\r\n", "221 bye\r\n"},
		} {
			s.exchange(client, server, step.command)
			s.exchange(server, client, step.reply)
		}
		if _, err := io.Copy(io.Discard, client); err != nil {
			b.Fatal(err)
		}
		client.Close()
		server.Close()
	}
}
