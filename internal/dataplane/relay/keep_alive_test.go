package relay

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/dataplane/relaytest"
	"ftpgate/internal/dataplane/socket"
)

// The kernel asks the ends of a connection that lasts whether they are alive.
func TestKeepAlive(t *testing.T) {
	dc, client, srv := connected(t)
	srv.Write([]byte{1})
	client.Read(make([]byte, 1)) // both ends are connected
	for side, conn := range dc.ends {
		var on, idle int
		relaytest.Await(t, func() bool {
			on, idle = option(t, conn, unix.SOL_SOCKET, unix.SO_KEEPALIVE),
				option(t, conn, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
			return on == 1 && idle == 15
		}, func() string { return fmt.Sprintf("the %s has keep-alive %d after %d s", Side(side), on, idle) })
	}
}

// option returns an option of a socket.
func option(t *testing.T, c *socket.Conn, level, name int) (value int) {
	t.Helper()
	if err := c.Control(func(fd int) (err error) {
		value, err = unix.GetsockoptInt(fd, level, name)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return value
}
