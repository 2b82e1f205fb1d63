package proxy

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// tlsRecord returns a TLS record.
func tlsRecord(typ byte, length int) string {
	return string([]byte{typ, 3, 3, byte(length >> 8), byte(length)}) + strings.Repeat("x", length)
}

// The server's ports are open to the client when it reads the first answer behind the handshake, and not
// before.
func TestPassedThroughHandshake(t *testing.T) {
	for _, fails := range []bool{false, true} {
		b := newStage(t, passing).connect()
		if fails {
			b.path.set(nil, errors.New("the table is gone"))
		}
		b.ask("AUTH TLS", "234 go on")
		for _, r := range []struct {
			server bool
			record string
		}{
			{false, tlsRecord(23, 100)}, {false, tlsRecord(22, 300)}, {true, tlsRecord(22, 100)},
			{true, tlsRecord(20, 1)}, {true, tlsRecord(23, 1000)}, {false, tlsRecord(23, 50)},
		} {
			from, to := b.client, b.server
			if r.server {
				from, to = b.server, b.client
			}
			from.say("%s", r.record)
			if got, err := io.ReadAll(io.LimitReader(to.lines, int64(len(r.record)))); err != nil ||
				string(got) != r.record || b.path.armings() != 0 {
				t.Fatalf("got %q, %v, %d ranges opened; want %q, and none", got, err, b.path.armings(),
					r.record)
			}
		}
		b.server.say("%s", tlsRecord(23, 40))
		if !fails {
			if _, err := b.client.lines.ReadByte(); err != nil || b.path.armings() != 1 {
				t.Errorf("got %v, %d ranges opened; want one", err, b.path.armings())
			}
			continue
		}
		b.client.heardAll()
		b.server.heardAll()
		b.await("the cause in the log", func() bool {
			return strings.Contains(b.logs.String(),
				"the table is gone")
		})
	}
}
