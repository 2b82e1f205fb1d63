package relay

import (
	"errors"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/dataplane/socket"
)

// copyBoth carries data in both directions until both have ended or one has failed.
func (c *Connection) copyBoth() {
	close(c.bothConnected)
	if !c.copier.prepare() {
		return
	}
	close(c.flowing)
	var back sync.WaitGroup
	back.Go(func() { c.copyDirection(Server) })
	c.copyDirection(Client)
	back.Wait()
}

// copyDirection forwards what that side sends, and then watches that end until the other direction has ended
// too: an end that has sent its last byte can still break.
func (c *Connection) copyDirection(side Side) {
	if err := c.copier.copy(side); err != nil {
		c.awaitAcknowledged(side, err)
		c.fail(err)
		return
	}
	if c.bothEnded() {
		// Only watchForReset, if anything, still reads.
		for _, conn := range c.ends {
			_ = conn.SetReadDeadline(time.Unix(1, 0)) // fails only on a closed one
		}
		return
	}
	if err := c.watchForReset(side); err != nil && !c.copier.closedCleanly(side) {
		c.awaitAcknowledged(side, err)
		c.fail(err)
	}
}

// bothEnded reports whether both ends have sent their FIN, and all data before it was forwarded.
func (c *Connection) bothEnded() bool {
	return c.finReceived[Client].Load() && c.finReceived[Server].Load()
}

// markFINReceived notes that side has sent its FIN, and all its data was forwarded.
func (c *Connection) markFINReceived(side Side) { c.finReceived[side].Store(true) }

// markFINForwarded notes that the FIN of side was forwarded.
func (c *Connection) markFINForwarded(side Side) { close(c.finForwarded[side]) }

// brokeUnseen reports whether side has broken although reading from it returned an orderly end. A socket
// reports its reset once: if the writing direction got that report, the reading direction sees an end. A
// socket is closed in order only after our own FIN, which follows the last byte of the other direction.
// (brokeUnseen checks that twice: the other direction may end in between.)
func (c *Connection) brokeUnseen(side Side) bool {
	back := &c.finReceived[side.other()]
	return !back.Load() && isGone(c.ends[side]) && !back.Load()
}

// sentFIN reports whether an end without TLS has sent its FIN, once all its bytes were forwarded. A reset may
// follow: the end has closed, and its kernel has forgotten the connection when a late segment arrives. Its
// data is still complete. The kernel counts the FIN as a byte (tcp_fin in net/ipv4/tcp_input.c).
func (c *Connection) sentFIN(side Side) bool {
	info, err := tcpInfo(c.ends[side])
	return err == nil && info.Bytes_received > uint64(c.bytes[side].Load())
}

// tcpInfo returns the kernel's state of a connection, also of one that has ended (TCP_INFO in tcp(7)).
func tcpInfo(c syscall.Conn) (info *unix.TCPInfo, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	err = socket.Control(raw, func(fd int) (err error) {
		info, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err
	})
	return info, err
}

// awaitAcknowledged waits until the data that an end sent before it broke has reached the other one, ahead
// of the reset, as it would without a gateway: some clients reset after the last byte of a whole file (their
// kernel does, because of TLS session tickets that they have not read). It gives up when nothing has moved
// for graceTime.
func (c *Connection) awaitAcknowledged(side Side, err error) {
	if broken, ok := errors.AsType[*BrokenError](err); !ok || broken.Side != side {
		return
	}
	c.announceEnd(side)
	late := time.NewTimer(c.graceTime)
	defer late.Stop()
	tick := time.NewTicker(firstPoll)
	defer tick.Stop()
	for before := 0; ; {
		unsent, err := unacknowledged(c.ends[side.other()])
		if err != nil || unsent == 0 {
			return
		}
		if unsent != before {
			before = unsent
			late.Reset(c.graceTime)
		}
		select {
		case <-tick.C:
		case <-late.C:
			return
		case <-c.broken:
			return
		}
	}
}

// unacknowledged returns how many bytes sent to an end it has not acknowledged; a FIN counts as one (SIOCOUTQ
// in tcp(7), tcp_ioctl in net/ipv4/tcp.c).
func unacknowledged(c *socket.Conn) (n int, err error) {
	err = c.Control(func(fd int) (err error) {
		n, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ)
		return err
	})
	return n, err
}

// isGone reports whether the connection has ended: reset, timed out, or closed in order by both.
func isGone(c *socket.Conn) bool {
	return c.Control(func(fd int) error {
		_, err := syscall.Getpeername(fd) // that of x/sys makes a second system call
		return err
	}) != nil
}

// watchForReset waits until both directions have ended. It returns an error if that side, which has sent its
// FIN, breaks before that.
func (c *Connection) watchForReset(side Side) error {
	raw, err := c.ends[side].SyscallConn()
	if err != nil {
		return nil // closed: the other direction has failed and reported it
	}
	errno := 0
	err = raw.Read(func(fd uintptr) bool {
		var errGet error
		errno, errGet = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		return errno != 0 || errGet != nil
	})
	if err != nil || errno == 0 || c.bothEnded() {
		return nil // woken by the other direction, or nothing is left that could break
	}
	return &BrokenError{side, syscall.Errno(errno)}
}
