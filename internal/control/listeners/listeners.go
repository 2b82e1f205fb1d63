package listeners

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/control/proxy"
	"ftpgate/internal/core/dialogue"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/dataplane/path"
	"ftpgate/internal/kernel/system"
	"ftpgate/internal/observe/sessions"
)

// Servers are the proxies of the forwards that have one, each with its listener. Its methods are for
// one goroutine, but for listensAt.
type Servers struct {
	log     *slog.Logger
	counts  *proxy.Counts
	book    *sessions.Journal
	paths   *path.Paths
	Refused func(forward.Resolved, dialogue.RefusalKind) // is told of each; nil: nobody
	keys    proxy.Keys

	running  map[forward.Listen]*server
	draining map[forward.Listen]*server // told to end, with transfers that may go on
	wait     sync.WaitGroup

	mu  sync.Mutex
	own map[netip.AddrPort]bool // where any of them listens
}

// server is one proxy.
type server struct {
	listener *net.TCPListener
	forward  atomic.Pointer[forward.Resolved]
	stop     context.CancelFunc // no new sessions, and an end of the idle ones
	cut      context.CancelFunc // an end of all
	done     chan struct{}
}

func NewServers(log *slog.Logger, counts *proxy.Counts, book *sessions.Journal, paths *path.Paths, keys proxy.Keys) *Servers {
	return &Servers{log: log, counts: counts, book: book, paths: paths, keys: keys, running: map[forward.Listen]*server{},
		draining: map[forward.Listen]*server{}, own: map[netip.AddrPort]bool{}}
}

// Sockets are sockets that nobody serves yet.
type Sockets map[forward.Listen]*net.TCPListener

func (ls Sockets) Close() {
	for _, l := range ls {
		l.Close()
	}
}

// Open listens for those forwards with a proxy that none serves yet, and says what is in the way. An
// address that a forward of our own has and is about to give up is left for serve.
func (s *Servers) Open(ctx context.Context, forwards []forward.Resolved) (Sockets, []finding.Finding) {
	fresh := Sockets{}
	var findings []finding.Finding
	for _, f := range forwards {
		if f.Tracking != forward.TrackingProxy || s.running[f.Listen] != nil {
			continue
		}
		l, err := system.ListenTCP(ctx, f.Listen.Addr, f.Listen.Port, f.Listen.Interface)
		switch {
		case err == nil:
			fresh[f.Listen] = l
		case errors.Is(err, unix.EADDRINUSE) && s.givenUp(f.Listen, forwards):
		case errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.ENODEV):
			// gateway.Examine has said so, with the addresses and interfaces that there are
		default:
			findings = append(findings, cannotListen(f, err))
		}
	}
	return fresh, findings
}

// givenUp tells whether a server of our own, which the forwards no longer want, is in the way of l.
func (s *Servers) givenUp(l forward.Listen, forwards []forward.Resolved) bool {
	wanted := proxied(forwards)
	for _, of := range []map[forward.Listen]*server{s.running, s.draining} {
		for other := range of {
			if _, stays := wanted[other]; l.Overlaps(other) && (!stays || other == l) {
				return true
			}
		}
	}
	return false
}

// proxied returns the forwards that have a proxy, by listen address.
func proxied(forwards []forward.Resolved) map[forward.Listen]forward.Resolved {
	wanted := map[forward.Listen]forward.Resolved{}
	for _, f := range forwards {
		if f.Tracking == forward.TrackingProxy {
			wanted[f.Listen] = f
		}
	}
	return wanted
}

// cannotListen says why a listen address cannot be had.
func cannotListen(f forward.Resolved, err error) finding.Finding {
	found := finding.Finding{Forward: f.Name, Text: fmt.Sprintf("listen %s: %v", f.Listen, err), Remedy: "choose another address or port"}
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		found.Text = fmt.Sprintf("listen %s is in use%s", f.Listen, userOf(f.Listen))
		found.Remedy = "stop that program or let it listen elsewhere, or choose another port"
	case errors.Is(err, unix.EACCES):
		found.Text = fmt.Sprintf("listen %s: this process may not listen at port %d", f.Listen, f.Listen.Port)
		found.Remedy = "choose a port from 1024 on, or give it CAP_NET_BIND_SERVICE"
	}
	return found
}

