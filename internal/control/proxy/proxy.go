// Package proxy serves the control connections of a forward: it accepts clients, lets them in or rejects
// them, connects them to the server, and ends sessions whose time is up.
//
// Locks: Proxy.mu guards the list of sessions. It is never held during a dial, a read, a write, a log write
// or a call of the data path, and never together with a session's lock. So a kernel that does not answer
// stops one step of one session, but no new client, no timeout and no operator's kill.
//
// Goroutines: Serve waits for all: the one that accepts, one for each client that is let in or rejected, and
// two for each session, which read its client and its server.
package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"ftpgate/internal/control/account"
	"ftpgate/internal/control/conn"
	"ftpgate/internal/control/refusal"
	"ftpgate/internal/control/session"
	"ftpgate/internal/control/upstream"
	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/observe/sessions"
)

// Proxy serves the control connections of one forward. Its fields are set before use and not after.
type Proxy struct {
	Forward func() forward.Resolved // returns the current forward; called once per session
	Path    dataplane.Path
	Keys    session.Keys // nil: no forward has TLS
	Log     *slog.Logger
	Refused func(kind verdict.RefusalKind) // is called for each refusal, and must not block; nil: none
	Banned  func(client netip.Addr) bool   // reports whether a client is banned now; nil: none is
	Transparent
	Counts     *Counts       // shared by all forwards of a gateway; nil: not counted
	SessionLog *sessions.Log // shared, too; nil: one of its own

	Lookup upstream.LookupFunc // resolves the names that clients give; nil: the system's resolver does

	dial         upstream.DialFunc // nil: upstream.DialTCP
	longestWrite time.Duration     // 0: session.WriteTime
	longestClose time.Duration     // 0: session.CloseTime
	loginDelay   time.Duration     // 0: failureDelay
	headerTime   time.Duration     // 0: proxyprotocol.ReadTime

	env    session.Env
	wakeup chan struct{} // of capacity 1: makes the watch check now

	mu        sync.Mutex
	draining  error                         // why no further session begins; nil: sessions may begin
	sessions  int                           // also those that have no server yet
	headers   int                           // connections of balancers whose header is being read
	rejecting int                           // clients that get the time to read why they were rejected
	clients   map[netip.Prefix]int          // sessions by client
	running   map[*session.Session]struct{} // the sessions that have their server
	shortest  time.Duration                 // the shortest time limit among them
}

// failureDelay is how long the answer to a failed login waits, for each failure so far: guessing
// becomes slow, a typing mistake does not hurt (RFC 2577 section 4).
const failureDelay = time.Second

func (p *Proxy) writeTime() time.Duration { return cmp.Or(p.longestWrite, session.WriteTime) }

// acceptPause keeps a gateway without free descriptors from spinning.
const acceptPause = 100 * time.Millisecond

// Serve accepts connections from l, which it owns, until draining is done. From then on new clients get 421
// with its cause as the reason, idle sessions end at once with 421, and those with a transfer may finish it
// until aborted is done. It returns when the last session has ended, and closes l then. It may be called
// once.
//
// The error is that of a listener that fails permanently; its sessions end as when draining is done.
func (p *Proxy) Serve(draining, aborted context.Context, l *net.TCPListener) error {
	defer l.Close()
	if p.SessionLog == nil {
		p.SessionLog = sessions.New(time.Now())
	}
	p.wakeup = make(chan struct{}, 1)
	p.clients, p.running = map[netip.Prefix]int{}, map[*session.Session]struct{}{}
	p.shortest = p.writeTime()
	p.env = session.Env{
		Path: p.Path, Keys: p.Keys, Log: p.Log,
		Reporter: refusal.Reporter{Log: p.Log, Count: p.countRefusal},
		Ended:    p.forget, Banned: p.Banned,
		WriteTime: p.writeTime(), CloseTime: cmp.Or(p.longestClose, session.CloseTime),
		LoginDelay: cmp.Or(p.loginDelay, failureDelay),
	}

	draining, drain := context.WithCancelCause(draining)
	defer drain(nil)
	p.env.Dial, p.env.Account, p.env.Draining = p.dialNamed, readAccount, draining
	var clients sync.WaitGroup
	var failed error
	clients.Go(func() {
		failed = p.accept(draining, aborted, l, &clients)
		drain(session.ErrNotServed)
	})
	p.watch(draining, aborted)
	l.Close() // which ends accept
	clients.Wait()
	return failed
}

// accept accepts connections until the listener is closed, which is an error while draining is not done.
func (p *Proxy) accept(draining, aborted context.Context, l *net.TCPListener, clients *sync.WaitGroup) error {
	for {
		c, err := l.AcceptTCP()
		switch {
		case err == nil:
			clients.Go(func() {
				if s := p.begin(draining, aborted, c); s != nil {
					clients.Go(s.ReadServer)
					clients.Go(s.ReadClient) // a new goroutine: it does not keep the large stack of begin
				}
			})
		case errors.Is(err, net.ErrClosed):
			if draining.Err() != nil {
				return nil
			}
			return fmt.Errorf("proxy: accept on %s: %w", l.Addr(), err)
		default: // out of descriptors, or the client has left: try again
			p.Log.Error("cannot accept a connection", "listen", l.Addr().String(), "err", err,
				"remedy", finding.RemedyDescriptors)
			pause := time.NewTimer(acceptPause)
			select {
			case <-aborted.Done():
			case <-pause.C:
			}
			pause.Stop()
		}
	}
}

