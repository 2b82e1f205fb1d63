package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"

	"ftpgate/internal/ftp"
)

// stuck is when an operation has failed that takes milliseconds on an idle machine, and seconds for
// a large file on a busy one.
const stuck = 2 * time.Minute

// session is one control connection of the load. It believes what a 227 says, so that a fault of the
// translation shows.
type session struct {
	conn net.Conn
	in   *bufio.Reader
	out  []byte // the command on its way
	epsv bool
	tls  *tls.Config // nil: control and data are in clear
}

// dial connects, reads the greeting and goes over to TLS where that is asked for.
func (q request) dial() (*session, error) {
	conn, err := connect(q.Server)
	if err != nil {
		return nil, err
	}
	s := &session{conn: conn, in: bufio.NewReaderSize(conn, 512), epsv: q.EPSV}
	_, err = s.reply(220)
	if err == nil && q.Seal != "" {
		err = s.secure(q)
	}
	if err != nil {
		return nil, errors.Join(err, s.conn.Close())
	}
	return s, nil
}

// secure is AUTH, the handshake, and what makes data connections encrypted (RFC 4217).
func (s *session) secure(q request) error {
	config, err := q.Seal.forClient(q.Server.Addr())
	if err != nil {
		return err
	}
	if _, err := s.do("AUTH TLS", 234); err != nil {
		return err
	}
	conn := tls.Client(s.conn, config)
	if err := conn.Handshake(); err != nil {
		return fmt.Errorf("AUTH TLS: %w", err)
	}
	s.conn, s.in, s.tls = conn, bufio.NewReaderSize(conn, 512), config
	if _, err := s.do("PBSZ 0", 200); err != nil {
		return err
	}
	_, err = s.do("PROT P", 200)
	return err
}

// connect makes a TCP connection that fails when it is stuck.
func connect(to netip.AddrPort) (*net.TCPConn, error) {
	conn, err := net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(to))
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(stuck)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// login connects and logs in.
func (q request) login() (*session, error) {
	s, err := q.dial()
	if err != nil {
		return nil, err
	}
	_, err = s.do("USER load", 331)
	if err == nil {
		_, err = s.do("PASS load", 230)
	}
	if err != nil {
		return nil, errors.Join(err, s.conn.Close())
	}
	return s, nil
}

// do sends a command and reads its reply, which must have the code.
func (s *session) do(line string, code int) (text []byte, err error) {
	if err := s.send(line); err != nil {
		return nil, err
	}
	if text, err = s.reply(code); err != nil {
		return nil, fmt.Errorf("%s: %w", line, err)
	}
	return text, nil
}

func (s *session) send(line string) error {
	if err := s.conn.SetDeadline(time.Now().Add(stuck)); err != nil {
		return err
	}
	s.out = append(append(s.out[:0], line...), "\r\n"...)
	_, err := s.conn.Write(s.out)
	return err
}

// reply reads one reply and returns the text behind the code of its last line, until the next one.
func (s *session) reply(code int) ([]byte, error) {
	for {
		line, err := s.in.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) < 4 || line[3] != ' ' {
			continue // the beginning of a reply of several lines
		}
		if got, err := strconv.Atoi(string(line[:3])); err != nil || got != code {
			return nil, fmt.Errorf("got reply %q; want %d", line, code)
		}
		return line[4:], nil
	}
}

// passive asks for a data connection and makes it.
func (s *session) passive() (*net.TCPConn, error) {
	to, err := s.negotiate()
	if err != nil {
		return nil, err
	}
	return connect(to)
}

func (s *session) negotiate() (netip.AddrPort, error) {
	if !s.epsv {
		text, err := s.do("PASV", 227)
		if err != nil {
			return netip.AddrPort{}, err
		}
		return ftp.Parse227(text)
	}
	text, err := s.do("EPSV", 229)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := ftp.Parse229(text)
	peer := s.conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
	return netip.AddrPortFrom(peer, port), err
}

// retrieve reads a file through buf; it must have as many bytes as its name tells.
func (s *session) retrieve(name string, buf []byte) error {
	want, err := sizeOf(name)
	if err != nil {
		return err
	}
	bare, err := s.passive()
	if err != nil {
		return err
	}
	defer bare.Close()
	if _, err := s.do("RETR "+name, 150); err != nil {
		return err
	}
	data, err := s.shield(bare)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	got, err := drain(data, buf)
	if err != nil {
		return fmt.Errorf("%s after %d bytes: %w", name, got, err)
	}
	if got != want {
		return fmt.Errorf("%s: got %d bytes; want %d", name, got, want)
	}
	if err := data.Close(); err != nil {
		return err
	}
	_, err = s.reply(226)
	return err
}

var errNoResumption = errors.New("data connection: no TLS session was resumed")

// shield makes a data connection what PROT has said: the client of FTP is that of TLS, too. A session
// that is not the control connection's is an error, because no contestant is to be measured with
// more or less of a handshake than others.
func (s *session) shield(data *net.TCPConn) (net.Conn, error) {
	if s.tls == nil {
		return data, nil
	}
	conn := tls.Client(data, s.tls)
	if err := conn.Handshake(); err != nil {
		return nil, err
	}
	if !conn.ConnectionState().DidResume {
		return nil, errNoResumption
	}
	return conn, nil
}

// drain reads to the end, as a client does that has somewhere to put it: every byte is copied.
func drain(data net.Conn, buf []byte) (int64, error) {
	var got int64
	for {
		n, err := data.Read(buf)
		got += int64(n)
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			return got, err
		}
	}
}

// quit says goodbye and waits until the server hangs up.
func (s *session) quit() error {
	defer s.conn.Close()
	if _, err := s.do("QUIT", 221); err != nil {
		return err
	}
	if b, err := s.in.ReadByte(); err != io.EOF {
		return fmt.Errorf("after QUIT: got byte %#x, error %w; want the end", b, err)
	}
	return nil
}
