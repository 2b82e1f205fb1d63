package relay

import (
	"time"

	"ftpgate/internal/dataplane/socket"
)

// keepAliveDelay is how long a connection lasts before the kernel is told to ask its ends from time to time
// whether they are alive. Most are over by then, and it takes four system calls for each end.
const keepAliveDelay = time.Second

// addEnd makes conn an end of the connection. The caller holds the lock.
func (c *Connection) addEnd(side Side, conn *socket.Conn) {
	c.ends[side] = conn
	switch {
	case c.keptAlive:
		_ = conn.KeepAlive() // fails on a closed one only
	case c.keepAlive == nil:
		c.keepAlive = time.AfterFunc(keepAliveDelay, c.keepEndsAlive)
	}
}

// keepEndsAlive has the kernel notice the ends that vanish without a word.
func (c *Connection) keepEndsAlive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keptAlive = true
	for _, conn := range c.ends {
		if conn != nil {
			_ = conn.KeepAlive() // fails on a closed one only
		}
	}
}
