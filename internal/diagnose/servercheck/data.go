package servercheck

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ftp"
)

const (
	// maxListing is how many bytes of a listing are taken: more says no more about the path.
	maxListing = 4 << 20
	// grace is how long the other connection has, once the control or the data connection has failed, to say why.
	grace = time.Second
)

// agree sends PASV or EPSV and reads the answer.
func (g *guest) agree(t *transfer) {
	if t.asked = g.control.ask(t.verb, ""); !t.asked.positive() {
		return
	}
	want, parse := 227, ftp.Parse227
	if t.verb == "EPSV" {
		want, parse = 229, func(text []byte) (netip.AddrPort, error) {
			port, err := ftp.Parse229(text)
			return netip.AddrPortFrom(g.at.Addr(), port), err
		}
	}
	if t.named, t.unread = parse([]byte(t.asked.Last())); t.unread != nil {
		t.named, t.unread = parse([]byte(t.asked.Lines[0])) // the gateway takes either
	}
	if t.unread == nil && t.asked.Code != want {
		t.unread = fmt.Errorf("%s: code %d; want %d", t.verb, t.asked.Code, want)
	}
	if t.unread == nil {
		g.seen.ports = append(g.seen.ports, t.named.Port())
	}
}

// passive lists over a passive data connection.
func (g *guest) passive(ctx context.Context, t *transfer, resume bool) {
	g.agree(t)
	if !t.agreed() || t.named.Port() < forward.LowestDataPort {
		return
	}
	// Never the address of the 227: it is the server's word, and might be anybody's host.
	t.at = netip.AddrPortFrom(g.at.Addr(), t.named.Port())
	dialer := net.Dialer{Timeout: min(g.o.Timeouts.Data, g.o.Timeouts.Dial)}
	began := time.Now()
	conn, err := dialer.DialContext(ctx, "tcp", t.at.String())
	if err != nil {
		t.dial, t.took = err, time.Since(began)
		return
	}
	g.transfer(ctx, t, &end{conn: conn}, resume)
}

// active has the server connect, and lists over that.
func (g *guest) active(ctx context.Context, t *transfer, local netip.Addr) {
	listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0)))
	if err != nil {
		t.listen = err
		return
	}
	defer listener.Close()
	t.at = netip.AddrPortFrom(local.WithZone(""), addrOf(listener.Addr()).Port())
	arg := ftp.AppendHostPort
	if t.verb == "EPRT" {
		arg = ftp.AppendEPRT
	}
	if t.asked = g.control.ask(t.verb, string(arg(nil, t.at))); t.asked.positive() {
		g.transfer(ctx, t, &end{listener: listener}, true)
	}
}

// transfer asks for the listing and takes it, whatever comes first: replies or data.
func (g *guest) transfer(ctx context.Context, t *transfer, e *end, resume bool) {
	c, limits := g.control, g.o.Timeouts
	e.server, e.peer = g.at.Addr(), c.state
	if c.secured != nil && !g.forward.TLS.ServerDataClear {
		e.config = c.secured.Clone()
		e.tickets = &sessions{last: c.sessions.last}
		if e.config.ClientSessionCache = e.tickets; !resume {
			e.config.ClientSessionCache = nil
		}
	}
	e.until(time.Now().Add(limits.Data))
	stop := context.AfterFunc(ctx, func() { e.until(time.Now()) })
	defer stop()
	err := c.send("LIST", "")
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.receive(t)
		if !t.open { // nobody came: a server that has not noticed yet may take a minute to
			c.conn.SetReadDeadline(time.Now().Add(grace))
		}
	}()
	t.listed = answer{err: err}
	if err == nil {
		t.listed = c.reply(limits.Data + limits.Reply)
	}
	if !t.listed.positive() || !e.stands() {
		e.until(time.Now().Add(grace))
	}
	<-done
	// A server may send a ticket, and only then refuse the connection: with that one the next would resume.
	if e.tickets != nil && t.worked() {
		c.sessions.Put("", e.tickets.last)
	}
}

// end is our end of a data connection.
type end struct {
	listener *net.TCPListener // active
	server   netip.Addr
	config   *tls.Config          // nil: in clear
	peer     *tls.ConnectionState // of the control connection, where config is not nil
	tickets  *sessions

	mu    sync.Mutex
	conn  net.Conn // active: nil until the server came
	limit time.Time
}

// until lets the end live no longer than that.
func (e *end) until(t time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.limit.IsZero() && t.After(e.limit) {
		return
	}
	e.limit = t
	if e.listener != nil {
		e.listener.SetDeadline(t)
	}
	if e.conn != nil {
		e.conn.SetDeadline(t)
	}
}

// stands tells whether there is a connection.
func (e *end) stands() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.conn != nil
}

// receive takes the server's connection, if it is to come, and a listing up to its end.
func (e *end) receive(t *transfer) {
	if e.listener != nil && !e.accept(t) {
		return
	}
	defer e.conn.Close()
	t.open = true
	wire := &watched{Conn: e.conn}
	if e.config == nil {
		t.drain(wire)
		return
	}
	secure := tls.Client(wire, e.config)
	if t.shake = secure.Handshake(); t.shake != nil {
		return
	}
	state := secure.ConnectionState()
	t.handed, t.resumed = true, state.DidResume
	t.other = !e.peer.PeerCertificates[0].Equal(state.PeerCertificates[0])
	t.drain(secure)
	t.notified = t.read == nil && !t.cut && !wire.ended
	_ = secure.CloseWrite() // the server may be gone; if it misses this, its reply says so
}

// accept takes the first connection that comes from the server.
func (e *end) accept(t *transfer) bool {
	for {
		conn, err := e.listener.AcceptTCP()
		if err != nil {
			return false
		}
		if from := addrOf(conn.RemoteAddr()); from.Addr() == e.server {
			t.from = from
			e.mu.Lock()
			defer e.mu.Unlock()
			e.conn = conn
			conn.SetDeadline(e.limit)
			return true
		} else if !t.stranger.IsValid() {
			t.stranger = from
			e.until(time.Now().Add(grace)) // another one is not to be expected
		}
		conn.Close()
	}
}

// drain reads up to the end, or to maxListing.
func (t *transfer) drain(src io.Reader) {
	t.bytes, t.read = io.Copy(io.Discard, io.LimitReader(src, maxListing+1))
	t.cut = t.bytes > maxListing
}

// watched notes whether the peer ended its direction of TCP. crypto/tls returns io.EOF for that, too, where
// it comes between two records.
type watched struct {
	net.Conn
	ended bool
}

// Read reads on.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.ended = w.ended || err == io.EOF
	return n, err
}