// begin admits a client and connects to its server; nil: the client was rejected.
func (p *Proxy) begin(draining, aborted context.Context, tcp *net.TCPConn) *session.Session {
	f, client := p.Forward(), conn.Accept(tcp)
	if f.IsBalancer(client.Client.Addr()) && !p.identify(draining, f, &client) {
		return nil
	}
	errDialled := p.dialled(f, &client)
	record := p.record(f, client)
	from := client.Client.Addr()
	dialing, kill := context.WithCancel(draining)
	defer kill()
	record.OnKill(kill)
	if kind, reason := p.admit(from, f); kind != verdict.NotRefused {
		p.reject(f, client, record, refusal.New(kind, "", reason))
		return nil
	}
	f, refused := p.choose(f, client.Dialled, errDialled)
	if refused != nil {
		p.leave(f.Limits.ClientOf(from))
		p.reject(f, client, record, *refused)
		return nil
	}
	s, err := p.connect(dialing, aborted, client, f, record)
	if err != nil {
		defer p.leave(f.Limits.ClientOf(from))
		why := unreachable(err)
		switch {
		case draining.Err() != nil:
			why = session.DrainRefusal(context.Cause(draining))
			why.Kind = verdict.RefusedDrain
		case dialing.Err() != nil:
			why = session.Killed(p.Banned, from)
		}
		p.reject(f, client, record, why)
		return nil
	}
	record.OnKill(s.Kill)
	p.track(s)
	return s
}

// unreachable returns the refusal for a client whose server cannot be reached, or not with TLS.
func unreachable(err error) refusal.Refusal {
	r := refusal.New(verdict.RefusedUnreachable, verdict.CodeServerUnreachable, "cannot reach the server")
	if setup, ok := errors.AsType[*upstream.Error](err); ok {
		r.Refusal = setup.Refusal
	}
	r.Err = err
	return r
}

// connect connects a client to its server.
func (p *Proxy) connect(dialing, aborted context.Context, client conn.Accepted, f forward.Resolved,
	record *sessions.Record) (*session.Session, error) {
	if f.Explicit() {
		_ = conn.InlineUrgent(client.TCPConn)
		return session.New(aborted, &p.env, client, conn.None(), f, nil, record)
	}
	began := time.Now()
	tcp, err := upstream.Dial(dialing, p.dialFor(f.Forward, client), f, client.Client.Addr(), client.Header())
	if err != nil {
		return nil, err
	}
	server := &conn.Control{TCPConn: tcp}
	record.Connected(conn.AddrPort(tcp.RemoteAddr()), time.Since(began))
	var setup *upstream.ServerSetup
	if f.TLS.Server != forward.ServerTLSOff {
		if setup, err = upstream.BeginTLS(dialing, server, f, p.Keys); err != nil {
			server.Close()
			return nil, err
		}
	}
	_ = conn.InlineUrgent(client.TCPConn)
	s, err := session.New(aborted, &p.env, client, server, f, setup, record)
	if err != nil {
		server.Close()
		return nil, err
	}
	return s, nil
}

// dialFor returns what connects to a client's server, so that the server sees the forward's source.
func (p *Proxy) dialFor(f forward.Forward, client conn.Accepted) upstream.DialFunc {
	if f.Source == forward.SourceClient {
		return upstream.DialAs(client.Client.Addr(), p.Show)
	}
	return p.dial
}

// dialNamed connects to a server that a client named.
func (p *Proxy) dialNamed(ctx context.Context, f forward.Forward, to forward.Server, client conn.Accepted) (
	*conn.Control, *upstream.ServerSetup, error) {
	resolved := p.Forward()
	resolved.Forward = f
	tcp, resolved, err := upstream.DialNamed(ctx, p.dialFor(f, client), p.Lookup, resolved, to, client)
	if err != nil {
		return nil, nil, err
	}
	server := &conn.Control{TCPConn: tcp}
	if f.TLS.Server == forward.ServerTLSOff {
		return server, nil, nil
	}
	setup, err := upstream.BeginTLS(ctx, server, resolved, p.Keys)
	if err != nil {
		server.Close()
		return nil, nil, err
	}
	return server, setup, nil
}

// readAccount reads the account of an outbound's clients. The error is an *upstream.Error.
func readAccount(f forward.Forward) (dialogue.Account, error) {
	if f.Outbound.AccountFile == "" {
		return dialogue.Account{}, nil
	}
	a, err := account.Read(f.Outbound.AccountFile)
	if err != nil {
		return dialogue.Account{}, &upstream.Error{Err: err, Refusal: verdict.Refusal{
			Kind: verdict.RefusedLogin, Code: verdict.CodeGatewayLoginFailed,
			Reason: "this gateway cannot check logins now", Remedy: "see account_file"}}
	}
	return a, nil
}

// forget is called when a session has ended.
func (p *Proxy) forget(s *session.Session) {
	p.untrack(s)
	p.leave(s.CountsAs())
}

// countRefusal counts a refusal.
func (p *Proxy) countRefusal(kind verdict.RefusalKind) {
	p.Counts.refuse(kind)
	if p.Refused != nil {
		p.Refused(kind)
	}
}

// Keys makes the TLS of sessions.
type Keys = session.Keys

// ClientTLS is the TLS of one session with a client.
type ClientTLS = session.ClientTLS
