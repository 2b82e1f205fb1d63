// Package conn is one end of a control connection: TCP, with TLS on it or without. TLS may begin and end
// while the connection lives.
package conn

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/proxyprotocol"
)

// LingerTime is how long a peer may take to read our last line before the connection is closed, and
// lingerBytes how many bytes it may send meanwhile.
const (
	LingerTime  = time.Second
	lingerBytes = 1 << 20
)

// Control is one end of a control connection. Deadlines are those of its TCP connection. One goroutine may
// read while another one writes; neither may while TLS begins or ends.
type Control struct {
	*net.TCPConn
	TLS       *tls.Conn // nil: in clear
	clearText []byte    // arrived in clear after the end of TLS, and is read first

	awaiting atomic.Bool   // a read of the TCP connection is under way
	received atomic.Uint64 // bytes that were read from it
}

// None returns the end of a connection that there is not: reads and writes fail, and all else does nothing.
func None() *Control { return &Control{TCPConn: &net.TCPConn{}} }

// Accepted is a client's connection before its session. Behind a balancer, the balancer's header says who the
// client is.
type Accepted struct {
	*net.TCPConn
	Client   netip.AddrPort // the client
	Dialled  netip.AddrPort // the address that it dialled
	Balancer netip.AddrPort // who passes the connection on; not valid: nobody does
	received int            // bytes of the header
}

// Accept returns the connection of a client that dialled the gateway itself.
func Accept(tcp *net.TCPConn) Accepted {
	return Accepted{TCPConn: tcp, Client: AddrPort(tcp.RemoteAddr()), Dialled: AddrPort(tcp.LocalAddr())}
}

// ReadHeader reads the header with which a balancer's connection begins, and nothing behind it; local: the
// balancer opened the connection for itself. It may take so long, or until the end of ctx. After an error the
// balancer counts as the client.
func (a *Accepted) ReadHeader(ctx context.Context, limit time.Duration) (local bool, err error) {
	a.Balancer = a.Client
	if err := a.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return false, err
	}
	stop := context.AfterFunc(ctx, func() { _ = a.SetReadDeadline(past) })
	defer stop()
	header, n, err := proxyprotocol.Read(a.TCPConn)
	a.received = n
	// The checks of HAProxy name its own address in version 1.
	if err != nil || header.IsLocal() || header.Client == a.Client {
		return err == nil, err
	}
	a.Client, a.Dialled = header.Client, header.Dialled
	if !stop() {
		return false, context.Cause(ctx)
	}
	return false, a.SetReadDeadline(time.Time{})
}

// Header returns the header that tells a server who the client is.
func (a *Accepted) Header() proxyprotocol.Header {
	return proxyprotocol.Header{Client: a.Client, Dialled: a.Dialled}
}

// Control returns the connection as an end of a control connection.
func (a *Accepted) Control() *Control {
	c := &Control{TCPConn: a.TCPConn}
	c.received.Store(uint64(a.received))
	return c
}

// Read reads from the peer, through TLS if there is any.
func (c *Control) Read(b []byte) (int, error) {
	if c.TLS != nil {
		return c.TLS.Read(b)
	}
	if len(c.clearText) > 0 {
		n := copy(b, c.clearText)
		if c.clearText = c.clearText[n:]; len(c.clearText) == 0 {
			c.clearText = nil
		}
		return n, nil
	}
	return c.readTCP(b)
}

// readTCP reads from the TCP connection, below TLS.
func (c *Control) readTCP(b []byte) (int, error) {
	c.awaiting.Store(true)
	n, err := c.TCPConn.Read(b)
	c.awaiting.Store(false) // before received: see Idle
	c.received.Add(uint64(n))
	return n, err
}

// Idle reports whether a Read waits for the peer, and everything that the peer sent has been read and
// handled. After the peer's end the result is false.
func (c *Control) Idle() bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var info *unix.TCPInfo
	errControl := raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	return errControl == nil && err == nil && c.received.Load() == info.Bytes_received && c.awaiting.Load()
}

