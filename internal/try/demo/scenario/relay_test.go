package scenario

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"ftpgate/internal/core/ftp"
)

// relayTestbed is a testbed on loopback, with a gateway that puts a port of its own into the 227. It
// implements Testbed.
type relayTestbed struct {
	*fakeTestbed
}

func (s relayTestbed) ClientHost() Host { return localHost{} }
func (s relayTestbed) ServerHost() Host { return localHost{} }

func (s relayTestbed) StartServer(ctx context.Context, address string, e TLSMode) (Server, error) {
	server, err := s.fakeTestbed.StartServer(ctx, address, e)
	server.Address = s.servers[address].String()
	return server, err
}

func (s relayTestbed) StartGateway(_ context.Context, args []string) (Gateway, error) {
	l, err := net.Listen("tcp", args[len(args)-2])
	if err != nil {
		return Gateway{}, err
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	var sessions sync.WaitGroup
	sessions.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", args[len(args)-1])
			if err != nil {
				s.t.Error(err)
				return
			}
			sessions.Go(func() { copyLines(server, client, unchanged) })
			sessions.Go(func() {
				copyLines(client, server, func(line string) string { return s.relayed(ctx, &sessions, line) })
			})
		}
	})
	stop := func() error {
		cancel()
		err := l.Close()
		sessions.Wait()
		return err
	}
	return Gateway{Stop: stop}, nil
}

// relayed puts a port of the gateway into a 227, and relays one connection there to the server.
func (s relayTestbed) relayed(ctx context.Context, sessions *sync.WaitGroup, line string) string {
	if s.rewrite != nil {
		return s.rewrite(line)
	}
	rest, ok := strings.CutPrefix(line, "227 ")
	if !ok {
		return line
	}
	at, err := ftp.Parse227([]byte(strings.TrimSpace(rest)))
	if err != nil {
		s.t.Error(err)
		return line
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Error(err)
		return line
	}
	context.AfterFunc(ctx, func() { _ = l.Close() })
	sessions.Go(func() {
		defer l.Close()
		client, err := l.Accept()
		if err != nil {
			return
		}
		defer client.Close()
		server, err := localHost{}.Dial(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", at.Port()))
		if err != nil {
			s.t.Error(err)
			return
		}
		defer server.Close()
		var up sync.WaitGroup
		up.Go(func() {
			_, _ = io.Copy(server, client)
			_ = server.(*net.TCPConn).CloseWrite()
		})
		_, _ = io.Copy(client, server)
		_ = client.(*net.TCPConn).CloseWrite()
		up.Wait()
	})
	return fmt.Sprintf("227 (%s)\r\n", ftp.AppendHostPort(nil, l.Addr().(*net.TCPAddr).AddrPort()))
}

// localHost is this machine. It implements Host.
type localHost struct{}

func (localHost) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

func (localHost) Listen(network, address string) (net.Listener, error) {
	return net.Listen(network, address)
}

func newRelayTestbed(t *testing.T) relayTestbed {
	s := newFakeTestbed(t)
	s.publicIP = ""
	return relayTestbed{s}
}

func fakeLoopback() Setup {
	c := LoopbackSetup()
	c.download, c.upload, c.large = fakeSetup.download, fakeSetup.upload, fakeSetup.large
	return c
}

func TestRunRelay(t *testing.T) {
	var out strings.Builder
	if err := RunRelay(testContext(t), &out, newRelayTestbed(t), fakeLoopback()); err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %q; want 80 at most", n, line)
		}
	}
	checkGolden(t, "relay.txt", out.String())
}

// TestRunRelayFails checks that RunRelay detects a gateway that does not rewrite the 227, although the client
// can connect to the server directly.
func TestRunRelayFails(t *testing.T) {
	var out strings.Builder
	bed := newRelayTestbed(t)
	bed.rewrite = unchanged
	err := RunRelay(testContext(t), &out, bed, fakeLoopback())
	if err == nil || !strings.Contains(err.Error(), "want a port of the gateway at 127.0.0.1") {
		t.Errorf("got %v; want an error about the gateway's port", err)
	}
	if !strings.Contains(out.String(), "Some steps did not end as expected") {
		t.Errorf("the report does not say so:\n%s", out.String())
	}
}
