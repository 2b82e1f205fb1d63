package relay

import (
	"golang.org/x/sys/unix"

	"ftpgate/internal/dataplane/leg"
)

// firstBytes is how many bytes a new connection accepts without waiting: its send buffer has at least 16 KiB
// (tcp_wmem in tcp(7)). Small files need no check of it, and no pipe.
const firstBytes = 8 << 10

// clearConnection is a connection with both ends in clear: splice(2) copies the data, but for its first
// bytes, and an end's FIN ends its data. Each direction has these states:
//
//	waiting --data--> splicing --no more at once--> waiting
//	waiting --FIN--> ended, and the other end gets a FIN
//	any --reset--> broken
type clearConnection struct{ *Connection }

// prepare has nothing to do.
func (clearConnection) prepare() bool { return true }

// copy forwards everything that side sends, and then its FIN.
//
// It waits for data, and for room at the other end, without a pipe, and uses one only for what it can copy at
// once. So an end that sends or reads nothing holds no pipe (an ordinary user has 64 of full size,
// pipe-user-pages-soft in proc_sys_fs(5)), the counters are always exact, and a direction that carries only a
// FIN is never spliced.
func (c clearConnection) copy(side Side) error {
	src, dst := c.ends[side], c.ends[side.other()]
	readable, err := leg.NewReadable(src)
	if err != nil {
		return &BrokenError{side, err}
	}
	for {
		n, err := readable.Available()
		if err != nil {
			return &BrokenError{side, err}
		}
		if n == 0 {
			break
		}
		if err := c.move(side, n); err != nil {
			return err
		}
	}
	c.announceEnd(side)
	if c.brokeUnseen(side) && !c.sentFIN(side) {
		return &BrokenError{side, unix.ECONNRESET}
	}
	c.markFINReceived(side) // before the FIN: brokeUnseen counts on it
	if err := dst.CloseWrite(); err != nil {
		return &BrokenError{side.other(), err}
	}
	c.markFINForwarded(side)
	return nil
}

// move forwards at most n bytes that side has sent: as many as the other side accepts at once.
func (c clearConnection) move(side Side, n int) error {
	src, dst := c.ends[side], c.ends[side.other()]
	var moved int64
	var errSrc, errDst error
	if n <= firstBytes && c.bytes[side].Load() == 0 {
		moved, errSrc, errDst = leg.Copy(dst, src, n)
	} else {
		room, err := leg.Room(dst)
		if err != nil {
			return &BrokenError{side.other(), err}
		}
		moved, errSrc, errDst = leg.Splice(dst, src, min(n, room))
	}
	c.bytes[side].Add(moved)
	switch {
	case errDst != nil:
		return &BrokenError{side.other(), errDst}
	case errSrc != nil:
		return &BrokenError{side, errSrc}
	}
	return nil
}

// closedCleanly returns false: without TLS a reset is never an orderly close.
func (clearConnection) closedCleanly(Side) bool { return false }

// shortenHandshake has nothing to do.
func (clearConnection) shortenHandshake() {}

// notResumed is false: there is no TLS.
func (clearConnection) notResumed() bool { return false }
