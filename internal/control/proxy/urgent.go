package proxy

import (
	"time"

	"golang.org/x/sys/unix"
)

// The Telnet commands that announce an urgent FTP command (RFC 854).
const (
	telnetIAC = 255
	telnetIP  = 244 // interrupt process
	telnetDM  = 242 // data mark, the end of a Synch
)

// synch sends Telnet's IP and Synch to the server: the data mark is TCP's urgent byte, so that a
// server that is busy sending looks at its control connection (RFC 959 section 4.1.3, RFC 1123
// section 4.1.2.10).
func (s *session) synch() {
	s.write(s.server, []byte{telnetIAC, telnetIP, telnetIAC})
	raw, err := s.server.SyscallConn()
	if err != nil {
		s.wrote(s.server, err)
		return
	}
	s.writing.Store(max(1, int64(time.Since(s.began))))
	var sent error
	err = raw.Write(func(fd uintptr) bool {
		sent = unix.Send(int(fd), []byte{telnetDM}, unix.MSG_OOB|unix.MSG_NOSIGNAL)
		return sent != unix.EAGAIN
	})
	s.writing.Store(0)
	if err == nil {
		err = sent
	}
	s.wrote(s.server, err)
}

// takeUrgent has a client's urgent byte stand in the stream, where the line reader drops it with the
// rest of Telnet's commands; else it would be lost between the bytes.
func takeUrgent(fd int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
}
