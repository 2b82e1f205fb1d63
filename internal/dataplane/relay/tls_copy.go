package relay

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// leg is one end of a transfer that is sealed on this leg or the other.
type leg struct {
	tcp  *net.TCPConn
	tls  *tls.Conn     // nil: in clear
	wire *bufferedConn // below tls
	in   *inlet        // in clear
}

// wait waits until the end has sent something or has ended, without a buffer.
func (l *leg) wait() error {
	if l.tls != nil {
		l.wire.wait()
		return nil
	}
	if l.in == nil {
		in, err := newInlet(l.tcp)
		if err != nil {
			return err
		}
		l.in = in
	}
	n, err := l.in.available()
	if err == nil && n == 0 {
		err = io.EOF
	}
	return err
}

// read reads what has come, and never waits where wait has been before: n may be 0. Both n and the error count.
func (l *leg) read(buf []byte) (n int, err error) {
	if l.tls == nil {
		return l.tcp.Read(buf)
	}
	for n < len(buf) && err == nil {
		var some int
		some, err = l.tls.Read(buf[n:])
		n += some
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && l.wire.dry {
		err = nil
	}
	return n, err
}

// sawCloseNotify tells whether the end has said itself that its data ended: by close_notify. (At the end of the
// connection a tls.Conn returns io.EOF too, if that stands between two records.)
func (l *leg) sawCloseNotify() bool { return l.tls != nil && !l.wire.ended }

// write sends all of data.
func (l *leg) write(data []byte) error {
	if l.tls == nil {
		_, err := l.tcp.Write(data)
		return err
	}
	l.wire.cork()
	if _, err := l.tls.Write(data); err != nil {
		return err
	}
	return l.wire.flush()
}

// closeWrite ends our direction: TLS first, and then TCP.
func (l *leg) closeWrite() error {
	if l.tls != nil {
		if err := l.tls.CloseWrite(); err != nil {
			return err
		}
	}
	return l.tcp.CloseWrite()
}

// passSealed is pass where a leg is sealed: data goes through this process. What was encrypted for an end
// that broke before all of it was sent counts as not passed on.
func (t *Transfer) passSealed(side Side) error {
	defer t.firstData(side)
	src, dst := t.legs[side], t.legs[side.other()]
	for {
		if err := src.wait(); err != nil {
			return t.conclude(side, err)
		}
		buf := pieces.Get().(*piece)
		n, err := src.read(buf[:pieceSize])
		var errWrite error
		if n > 0 {
			errWrite = dst.write(buf[:n])
		}
		pieces.Put(buf)
		if errWrite != nil {
			return &BrokenError{side.other(), errWrite}
		}
		if n > 0 && t.bytes[side].Add(int64(n)) == int64(n) {
			t.firstData(side)
		}
		if err != nil {
			return t.conclude(side, err)
		}
	}
}

// firstData notes that it is known what the end side has to say: data, or that it has ended.
func (t *Transfer) firstData(side Side) { t.spokenOnce[side].Do(func() { close(t.spoken[side]) }) }

// conclude passes the end of a direction on: close_notify, FIN or both, as the other leg has it. An error means
// that it was none, and says by whom the transfer is broken.
func (t *Transfer) conclude(side Side, err error) error {
	src, dst := t.legs[side], t.legs[side.other()]
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &BrokenError{side, &TruncatedError{t.legTLS[side].end, true}}
	case err != io.EOF:
		return &BrokenError{side, err}
	case !src.sawCloseNotify():
		back := &t.ended[side.other()] // as in pass
		if !back.Load() && gone(src.tcp) && !back.Load() {
			return &BrokenError{side, unix.ECONNRESET}
		}
		if src.tls != nil && !t.mayEndUnshut(side) {
			return &BrokenError{side, &TruncatedError{t.legTLS[side].end, false}}
		}
	}
	t.ended[side].Store(true)
	t.firstData(side)
	if err := dst.closeWrite(); err != nil && !t.closedCleanly(side.other()) {
		return &BrokenError{side.other(), err}
	}
	return nil
}

// mayEndUnshut tells whether the end of a sealed connection without close_notify is the end of its data, and
// not a truncation.
//
// An end that has sent data has to say that it was all. One that only receives has nothing that could be
// cut short, and many such ends just close: clients after a download, servers after an upload.
// Which end is to send no one here knows before data comes; and a file may be empty. If the
// closing of an end of which nothing came were simply passed on, then an attacker's FIN at the very start
// would become an empty file, with close_notify from us: with our word for what the sender never said.
// So the other end has to have shown that this one receives: it has sent data itself, or has ended
// in order (an empty file's sender comes first: the receiver closes because of it). Who closes
// because of either does so after it was passed on through here; settleTime is for what overtakes it
// between two goroutines. If nothing comes the transfer is broken: an empty file without
// close_notify, or an end that went away before it began.
func (t *Transfer) mayEndUnshut(side Side) bool {
	if t.legTLS[side].closeNotifyOptional {
		return true
	}
	if t.bytes[side].Load() > 0 {
		return false
	}
	late := time.NewTimer(settleTime)
	defer late.Stop()
	select {
	case <-t.spoken[side.other()]:
	case <-late.C:
	case <-t.ctx.Done():
	}
	return t.bytes[side.other()].Load() > 0 || t.ended[side.other()].Load()
}

// closedCleanly tells of an end of a sealed leg, of which a failure has just been noticed, that it had ended in
// order before and that nothing was to be delivered to it: an upload is not broken by a client that closes
// after close_notify and does not read what TLS itself sends: session tickets (RFC 8446 section
// 4.6.1), and our close_notify. Its kernel resets such a connection.
func (t *Transfer) closedCleanly(side Side) bool {
	return t.legTLS[side].config != nil && t.ended[side].Load() && t.bytes[side.other()].Load() == 0
}
