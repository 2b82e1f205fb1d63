// Package listeners owns the listening sockets of forwards with tracking proxy, and the proxies behind them:
// it opens the sockets, starts and drains the proxies, and hands an address over from one forward to the
// next.
//
// It serves no session itself, and chooses no data path.
//
// Locks: Set.mu is a leaf. Nothing is called while it is held.
package listeners

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/control/proxy"
	"ftpgate/internal/control/session"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/dataplane"
	"ftpgate/internal/kernel/system"
	"ftpgate/internal/observe/sessions"
)

// Shared is what the proxies of all forwards share.
type Shared struct {
	Log        *slog.Logger
	Counts     *proxy.Counts
	SessionLog *sessions.Log
	Keys       proxy.Keys
	// DataPath returns the data path of a forward. current returns the current state of the forward.
	DataPath func(current func() forward.Resolved) dataplane.Path
	Banned   func(client netip.Addr) bool // reports whether a client is banned now; nil: none is
	proxy.Transparent
	// Refused is called for each refusal, with the forward's name and the refusal's kind. It must not block.
	// It may be nil.
	Refused func(forward, kind string)
}

// Set is the listeners of a gateway, by listen address. Its methods are for one goroutine, except ListensAt.
type Set struct {
	shared Shared

	serving  map[forward.Listen]*listener
	draining map[forward.Listen]*listener // they refuse new sessions; transfers may continue
	proxies  sync.WaitGroup               // their goroutines; Stop waits for them

	mu  sync.Mutex
	own map[netip.AddrPort]bool // addresses that a socket of the set listens at
}

// listener is one socket and its proxy.
type listener struct {
	socket  *net.TCPListener
	forward atomic.Pointer[forward.Resolved]
	drain   context.CancelCauseFunc // refuse new sessions, and end idle ones
	abort   context.CancelFunc      // end all sessions
	done    chan struct{}           // closed when the last session has ended
}

// New returns an empty set.
func New(shared Shared) *Set {
	return &Set{
		shared:   shared,
		serving:  map[forward.Listen]*listener{},
		draining: map[forward.Listen]*listener{},
		own:      map[netip.AddrPort]bool{},
	}
}

// Opened is sockets that no proxy serves yet, by listen address. The caller of Open closes it; Serve removes
// the sockets that it serves.
type Opened map[forward.Listen]*net.TCPListener

// Close closes the sockets.
func (o Opened) Close() {
	for _, socket := range o {
		socket.Close()
	}
}

// Open opens the sockets of forwards that are not served yet, and returns a finding for each that cannot be
// opened. It leaves out an address that a listener of this set is about to release: Serve opens it.
func (s *Set) Open(ctx context.Context, forwards []forward.Resolved) (Opened, []finding.Finding) {
	opened := Opened{}
	var findings []finding.Finding
	for _, f := range forwards {
		if f.Tracking != forward.TrackingProxy || s.serving[f.Listen] != nil {
			continue
		}
		socket, err := listen(ctx, f.Listen)
		switch {
		case err == nil:
			opened[f.Listen] = socket
		case errors.Is(err, unix.EADDRINUSE) && s.willRelease(f.Listen, forwards):
		case errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.ENODEV):
			// preflight.Check finds it, and knows the host's addresses and interfaces
		default:
			findings = append(findings, cannotListen(f, err))
		}
	}
	return opened, findings
}

func listen(ctx context.Context, at forward.Listen) (*net.TCPListener, error) {
	return system.ListenTCP(ctx, at.Addr, at.Port, at.Interface)
}

// willRelease reports whether a listener of this set occupies at and ends with these forwards.
func (s *Set) willRelease(at forward.Listen, forwards []forward.Resolved) bool {
	wanted := proxied(forwards)
	for _, listeners := range []map[forward.Listen]*listener{s.serving, s.draining} {
		for other := range listeners {
			if _, stays := wanted[other]; at.Overlaps(other) && (!stays || other == at) {
				return true
			}
		}
	}
	return false
}

// proxied returns the forwards with tracking proxy, by listen address. They are elements of forwards.
func proxied(forwards []forward.Resolved) map[forward.Listen]*forward.Resolved {
	wanted := make(map[forward.Listen]*forward.Resolved, len(forwards))
	for i := range forwards {
		if f := &forwards[i]; f.Tracking == forward.TrackingProxy {
			wanted[f.Listen] = f
		}
	}
	return wanted
}

