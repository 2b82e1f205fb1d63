package play

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"ftpgate/internal/e2e/differential/script"
)

// ftpDataPort is what servers connect from in active mode (RFC 959 section 3.2).
const ftpDataPort = 20

// addrPort returns a TCP address.
func addrPort(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// listen listens for data, at the address of the control connection or at the other one.
func (e *end) listen(place string) error {
	at := addrPort(e.control.LocalAddr()).Addr()
	if place == "other" {
		at = e.other
	}
	var port uint16
	if e.ports != nil {
		port = e.ports.next()
	}
	l, err := listen(e.host, netip.AddrPortFrom(at, port))
	if err != nil {
		return err
	}
	e.own(l)
	if e.listener != nil {
		e.listener.Close()
	}
	e.listener = l
	return nil
}

func (e *end) present() error {
	if e.listener == nil {
		return errors.New("does not listen")
	}
	yes, err := readable(e.listener)
	if yes {
		e.saw("a data connection is present")
	} else {
		e.saw("no data connection is present")
	}
	return err
}

func (e *end) accept() error {
	if e.listener == nil {
		return errors.New("does not listen")
	}
	c, err := accept(e.listener, e.bound)
	if err != nil {
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
			return errTimeout
		}
		return err
	}
	e.add(c)
	from := addrPort(c.RemoteAddr())
	port := "a port"
	if from.Port() == ftpDataPort {
		port = "port 20"
	}
	e.saw("data %d comes from %s, %s", len(e.data), e.role(from.Addr()), port)
	return nil
}

// add makes a connection the end's last data connection.
func (e *end) add(c net.Conn) {
	e.own(c)
	e.data = append(e.data, newStream(c, len(e.data)+1, e.side, e.content))
}

// connect connects to where the other end listens.
func (e *end) connect(source string) (net.Conn, error) {
	if !e.far.IsValid() {
		return nil, errors.New("the other end has not said where it listens")
	}
	from := netip.AddrPortFrom(addrPort(e.control.LocalAddr()).Addr(), 0)
	switch source {
	case "other":
		from = netip.AddrPortFrom(e.other, 0)
	case "port 20":
		from = netip.AddrPortFrom(from.Addr(), ftpDataPort)
	}
	return dial(e.ctx, e.host, from, e.far, e.bound)
}

func (e *end) dial(source string) error {
	c, err := e.connect(source)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return errEnd{"refused"}
	case err != nil:
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
			return errTimeout
		}
		return err
	}
	e.add(c)
	e.saw("data %d is connected", len(e.data))
	return nil
}

// refused connects, and says whether that was refused. A gateway that takes the connection before it knows
// can only reset it.
func (e *end) refused(source string) error {
	c, err := e.connect(source)
	if err == nil {
		e.own(c)
		err = newStream(c, len(e.data)+1, e.side, e.content).read(1, e.bound)
	}
	var ended errEnd
	switch {
	case errors.Is(err, syscall.ECONNREFUSED) || isReset(err) || errors.As(err, &ended) &&
		ended.text == "reset":
		e.saw("data is refused")
	case err == nil || errors.As(err, &ended):
		e.saw("data is taken")
	default:
		return err
	}
	return nil
}

// dataStep does something with a data connection.
func (e *end) dataStep(what string, step script.Step) error {
	number := step.Data
	if number == 0 {
		number = len(e.data)
	}
	if number < 1 || number > len(e.data) {
		return errors.New("no data connection")
	}
	s := e.data[number-1]
	switch what {
	case "write":
		s.write(step.Count)
	case "read":
		return s.read(int64(step.Count), e.bound)
	case "end":
		return e.endOfData(s)
	case "half", "close":
		if err := e.wait(s.written); err != nil {
			return err
		}
		if what == "half" {
			_ = s.CloseWrite() // where it fails, the other end sees why
			return nil
		}
		return s.close()
	case "reset":
		if err := s.SetLinger(0); err != nil {
			return err
		}
		return s.close()
	}
	return nil
}

// endOfData reads to the end.
func (e *end) endOfData(s *stream) error {
	const more = 1 << 62
	err := s.read(more, e.bound)
	var ended errEnd
	if errors.As(err, &ended) {
		e.saw("data %d ends with %s", s.number, ended.text)
		return nil
	}
	return fmt.Errorf("%w after %d bytes", err, s.received)
}
