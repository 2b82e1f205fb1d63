package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"ftpgate/internal/core/ftp"
	"ftpgate/internal/ftpclient"
)

// ioTimeout ends an operation that hangs. It takes milliseconds on an idle machine, and seconds for a large
// file on a busy one.
const ioTimeout = 2 * time.Minute

// session is one control connection of the load. It uses ftpclient's Control and Data. It connects to the
// address in a 227, so that a wrong translation shows.
type session struct {
	control *ftpclient.Control
	mode    ftpclient.Mode // PASV or EPSV
	tls     *tls.Config    // nil: neither control nor data is encrypted
}

// dial connects, reads the greeting and starts TLS if the request has certificates.
func (q request) dial() (*session, error) {
	conn, err := connect(q.Server)
	if err != nil {
		return nil, err
	}
	s := &session{control: ftpclient.NewControl(conn, ftpclient.Options{}), mode: ftpclient.PASV}
	if q.EPSV {
		s.mode = ftpclient.EPSV
	}
	_, err = s.receive(220)
	if err == nil && q.Certs != "" {
		err = s.startTLS(q)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// startTLS sends AUTH, does the handshake, and asks for encrypted data connections (RFC 4217).
func (s *session) startTLS(q request) error {
	config, err := q.Certs.clientConfig(q.Server.Addr())
	if err != nil {
		return err
	}
	if _, err := s.do("AUTH", "TLS", 234); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), ioTimeout)
	defer cancel()
	if _, err := s.control.StartTLS(ctx, config); err != nil {
		return fmt.Errorf("AUTH TLS: %w", err)
	}
	s.tls = config
	if _, err := s.do("PBSZ", "0", 200); err != nil {
		return err
	}
	_, err = s.do("PROT", "P", 200)
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
	_, err = s.do("USER", "load", 331)
	if err == nil {
		_, err = s.do("PASS", "load", 230)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// close ends the session without a QUIT.
func (s *session) close() error { return s.control.Close() }

// do sends a command and reads its reply. Another code than this one is an error.
func (s *session) do(verb, arg string, code int) (ftp.Reply, error) {
	until := time.Now().Add(ioTimeout)
	if err := s.control.SetWriteDeadline(until); err != nil {
		return ftp.Reply{}, err
	}
	if err := s.control.SetReadDeadline(until); err != nil {
		return ftp.Reply{}, err
	}
	if err := s.control.Send(ftpclient.Command(verb, arg)); err != nil {
		return ftp.Reply{}, fmt.Errorf("%s: %w", verb, err)
	}
	r, err := s.receive(code)
	if err != nil {
		return r, fmt.Errorf("%s %s: %w", verb, arg, err)
	}
	return r, nil
}

// receive reads one reply. Another code than this one is an error.
func (s *session) receive(code int) (ftp.Reply, error) {
	r, err := s.control.Receive()
	if err == nil && r.Code != code {
		err = fmt.Errorf("got reply %q; want %d", fmt.Sprint(r.Code, " ", r.Text()), code)
	}
	return r, err
}

// dialData asks for a passive port and connects to it.
func (s *session) dialData() (*ftpclient.Data, error) {
	code := 227
	if s.mode == ftpclient.EPSV {
		code = 229
	}
	r, err := s.do(string(s.mode), "", code)
	if err != nil {
		return nil, err
	}
	to, err := s.mode.Place(r.Last(), s.control.Peer().Addr())
	if err != nil {
		return nil, err
	}
	conn, err := connect(to)
	if err != nil {
		return nil, err
	}
	return ftpclient.NewPassive(conn), nil
}

// retrieve reads a file through buf and compares its size with its name. It closes the data connection only
// after the 226. To close it before would hide how long a gateway holds the 226 back: ftpgate's relay does so
// until the client has closed, or its kernel has acknowledged the end of the data.
func (s *session) retrieve(name string, buf []byte) error {
	want, err := sizeOf(name)
	if err != nil {
		return err
	}
	data, err := s.dialData()
	if err != nil {
		return err
	}
	defer data.Close()
	if _, err := s.do("RETR", name, 150); err != nil {
		return err
	}
	if err := s.encryptData(data); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	got, err := readToEnd(data, buf)
	if err != nil {
		return fmt.Errorf("%s after %d bytes: %w", name, got, err)
	}
	if got != want {
		return fmt.Errorf("%s: got %d bytes; want %d", name, got, want)
	}
	_, err = s.receive(226)
	return err
}

var errNoResumption = errors.New("data connection: no TLS session was resumed")

// encryptData starts TLS on a data connection after PROT P. It is an error if the handshake does not resume
// the control connection's TLS session: all contestants are measured with the same handshakes. The deadline
// of the connection bounds the handshake.
func (s *session) encryptData(data *ftpclient.Data) error {
	if s.tls == nil {
		return nil
	}
	state, err := data.StartTLS(context.Background(), s.tls)
	if err == nil && !state.DidResume {
		err = errNoResumption
	}
	return err
}

// readToEnd copies every byte into buf, like a client that stores the file, and returns how many there were.
func readToEnd(data io.Reader, buf []byte) (int64, error) {
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
	defer s.close()
	if _, err := s.do("QUIT", "", 221); err != nil {
		return err
	}
	if r, err := s.control.Receive(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after QUIT: got reply %d, error %w; want the end of the connection", r.Code, err)
	}
	return nil
}