// Serve makes the set serve exactly these forwards. A listener whose forward was removed drains: its
// transfers have this long to end. A listener whose forward has changed keeps its socket and its sessions;
// new sessions follow the new forward. A new forward takes its socket out of opened. Canceling ctx ends
// nothing; Stop does. The set keeps forwards: the caller must not change them afterwards.
func (s *Set) Serve(ctx context.Context, forwards []forward.Resolved, opened Opened, drain time.Duration) {
	wanted := proxied(forwards)
	for at := range s.serving {
		if _, stays := wanted[at]; !stays {
			s.drain(at, drain, session.ErrNotServed)
		}
	}
	for at, f := range wanted {
		if l := s.serving[at]; l != nil {
			l.forward.Store(f)
			continue
		}
		socket := opened[at]
		delete(opened, at)
		if socket == nil {
			if socket = s.takeOver(ctx, f); socket == nil {
				continue
			}
		}
		s.start(ctx, at, socket, f)
	}
}

// takeOver closes the sockets of draining listeners that occupy a forward's address, and opens its own. If
// that fails, it logs why and returns nil.
func (s *Set) takeOver(ctx context.Context, f *forward.Resolved) *net.TCPListener {
	for at, l := range s.draining {
		if f.Listen.Overlaps(at) {
			l.socket.Close()
		}
	}
	socket, err := listen(ctx, f.Listen)
	if err != nil {
		found := cannotListen(*f, err)
		s.shared.Log.Error(found.Text, "forward", f.Name, "remedy", found.Remedy)
		return nil
	}
	return socket
}

// start serves a socket, which belongs to the proxy from now on.
func (s *Set) start(ctx context.Context, at forward.Listen, socket *net.TCPListener, f *forward.Resolved) {
	// drain and abort end a proxy, not ctx: its clients get the reason.
	base := context.WithoutCancel(ctx)
	draining, drain := context.WithCancelCause(base)
	aborted, abort := context.WithCancel(base)
	l := &listener{socket: socket, drain: drain, abort: abort, done: make(chan struct{})}
	l.forward.Store(f)
	current := func() forward.Resolved { return *l.forward.Load() }
	served := &proxy.Proxy{
		Forward: current, Path: s.shared.DataPath(current), Keys: s.shared.Keys, Log: s.shared.Log,
		Banned: s.shared.Banned, Transparent: s.shared.Transparent,
		Counts: s.shared.Counts, SessionLog: s.shared.SessionLog,
		Refused: func(kind verdict.RefusalKind) {
			if s.shared.Refused != nil {
				s.shared.Refused(current().Name, kind.String())
			}
		},
	}
	s.serving[at] = l
	s.setOwn(socket, true)
	s.proxies.Go(func() {
		defer close(l.done)
		defer drain(nil)
		defer abort()
		defer s.setOwn(socket, false)
		if err := served.Serve(draining, aborted, socket); err != nil {
			s.shared.Log.Error("no longer serving", "forward", current().Name, "err", err)
		}
	})
}

// setOwn records whether a socket of the set listens at an address.
func (s *Set) setOwn(socket *net.TCPListener, listens bool) {
	at := socket.Addr().(*net.TCPAddr).AddrPort()
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	s.mu.Lock()
	defer s.mu.Unlock()
	if listens {
		s.own[at] = true
	} else {
		delete(s.own, at)
	}
}

// ListensAt reports whether a socket of the set listens at an address and port.
func (s *Set) ListensAt(at netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.own[at]
}

// drain makes a listener refuse new sessions, and ends those that still run after this time. Its clients get
// the reason.
func (s *Set) drain(at forward.Listen, after time.Duration, why error) {
	l := s.serving[at]
	delete(s.serving, at)
	s.draining[at] = l
	l.drain(why)
	s.proxies.Go(func() {
		timer := time.NewTimer(after)
		defer timer.Stop()
		select {
		case <-l.done:
		case <-timer.C:
			l.abort()
		}
	})
	for at, l := range s.draining { // forget those that have ended meanwhile
		select {
		case <-l.done:
			delete(s.draining, at)
		default:
		}
	}
}

// Update replaces forwards that are served already, after their addresses have changed. The set keeps
// forwards: the caller must not change them afterwards.
func (s *Set) Update(forwards []forward.Resolved) {
	for at, f := range proxied(forwards) {
		if l := s.serving[at]; l != nil {
			l.forward.Store(f)
		}
	}
}

// Stop drains all listeners, and returns when the last session has ended, or after this time.
func (s *Set) Stop(after time.Duration) {
	for at := range s.serving {
		s.drain(at, after, session.ErrShuttingDown)
	}
	s.proxies.Wait()
}