// userOf names the program that has a listen address, as " by NAME (pid N)".
func userOf(l forward.Listen) string {
	all, err := system.Listeners()
	if err != nil {
		return ""
	}
	for _, other := range all {
		addr := other.Addr.Addr()
		if other.Addr.Port() == l.Port && (!l.Addr.IsValid() || addr == l.Addr || addr.IsUnspecified()) {
			if named := system.WithProcesses(other)[0]; named.Process != "" {
				return " by " + named.Process
			}
		}
	}
	return " by another program"
}

// Serve has exactly the forwards with a proxy served: those that go on learn what has changed, new
// ones begin with their listener out of fresh, and those that are gone have drain to end.
func (s *Servers) Serve(ctx context.Context, forwards []forward.Resolved, fresh Sockets, drain time.Duration) {
	wanted := proxied(forwards)
	for at, srv := range s.running {
		if _, stays := wanted[at]; !stays {
			s.end(at, srv, drain)
		}
	}
	for at, f := range wanted {
		if srv := s.running[at]; srv != nil {
			srv.forward.Store(&f)
			continue
		}
		l := fresh[at]
		delete(fresh, at)
		if l == nil {
			if l = s.takeOver(ctx, f); l == nil {
				continue
			}
		}
		s.start(ctx, at, l, f)
	}
}

// takeOver listens where a server of our own that is ending still does.
func (s *Servers) takeOver(ctx context.Context, f forward.Resolved) *net.TCPListener {
	for at, srv := range s.draining {
		if f.Listen.Overlaps(at) {
			srv.listener.Close()
		}
	}
	l, err := system.ListenTCP(ctx, f.Listen.Addr, f.Listen.Port, f.Listen.Interface)
	if err != nil {
		found := cannotListen(f, err)
		s.log.Error(found.Text, "forward", f.Name, "remedy", found.Remedy)
		return nil
	}
	return l
}

func (s *Servers) start(ctx context.Context, at forward.Listen, l *net.TCPListener, f forward.Resolved) {
	// Values only: it is stop that ends a server, after those that are to say why have been told.
	base := context.WithoutCancel(ctx)
	running, stop := context.WithCancel(base)
	drained, cut := context.WithCancel(base)
	srv := &server{listener: l, stop: stop, cut: cut, done: make(chan struct{})}
	srv.forward.Store(&f)
	current := func() forward.Resolved { return *srv.forward.Load() }
	proxy := &proxy.Proxy{Forward: current, Path: s.paths.For(current), Keys: s.keys, Log: s.log, Counts: s.counts, Journal: s.book,
		Refused: func(kind dialogue.RefusalKind) {
			if s.Refused != nil {
				s.Refused(current(), kind)
			}
		}}
	s.running[at] = srv
	s.note(l, true)
	s.wait.Go(func() {
		defer close(srv.done)
		defer cut()
		defer s.note(l, false)
		if err := proxy.Serve(running, drained, l); err != nil {
			s.log.Error("no longer serving", "forward", current().Name, "err", err)
		}
	})
}

// note keeps the book of where our own listeners are.
func (s *Servers) note(l *net.TCPListener, listens bool) {
	at := l.Addr().(*net.TCPAddr).AddrPort()
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	s.mu.Lock()
	defer s.mu.Unlock()
	if listens {
		s.own[at] = true
	} else {
		delete(s.own, at)
	}
}

// ListensAt tells whether it is one of ours that listens there.
func (s *Servers) ListensAt(at netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.own[at]
}

// end has a server take no more sessions, and cuts what still runs after drain.
func (s *Servers) end(at forward.Listen, srv *server, drain time.Duration) {
	delete(s.running, at)
	s.draining[at] = srv
	srv.stop()
	timer := time.AfterFunc(drain, srv.cut)
	s.wait.Go(func() {
		<-srv.done
		timer.Stop()
	})
	for other, srv := range s.draining { // those that have ended meanwhile
		select {
		case <-srv.done:
			delete(s.draining, other)
		default:
		}
	}
}

// Follow tells the servers of forwards whose addresses have changed.
func (s *Servers) Follow(forwards []forward.Resolved) {
	for at, f := range proxied(forwards) {
		if srv := s.running[at]; srv != nil {
			srv.forward.Store(&f)
		}
	}
}

// Stop ends all servers, and returns when the last transfer is over, at the latest after drain.
func (s *Servers) Stop(drain time.Duration) {
	for at, srv := range s.running {
		s.end(at, srv, drain)
	}
	s.wait.Wait()
}
