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

	"ftpgate/internal/core/ftp"
)

// ioTimeout ends an operation that hangs. It takes milliseconds on an idle machine, and seconds for a large
// file on a busy one.
const ioTimeout = 2 * time.Minute

// session is one control connection of the load. It connects to the address in a 227, so that a wrong
// translation shows.
type session struct {
	conn   net.Conn
	reader *bufio.Reader
	buf    []byte // reused for each command
	epsv   bool
	tls    *tls.Config // nil: neither control nor data is encrypted
}

// dial connects, reads the greeting and starts TLS if the request has certificates.
func (q request) dial() (*session, error) {
	conn, err := connect(q.Server)
	if err != nil {
		return nil, err
	}
	s := &session{conn: conn, reader: bufio.NewReaderSize(conn, 512), epsv: q.EPSV}
	_, err = s.reply(220)
	if err == nil && q.Certs != "" {
		err = s.startTLS(q)
	}
	if err != nil {
		return nil, errors.Join(err, s.conn.Close())
	}
	return s, nil
}

// startTLS sends AUTH, does the handshake, and asks for encrypted data connections (RFC 4217).
func (s *session) startTLS(q request) error {
	config, err := q.Certs.clientConfig(q.Server.Addr())
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
	s.conn, s.reader, s.tls = conn, bufio.NewReaderSize(conn, 512), config
	if _, err := s.do("PBSZ 0", 200); err != nil {
		return err
	}
	_, err = s.do("PROT P", 200)
	return err
}

// connect opens a TCP connection whose first operations end after ioTimeout.
func connect(to netip.AddrPort) (*net.TCPConn, error) {
	conn, err := net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(to))
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(ioTimeout)); err != nil {
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

// do sends a command and reads its reply. Another code than this one is an error.
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
	if err := s.conn.SetDeadline(time.Now().Add(ioTimeout)); err != nil {
		return err
	}
	s.buf = append(append(s.buf[:0], line...), "\r\n"...)
	_, err := s.conn.Write(s.buf)
	return err
}

// reply reads one reply and returns the text after the code of its last line. The text is valid until the
// next call.
func (s *session) reply(code int) ([]byte, error) {
	for {
		line, err := s.reader.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) < 4 || line[3] != ' ' {
			continue // more lines of this reply follow
		}
		if got, err := strconv.Atoi(string(line[:3])); err != nil || got != code {
			return nil, fmt.Errorf("got reply %q; want %d", line, code)
		}
		return line[4:], nil
	}
}

// dialData asks for a passive port and connects to it.
func (s *session) dialData() (*net.TCPConn, error) {
	to, err := s.passiveAddr()
	if err != nil {
		return nil, err
	}
	return connect(to)
}

func (s *session) passiveAddr() (netip.AddrPort, error) {
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

// retrieve reads a file through buf and compares its size with its name.
func (s *session) retrieve(name string, buf []byte) error {
	want, err := sizeOf(name)
	if err != nil {
		return err
	}
	bare, err := s.dialData()
	if err != nil {
		return err
	}
	defer bare.Close()
	if _, err := s.do("RETR "+name, 150); err != nil {
		return err
	}
	data, err := s.wrapData(bare)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	got, err := readToEnd(data, buf)
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

// wrapData adds TLS to a data connection after PROT P; the FTP client is the TLS client, too. It is an error
// if the handshake does not resume the control connection's TLS session: all contestants are measured with
// the same handshakes.
func (s *session) wrapData(data *net.TCPConn) (net.Conn, error) {
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

// readToEnd copies every byte into buf, like a client that stores the file, and returns how many there were.
func readToEnd(data net.Conn, buf []byte) (int64, error) {
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

// quit sends QUIT and waits until the server closes the connection.
func (s *session) quit() error {
	defer s.conn.Close()
	if _, err := s.do("QUIT", 221); err != nil {
		return err
	}
	if b, err := s.reader.ReadByte(); err != io.EOF {
		return fmt.Errorf("after QUIT: got byte %#x, error %w; want the end of the connection", b, err)
	}
	return nil
}
