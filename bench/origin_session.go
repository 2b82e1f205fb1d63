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

	"ftpgate/internal/core/ftp"
)

// originSession is one session of the origin.
type originSession struct {
	*origin
	conn      net.Conn
	reader    *bufio.Reader
	passive   *net.TCPListener // nil: no PASV or EPSV yet
	encrypted bool             // conn is a *tls.Conn
	private   bool             // after PROT P: data connections use TLS
}

// session answers commands until the client sends QUIT or closes the connection.
func (o *origin) session(conn *net.TCPConn) {
	defer conn.Close()
	s := &originSession{origin: o, conn: conn, reader: bufio.NewReaderSize(conn, 512)}
	defer s.closePassive()
	if !s.reply("220 origin") {
		return
	}
	for {
		line, err := s.reader.ReadSlice('\n')
		if err != nil {
			return
		}
		verb, arg, _ := strings.Cut(string(bytes.TrimRight(line, "\r\n")), " ")
		if !s.handle(strings.ToUpper(verb), arg) {
			break
		}
	}
	if conn, ok := s.conn.(*tls.Conn); ok {
		conn.Close() // sends close_notify
	}
}

func (s *originSession) closePassive() {
	if s.passive != nil {
		s.passive.Close()
		s.passive = nil
	}
}

func (s *originSession) reply(line string) bool {
	_, err := s.conn.Write(append([]byte(line), "\r\n"...))
	return err == nil
}

// handle answers one command, and reports whether the session goes on.
func (s *originSession) handle(verb, arg string) bool {
	switch verb {
	case "AUTH":
		return s.startTLS()
	case "PBSZ":
		return s.reply("200 ok")
	case "PROT":
		s.private = s.encrypted && arg == "P"
		return s.reply("200 ok")
	case "USER":
		if s.tls != nil && !s.encrypted {
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

// startTLS answers AUTH.
func (s *originSession) startTLS() bool {
	if s.tls == nil || s.encrypted {
		return s.reply("502 not here")
	}
	if !s.reply("234 go on") {
		return false
	}
	conn := tls.Server(s.conn, s.tls)
	if conn.Handshake() != nil {
		return false
	}
	s.conn, s.reader, s.encrypted = conn, bufio.NewReaderSize(conn, 512), true
	return true
}

// listen opens a passive port and answers PASV or EPSV.
func (s *originSession) listen(verb string) bool {
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

// sizeOf returns the size of a file in bytes, from its name.
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

// retrieve accepts the data connection and sends a file.
func (s *originSession) retrieve(name string) bool {
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
	_ = s.passive.SetDeadline(time.Now().Add(acceptTime)) // fails only on a closed listener, as Accept will
	bare, err := s.passive.AcceptTCP()
	if err != nil {
		return s.reply("425 no connection")
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
func (s *originSession) send(bare *net.TCPConn, name string, size int64) error {
	data, err := s.wrapData(bare)
	if err != nil {
		return err
	}
	switch {
	case name == smallName:
		_, err = data.Write(s.block[:smallSize])
	case s.private:
		err = s.sendBlocks(data, size)
	default:
		err = s.sendFile(bare, size)
	}
	if err != nil {
		return err
	}
	return data.Close()
}

// wrapData adds TLS to a data connection after PROT P. Like vsftpd, the origin refuses a client that does not
// resume a TLS session.
func (s *originSession) wrapData(bare *net.TCPConn) (net.Conn, error) {
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

// sendBlocks sends the block again and again, size bytes in all.
func (s *originSession) sendBlocks(data net.Conn, size int64) error {
	for size > 0 {
		n, err := data.Write(s.block[:min(size, blockSize)])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}

// sendFile sends the file in memory again and again, size bytes in all.
func (s *originSession) sendFile(data *net.TCPConn, size int64) error {
	// A new open file has an offset of its own.
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
