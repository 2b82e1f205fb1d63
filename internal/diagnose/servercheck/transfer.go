package servercheck

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/ftpclient"
)

const (
	// maxListing is how many bytes of a listing are read: enough to test the path.
	maxListing = 4 << 20
	// grace is how long the other connection may take, after the control or the data connection failed, to
	// show the reason.
	grace = time.Second
)

// negotiate sends PASV or EPSV and reads the answer.
func (p *prober) negotiate(t *transfer) {
	if t.reply = p.control.ask(string(t.mode), ""); !t.reply.positive() {
		return
	}
	server := p.at.Addr()
	if t.place, t.replyErr = t.mode.Place(t.reply.Last(), server); t.replyErr != nil {
		t.place, t.replyErr = t.mode.Place(t.reply.Lines[0], server) // the gateway accepts either
	}
	want := 227
	if t.mode == ftpclient.EPSV {
		want = 229
	}
	if t.replyErr == nil && t.reply.Code != want {
		t.replyErr = fmt.Errorf("%s: code %d; want %d", t.mode, t.reply.Code, want)
	}
	if t.replyErr == nil {
		p.attempt.ports = append(p.attempt.ports, t.place.Port())
	}
}

// listPassive lists over a passive data connection. In TLS it resumes the control connection's session if
// resume is set.
func (p *prober) listPassive(ctx context.Context, t *transfer, resume bool) {
	p.negotiate(t)
	if !t.negotiated() || t.place.Port() < forward.LowestDataPort {
		return
	}
	// Never the address of the 227, with which the server could name any host.
	t.at = netip.AddrPortFrom(p.at.Addr(), t.place.Port())
	limit := min(p.o.Timeouts.Data, p.o.Timeouts.Dial)
	began := time.Now()
	conn, err := connect(ctx, t.at, limit, p.forward.DataProxyProtocol())
	if err != nil {
		t.dialErr, t.dialTook = err, time.Since(began)
		return
	}
	p.list(ctx, t, ftpclient.NewPassive(conn), resume)
}

// listActive makes the server connect to a local address, and lists over that.
func (p *prober) listActive(ctx context.Context, t *transfer, local netip.Addr) {
	listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0)))
	if err != nil {
		t.listenErr = err
		return
	}
	data := ftpclient.NewActive(listener, p.at.Addr())
	defer data.Close()
	t.at = netip.AddrPortFrom(local.WithZone(""), uint16(listener.Addr().(*net.TCPAddr).Port))
	if t.reply = p.control.ask(string(t.mode), t.mode.Argument(t.at)); t.reply.positive() {
		p.list(ctx, t, data, true)
	}
}

// list asks for the listing, and then reads replies and data side by side, since servers send them in any
// order. It closes data.
func (p *prober) list(ctx context.Context, t *transfer, data *ftpclient.Data, resume bool) {
	c, limits := p.control, p.o.Timeouts
	r := receiver{Data: data, active: t.mode.Active()}
	session := c.session.Clone()
	if c.tlsConfig != nil && !p.forward.TLS.ServerDataClear {
		r.config, r.control = c.tlsConfig.Clone(), c.tlsState
		r.config.ClientSessionCache = session
		if !resume {
			r.config.ClientSessionCache = nil
		}
	}
	data.SetDeadline(time.Now().Add(limits.Data))
	stop := context.AfterFunc(ctx, func() { data.SetDeadline(time.Now()) })
	defer stop()
	err := c.send("LIST", "")
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.receive(ctx, t)
		if !t.connected { // no peer connected: a server that has not noticed yet may take a minute
			_ = c.SetReadDeadline(time.Now().Add(grace)) // fails once the connection is closed
		}
	}()
	t.listReply = answer{err: err}
	if err == nil {
		t.listReply = c.reply(limits.Data + limits.Reply)
	}
	if !t.listReply.positive() || !data.Connected() {
		data.SetDeadline(time.Now().Add(grace))
	}
	<-done
	// A server may send a ticket, and only then refuse the connection: the next would resume with that one.
	if newest, there := session.Get(""); there && r.config != nil && t.worked() {
		c.session.Put("", newest)
	}
}

// receiver reads a listing from a data connection.
type receiver struct {
	*ftpclient.Data
	active  bool                 // the server has not connected yet
	config  *tls.Config          // nil: in clear
	control *tls.ConnectionState // of the control connection, if config is not nil
}

// receive waits for the server's connection in active mode, reads a listing to its end, and closes the
// connection.
func (r receiver) receive(ctx context.Context, t *transfer) {
	defer r.Close()
	if r.active && !r.accept(t) {
		return
	}
	t.connected = true
	if r.config != nil {
		state, err := r.StartTLS(ctx, r.config)
		if t.tlsErr = err; err != nil {
			return
		}
		t.encrypted, t.resumed = true, state.DidResume
		t.otherCert = !r.control.PeerCertificates[0].Equal(state.PeerCertificates[0])
	}
	t.bytes, t.readErr = io.Copy(io.Discard, io.LimitReader(r, maxListing+1))
	t.tooLong = t.bytes > maxListing
	if !t.encrypted {
		return
	}
	truncated := errors.Is(t.readErr, ftpclient.ErrTruncated)
	if truncated { // which many servers do
		t.readErr = nil
	}
	t.closeNotify = t.readErr == nil && !t.tooLong && !truncated
	r.Finish()
}

// accept accepts the first connection from the server, and reports whether there was one.
func (r receiver) accept(t *transfer) bool {
	from, err := r.Accept(func(from netip.AddrPort) error {
		if !t.unexpectedPeer.IsValid() {
			t.unexpectedPeer = from
			r.SetDeadline(time.Now().Add(grace)) // do not expect another one
		}
		return nil
	})
	if err != nil {
		return false
	}
	t.from = from
	return true
}
