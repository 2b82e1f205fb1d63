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

// TestRelayInterrupted interrupts the demo within a session, and checks that it ends all that it started.
func TestRelayInterrupted(t *testing.T) {
	why := errors.New("a key was pressed")
	ctx, cancel := context.WithCancelCause(testContext(t))
	defer cancel(nil)
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := Relay(ctx, in, fakeOptions())
		_ = in.Close()
		ended <- err
	}()
	var report strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fmt.Fprintln(&report, lines.Text())
		if strings.HasPrefix(lines.Text(), "---- Connecting to ") {
			cancel(why) // the gateway sends nothing, so the client waits
		}
	}
	if err := <-ended; !errors.Is(err, why) {
		t.Errorf("got %v; want %v", err, why)
	}
	addresses := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindAllString(report.String(), -1)
	if len(addresses) < 4 {
		t.Fatalf("got %d addresses; want two of gateways and two of servers:\n%s", len(addresses),
			report.String())
	}
	for _, address := range addresses {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			t.Errorf("%s still accepts connections", address)
		}
	}
}
