package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"ftpgate/internal/ftp"
)

// served is one session of the origin.
type served struct {
	*origin
	conn    net.Conn
	lines   *bufio.Reader
	passive *net.TCPListener // nil: no data connection was negotiated
	secured bool             // conn is encrypted
	private bool             // data connections are
}

// session answers commands until the client quits or is gone.
func (o *origin) session(conn *net.TCPConn) {
	defer conn.Close()
	s := &served{origin: o, conn: conn, lines: bufio.NewReaderSize(conn, 512)}
	defer s.closePassive()
	if !s.reply("220 origin") {
		return
	}
	for {
		line, err := s.lines.ReadSlice('\n')
		if err != nil {
			return
		}
		verb, arg, _ := strings.Cut(string(bytes.TrimRight(line, "\r\n")), " ")
		if !s.answer(strings.ToUpper(verb), arg) {
			break
		}
	}
	if sealed, is := s.conn.(*tls.Conn); is {
		sealed.Close() // says goodbye in TLS, too
	}
}

func (s *served) closePassive() {
	if s.passive != nil {
		s.passive.Close()
		s.passive = nil
	}
}

func (s *served) reply(line string) bool {
	_, err := s.conn.Write(append([]byte(line), "\r\n"...))
	return err == nil
}

// answer answers one command, and tells whether there will be another.
func (s *served) answer(verb, arg string) bool {
	switch verb {
	case "AUTH":
		return s.secure()
	case "PBSZ":
		return s.reply("200 ok")
	case "PROT":
		s.private = s.secured && arg == "P"
		return s.reply("200 ok")
	case "USER":
		if s.tls != nil && !s.secured {
			return s.reply("530 AUTH TLS first")
		}
		return s.reply("331 password?")
	case "PASS":
		return s.reply("230 logged in")
	case "TYPE", "NOOP":
		return s.reply("200 ok")
	case "PASV", "EPSV":
		return s.listen(verb)
	case "SIZE":
		size, err := sizeOf(arg)
		if err != nil {
			return s.reply("550 no such file")
		}
		return s.reply("213 " + strconv.FormatInt(size, 10))
	case "RETR":
		return s.retrieve(arg)
	case "QUIT":
		s.reply("221 bye")
		return false
	}
	return s.reply("502 not here")
}

// secure answers AUTH.
func (s *served) secure() bool {
	if s.tls == nil || s.secured {
		return s.reply("502 not here")
	}
	if !s.reply("234 go on") {
		return false
	}
	conn := tls.Server(s.conn, s.tls)
	if conn.Handshake() != nil {
		return false
	}
	s.conn, s.lines, s.secured = conn, bufio.NewReaderSize(conn, 512), true
	return true
}

// listen opens a passive port, of which the reply tells.
func (s *served) listen(verb string) bool {
	s.closePassive()
	local := s.conn.LocalAddr().(*net.TCPAddr)
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: local.IP})
	if err != nil {
		return s.reply("425 no port")
	}
	s.passive = l
	at := l.Addr().(*net.TCPAddr).AddrPort()
	line := []byte("229 ")
	if verb == "PASV" {
		line = ftp.Append227([]byte("227 "), netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
	} else {
		line = ftp.Append229(line, at.Port())
	}
	return s.reply(string(line))
}

// sizeOf is the size of a file in bytes, which its name tells.
func sizeOf(name string) (int64, error) {
	if name == smallName {
		return smallSize, nil
	}
	count, found := strings.CutPrefix(name, largeStart)
	if !found {
		return 0, fmt.Errorf("bench: origin: no file %q", name)
	}
	n, err := strconv.ParseUint(count, 10, 32)
	return int64(n) << 20, err
}

// retrieve sends a file over the data connection that the client makes.
func (s *served) retrieve(name string) bool {
	size, err := sizeOf(name)
	if err != nil {
		return s.reply("550 no such file")
	}
	if s.passive == nil {
		return s.reply("425 PASV first")
	}
	if s.tls != nil && !s.private {
		return s.reply("522 PROT P first")
	}
	defer s.closePassive()
	_ = s.passive.SetDeadline(time.Now().Add(acceptTime)) // fails on a closed listener: so will Accept
	bare, err := s.passive.AcceptTCP()
	if err != nil {
		return s.reply("425 nobody came")
	}
	defer bare.Close()
	if !s.reply("150 here it comes") {
		return false
	}
	if err := s.send(bare, name, size); err != nil {
		fmt.Fprintln(os.Stderr, "origin:", name, err)
		return s.reply("426 broken")
	}
	return s.reply("226 done")
}

// send sends a file and closes the connection.
func (s *served) send(bare *net.TCPConn, name string, size int64) error {
	data, err := s.shield(bare)
	if err != nil {
		return err
	}
	switch {
	case name == smallName:
		_, err = data.Write(s.block[:smallSize])
	case s.private:
		err = s.sendSealed(data, size)
	default:
		err = s.sendLarge(bare, size)
	}
	if err != nil {
		return err
	}
	return data.Close()
}

// shield makes a data connection what PROT has said. Like vsftpd, the origin takes only a client that
// resumes a session of TLS.
func (s *served) shield(bare *net.TCPConn) (net.Conn, error) {
	if !s.private {
		return bare, nil
	}
	conn := tls.Server(bare, s.tls)
	if err := conn.Handshake(); err != nil {
		return nil, err
	}
	if !conn.ConnectionState().DidResume {
		return nil, errNoResumption
	}
	return conn, nil
}

// sendSealed sends the block until it is size bytes.
func (s *served) sendSealed(data net.Conn, size int64) error {
	for size > 0 {
		n, err := data.Write(s.block[:min(size, blockSize)])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}

// sendLarge sends size bytes of the file in memory, from its beginning again and again.
func (s *served) sendLarge(data *net.TCPConn, size int64) error {
	// Opened anew, the file has an offset that is this transfer's alone.
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", s.large.Fd()))
	if err != nil {
		return err
	}
	defer f.Close()
	for size > 0 {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		n, err := io.Copy(data, io.LimitReader(f, size))
		if err != nil {
			return err
		}
		size -= n
	}
	return nil
}
