package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/observe/sessions"
)

// Proxy serves the control connections of one forward. Its fields are set before use and not after.
type Proxy struct {
	Forward func() forward.Resolved // what the forward is at the moment; asked once a session
	Path    dataplane.DataPath
	Keys    Keys // nil: no forward speaks TLS
	Log     *slog.Logger
	Refused func(kind dialogue.Refusal) // is told of each, and must not block; nil: nobody is
	Counts  *dialogue.Counts            // shared by all forwards of a gateway; nil: not counted
	Journal *sessions.Journal           // of all forwards, too; nil: one of its own

	dial         dialFunc      // nil: dialTCP
	longestWrite time.Duration // 0: writeTime
	loginDelay   time.Duration // 0: failureDelay

	wake chan struct{} // of capacity 1: the watch is to look again

	mu       sync.Mutex
	draining bool
	sessions int                   // those that have no server yet included
	refusing int                   // clients that are told why they cannot stay
	clients  map[netip.Addr]int    // sessions by address
	running  map[*session]struct{} // with their server
	shortest time.Duration         // the shortest time in which one of them may have to end
}

// failureDelay is how long the answer to a failed login waits, for each failure so far: guessing
// becomes slow, a typing mistake does not hurt (RFC 2577 section 4).
const failureDelay = time.Second

func (p *Proxy) writeTime() time.Duration    { return cmp.Or(p.longestWrite, writeTime) }
func (p *Proxy) failureDelay() time.Duration { return cmp.Or(p.loginDelay, failureDelay) }

// maxRefusing is how many clients at once are given the time to read why they cannot stay.
const maxRefusing = 256

// acceptPause keeps a gateway without free descriptors from spinning.
const acceptPause = 100 * time.Millisecond

// Serve takes connections from l, which it owns, until ctx is done. From then on new clients get 421
// with a reason, idle sessions end at once with 421, and those with a transfer may finish it until
// drained is done. It returns when the last session has ended, and closes l then. It may be called once.
//
// The error is that of a listener that fails for good; its sessions are ended like at ctx's end.
func (p *Proxy) Serve(ctx, drained context.Context, l *net.TCPListener) error {
	defer l.Close()
	if p.Journal == nil {
		p.Journal = sessions.New(time.Now())
	}
	p.wake = make(chan struct{}, 1)
	p.clients, p.running = map[netip.Addr]int{}, map[*session]struct{}{}
	p.shortest = p.writeTime()

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var clients sync.WaitGroup
	var failed error
	clients.Go(func() {
		failed = p.accept(ctx, drained, l, &clients)
		stop()
	})
	p.watch(ctx, drained)
	l.Close() // and the accepting ends
	clients.Wait()
	return failed
}

// accept takes connections until the listener is closed, which is an error while ctx is not done.
func (p *Proxy) accept(ctx, drained context.Context, l *net.TCPListener, clients *sync.WaitGroup) error {
	for {
		c, err := l.AcceptTCP()
		switch {
		case err == nil:
			clients.Go(func() {
				if s := p.begin(ctx, drained, c); s != nil {
					clients.Go(func() { p.serve(s) }) // on a stack that has not grown with the beginning
				}
			})
		case errors.Is(err, net.ErrClosed):
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("tracker: accept on %s: %w", l.Addr(), err)
		default: // out of descriptors, or the client has gone already: others may come
			p.Log.Error("accept", "listen", l.Addr().String(), "err", err,
				"remedy", "if files are too many: a session has two, raise the limit (LimitNOFILE of the unit, ulimit -n)")
			pause := time.NewTimer(acceptPause)
			select {
			case <-drained.Done():
			case <-pause.C:
			}
			pause.Stop()
		}
	}
}

// begin lets a client in and connects to its server; nil: it has been turned away.
func (p *Proxy) begin(ctx, drained context.Context, client *net.TCPConn) *session {
	f := p.Forward()
	from := remote(client)
	record := p.Journal.Begin(sessions.Opening{Forward: f.Name, Tracking: f.Tracking, Passive: f.DataPorts(),
		Client: unmapped(client.RemoteAddr()), Gateway: unmapped(client.LocalAddr())})
	kind, reason := p.admit(from, f)
	if kind != dialogue.NotRefused {
		p.turnAway(f, client, record, verdict.Fault{Code: codes[kind], Said: reason, Peer: from}, kind, nil)
		return nil
	}
	s, err := p.connect(ctx, drained, client, f, record)
	if err != nil {
		defer p.leave(from)
		fault := verdict.Fault{Code: verdict.CodeServerUnreachable, Said: "cannot reach the server", Peer: from, Err: err.Error()}
		kind = dialogue.RefusedServer
		var noTLS *noTLSError
		switch {
		case ctx.Err() != nil:
			kind, fault, err = dialogue.RefusedDrain, verdict.Fault{Code: verdict.CodeShutDown, Said: shuttingDown}, nil
		case errors.As(err, &noTLS):
			kind = noTLS.kind
			fault = verdict.Fault{Code: noTLS.code, Said: noTLS.plain, Remedy: noTLS.remedy}
			if noTLS.err != nil {
				fault.Err = noTLS.err.Error()
			}
		}
		p.turnAway(f, client, record, fault, kind, err)
		return nil
	}
	record.OnKill(s.kill)
	p.join(s)
	s.log(slog.LevelInfo, "session begins")
	if s.opening != nil {
		s.encrypted("server", s.server.Secure)
	}
	return s
}

