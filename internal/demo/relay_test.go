package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"ftpgate/internal/ftp"
)

// relayStage plays the story of the relay: on loopback as it is, with a gateway that gives a 227 a port
// of its own. It implements stage.
type relayStage struct {
	*fakeStage
}

func (s relayStage) clientHost() host { return thisMachine{} }
func (s relayStage) serverHost() host { return thisMachine{} }

func (s relayStage) startServer(ctx context.Context, address string) (*witness, string, error) {
	w, _, err := s.fakeStage.startServer(ctx, address)
	return w, s.server.String(), err
}

func (s relayStage) startGateway(_ context.Context, args []string) (func() error, error) {
	l, err := net.Listen("tcp", args[len(args)-2])
	if err != nil {
		return nil, err
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
	return func() error {
		cancel()
		err := l.Close()
		sessions.Wait()
		return err
	}, nil
}

// relayed gives a 227 a port of the gateway's, and joins one connection there with the server's.
func (s relayStage) relayed(ctx context.Context, sessions *sync.WaitGroup, line string) string {
	if s.spoil != nil {
		return s.spoil(line)
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
		server, err := thisMachine{}.Dial(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", at.Port()))
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
	return "227 (" + hostPort(l) + ")\r\n"
}

func newRelayStage(t *testing.T) relayStage {
	s := newFakeStage(t)
	s.public = ""
	return relayStage{s}
}

func fakeRelayCast() cast {
	c := relayCast()
	c.download, c.upload = fakeCast.download, fakeCast.upload
	return c
}

func TestRelayStory(t *testing.T) {
	var out strings.Builder
	if err := tellRelay(testContext(t), &out, newRelayStage(t), fakeRelayCast()); err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %q; want 80 at most", n, line)
		}
	}
	golden(t, "relay.txt", out.String())
}

// TestRelayStoryGoesWrong: a gateway that relays nothing is found out, though all would go on loopback.
func TestRelayStoryGoesWrong(t *testing.T) {
	var out strings.Builder
	st := newRelayStage(t)
	st.spoil = unchanged
	err := tellRelay(testContext(t), &out, st, fakeRelayCast())
	if err == nil || !strings.Contains(err.Error(), "want a port of the gateway at 127.0.0.1") {
		t.Errorf("got %v; want it to miss the gateway's port", err)
	}
	if !strings.Contains(out.String(), "The story went differently") {
		t.Errorf("the story does not say so:\n%s", out.String())
	}
}

// TestRelayInterrupted: broken off in a session, the story ends with all that it has started.
func TestRelayInterrupted(t *testing.T) {
	why := errors.New("somebody pressed a key")
	ctx, cancel := context.WithCancelCause(testContext(t))
	defer cancel(nil)
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := Relay(ctx, in, fakeOptions())
		_ = in.Close()
		ended <- err
	}()
	var told strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fmt.Fprintln(&told, lines.Text())
		if strings.HasPrefix(lines.Text(), "---- Connecting to ") {
			cancel(why) // the gateway says nothing, and so the client waits
		}
	}
	if err := <-ended; !errors.Is(err, why) {
		t.Errorf("got %v; want %v", err, why)
	}
	places := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindAllString(told.String(), -1)
	if len(places) < 4 {
		t.Fatalf("%d places are named; want two of gateways and two of servers:\n%s", len(places), told.String())
	}
	for _, place := range places {
		if conn, err := net.Dial("tcp", place); err == nil {
			_ = conn.Close()
			t.Errorf("somebody is still at %s", place)
		}
	}
}