// Write sends to the peer, through TLS if there is any.
func (c *Control) Write(b []byte) (int, error) {
	if c.TLS != nil {
		return c.TLS.Write(b)
	}
	return c.TCPConn.Write(b)
}

// CloseWrite ends our direction: first TLS, then TCP (RFC 4217 section 12).
func (c *Control) CloseWrite() error {
	if c.TLS != nil {
		_ = c.TLS.CloseWrite() // a peer that closed does not need it
	}
	return c.TCPConn.CloseWrite()
}

// Close ends the connection, TLS first. It waits at most LingerTime for a peer that does not read.
func (c *Control) Close() error {
	if c.TLS != nil {
		_ = c.SetWriteDeadline(time.Now().Add(LingerTime))
		_ = c.TLS.CloseWrite()
	}
	return c.TCPConn.Close()
}

// past is a deadline that makes pending reads and writes return.
var past = time.Unix(1, 0)

// InterruptRead makes the pending read and all later ones return until the next SetReadDeadline. The error is
// os.ErrDeadlineExceeded.
func (c *Control) InterruptRead() { _ = c.SetReadDeadline(past) }

// InterruptWrite makes writes return, as InterruptRead does with reads.
func (c *Control) InterruptWrite() { _ = c.SetWriteDeadline(past) }

// Interrupt makes reads and writes return.
func (c *Control) Interrupt() { _ = c.SetDeadline(past) }

// HangUp closes the connection so that the peer can still read our last line: the kernel resets a connection
// that is closed with bytes unread, and what was sent is lost with it. It takes at most LingerTime.
func (c *Control) HangUp() {
	defer c.Close()
	if c.CloseWrite() != nil {
		return
	}
	_ = c.SetReadDeadline(time.Now().Add(LingerTime))
	var some [512]byte // small: thousands are in use when all sessions end at once
	for left := lingerBytes; left > 0; {
		n, err := c.TCPConn.Read(some[:])
		if err != nil {
			return
		}
		left -= n
	}
}

// AcceptTLS begins TLS with a client. first is what was read from the client already. The caller sets the
// deadline.
func (c *Control) AcceptTLS(config *tls.Config, first []byte) error {
	stream := &recordStream{TCPConn: c.TCPConn, readTCP: c.readTCP, first: first}
	tlsConn := tls.Server(stream, stream.holdingTicket(config))
	if err := tlsConn.Handshake(); err != nil {
		return err
	}
	c.TLS = tlsConn
	return nil
}

// BeginTLS begins TLS with a server. The caller sets the deadline.
func (c *Control) BeginTLS(config *tls.Config) error {
	tlsConn := tls.Client(c.TCPConn, config)
	if err := tlsConn.Handshake(); err != nil {
		return err
	}
	c.TLS = tlsConn
	return nil
}

// EndTLS ends TLS with a client and keeps TCP: both ends send close_notify, and the client continues in
// clear, some clients without close_notify. EndTLS drops what the client sent in TLS until then. The caller
// sets the deadline.
func (c *Control) EndTLS() error {
	stream := c.TLS.NetConn().(*recordStream)
	stream.ending = true
	if err := c.TLS.CloseWrite(); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(c.TLS, lingerBytes)); err != nil {
		return err
	}
	c.TLS, c.clearText = nil, stream.first
	return nil
}

// AddrPort returns the address and port of one end of a TCP connection: IPv4 as IPv4, and without a zone,
// which the kernel's tables do not have. It is not valid for None.
func AddrPort(a net.Addr) netip.AddrPort {
	if a == nil {
		return netip.AddrPort{}
	}
	at := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
}

// PeerAddr returns the address of the other end of a TCP connection, in AddrPort's form.
func PeerAddr(c net.Conn) netip.Addr { return AddrPort(c.RemoteAddr()).Addr() }