// connect connects a client to its server.
func (p *Proxy) connect(ctx, drained context.Context, client *net.TCPConn, f forward.Resolved, record *sessions.Record) (*session, error) {
	began := time.Now()
	tcp, err := p.reach(ctx, f, remote(client))
	if err != nil {
		return nil, err
	}
	server := &conn.Wire{TCPConn: tcp}
	record.Connected(unmapped(tcp.RemoteAddr()), time.Since(began))
	var o *opening
	if f.TLS.Server != forward.ServerTLSOff {
		if o, err = p.open(ctx, server, f); err != nil {
			server.Close()
			return nil, err
		}
	}
	_ = onSocket(client, takeUrgent)
	s := newSession(drained, p, &conn.Wire{TCPConn: client}, server, f, o, record)
	if f.TLS.Implicit {
		s.hold = &hold{cancel: make(chan struct{})} // until the client has its TLS
		if s.control, s.seals.Client, err = p.Keys.ForClient(f.Forward); err != nil {
			server.Close()
			return nil, err
		}
	}
	return s, nil
}

// serve serves a session to the end.
func (p *Proxy) serve(s *session) {
	s.run()
	p.part(s)
	p.leave(s.dialogue.Ends.Client)
	s.record.Ends(s.goodbye)
	s.log(slog.LevelInfo, "session ends", slog.Duration("after", time.Since(s.began).Round(time.Millisecond)),
		slog.Int("transfers", s.transfers), slog.Int("refusals", s.violations), slog.String("said", s.goodbye))
}

// admit counts a client in, or says why not.
func (p *Proxy) admit(from netip.Addr, f forward.Resolved) (kind dialogue.Refusal, reason string) {
	if len(f.Clients) > 0 && !slices.ContainsFunc(f.Clients, func(c netip.Prefix) bool { return c.Contains(from) }) {
		return dialogue.RefusedClient, "this address may not use this gateway"
	}
	limits := f.Limits.OrDefault()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.draining:
		return dialogue.RefusedDrain, shuttingDown
	case p.sessions >= limits.Sessions:
		return dialogue.RefusedLimit, "too many sessions, try again later"
	case p.clients[from] >= limits.PerClient:
		return dialogue.RefusedLimit, "too many sessions from your address"
	}
	p.sessions++
	p.clients[from]++
	p.Counts.Begin()
	return dialogue.NotRefused, ""
}

// leave takes back what admit has counted.
func (p *Proxy) leave(from netip.Addr) {
	p.Counts.End()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.clients[from]--; p.clients[from] == 0 {
		delete(p.clients, from)
	}
	if p.sessions--; p.sessions == 0 {
		p.rouse()
	}
}

// join has the watch look after a session.
func (p *Proxy) join(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running[s] = struct{}{}
	shortest := min(s.limits.Login, s.limits.Idle, p.writeTime())
	if len(p.running) == 1 || p.draining || shortest < p.shortest {
		p.shortest = shortest
		p.rouse()
	}
}

// part has the watch forget a session.
func (p *Proxy) part(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.running, s)
}

// rouse has the watch look, unless it is about to do so.
func (p *Proxy) rouse() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// reach connects to the forward's server.
func (p *Proxy) reach(ctx context.Context, f forward.Resolved, client netip.Addr) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, f.Limits.OrDefault().Dial)
	defer cancel()
	dial := p.dial
	if dial == nil {
		dial = dialTCP
	}
	c, err := dialFirst(ctx, dial, addresses(f, client))
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// turnAway tells a client why it cannot stay, and closes its connection. Few are given the time to
// read it at once: who comes in thousands does not care.
func (p *Proxy) turnAway(f forward.Resolved, client *net.TCPConn, record *sessions.Record, fault verdict.Fault, kind dialogue.Refusal, err error) {
	fault.Fatal = true
	record.Refuse(fault)
	record.Ends("421 " + fault.Said)
	p.refuse(kind)
	attrs := []any{"forward", f.Name, "session", record.ID(), "client", client.RemoteAddr().String(), "kind", kind.String(), "reason", fault.Said}
	if err != nil {
		attrs = append(attrs, "server", f.Server.String(), "err", err)
	}
	var noTLS *noTLSError
	if errors.As(err, &noTLS) {
		attrs = append(attrs, "remedy", noTLS.remedy)
	}
	p.Log.Warn("refused", attrs...)
	_ = client.SetWriteDeadline(time.Now().Add(conn.LingerTime))
	if !f.TLS.Implicit { // which would take it for TLS
		_, _ = client.Write([]byte("421 " + fault.Said + "\r\n"))
	}
	p.mu.Lock()
	linger := p.refusing < maxRefusing
	if linger {
		p.refusing++
	}
	p.mu.Unlock()
	if !linger {
		client.Close()
		return
	}
	conn.HangUp(&conn.Wire{TCPConn: client})
	p.mu.Lock()
	p.refusing--
	p.mu.Unlock()
}

// unmapped is the address and port of one end of a connection.
func unmapped(a net.Addr) netip.AddrPort {
	return netip.AddrPortFrom(addrOf(a), a.(*net.TCPAddr).AddrPort().Port())
}

// refuse counts a refusal.
func (p *Proxy) refuse(kind dialogue.Refusal) {
	p.Counts.Refuse(kind)
	if p.Refused != nil {
		p.Refused(kind)
	}
}

// onSocket calls f with a connection's descriptor.
func onSocket(c *net.TCPConn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}
