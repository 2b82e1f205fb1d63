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
	"testing"
)

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
