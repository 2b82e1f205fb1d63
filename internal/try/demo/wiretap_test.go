package demo

import (
	"bytes"
	"io"
	"testing"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// TestTapBoth: what goes over a link is seen by its own tap, whole and nowhere else.
func TestStartTaps(t *testing.T) {
	l := labtest.New(t)
	stop, err := startTaps(l.Gateway())
	if err != nil {
		t.Fatal(err)
	}
	for _, side := range []struct {
		from    *lab.Host
		address string
		text    string
	}{
		{l.Client(), lab.GatewayLAN4.String() + ":7000", "between client and gateway"},
		{l.Server(), lab.GatewayWAN4.String() + ":7000", "between gateway and server"},
	} {
		server, err := l.Gateway().Listen("tcp", side.address)
		if err != nil {
			t.Fatal(err)
		}
		client, err := side.from.Dial(t.Context(), "tcp", side.address)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := server.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(client, side.text)
		_ = client.Close()
		if got, err := io.ReadAll(conn); err != nil || string(got) != side.text {
			t.Errorf("got %q, %v; want %q", got, err, side.text)
		}
		_ = conn.Close()
		_ = server.Close()
	}
	client, server, err := stop()
	if err != nil {
		t.Error(err)
	}
	for _, tt := range []struct {
		side, text string
		captured   []byte
		want       bool
	}{
		{"client", "between client and gateway", client, true},
		{"client", "between gateway and server", client, false},
		{"server", "between client and gateway", server, false},
		{"server", "between gateway and server", server, true},
	} {
		if got := bytes.Contains(tt.captured, []byte(tt.text)); got != tt.want {
			t.Errorf("%s's side, %q: captured %v; want %v", tt.side, tt.text, got, tt.want)
		}
	}
}
