package admin

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"ftpgate/internal/observe/sessions"
)

func groupOf(info os.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Gid }

// manySessions is a source with so many sessions, named x-0 and so on, one second apart.
func manySessions(n int) *fake {
	running, _ := fixedSessions()
	f := &fake{}
	for i := range n {
		s := running[0]
		s.ID = fmt.Sprintf("x-%d", i)
		s.Forward = fmt.Sprintf("archive %d", i%3)
		s.Client = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, byte(5 + i>>8), byte(i)}), 40000)
		s.Since = began.Add(time.Duration(i) * time.Second)
		if i%2 == 0 {
			s.State, s.Transfer = sessions.StateIdle, nil
		}
		f.running = append(f.running, s)
	}
	return f
}

// awaitHangup returns when the other end has closed its connection, and reads nothing before.
func awaitHangup(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = awaitHangupOf(int(fd)) })
	return errors.Join(err, failed)
}

func awaitHangupOf(fd int) error {
	poll, err := syscall.EpollCreate1(0)
	if err != nil {
		return err
	}
	defer syscall.Close(poll)
	// No events: a hang-up is reported even so (epoll_ctl(2)).
	if err := syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{}); err != nil {
		return err
	}
	for {
		n, err := syscall.EpollWait(poll, make([]syscall.EpollEvent, 1), 60_000)
		switch {
		case err == syscall.EINTR:
		case err == nil && n == 0:
			return os.ErrDeadlineExceeded
		default:
			return err
		}
	}
}
