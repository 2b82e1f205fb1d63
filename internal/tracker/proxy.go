package tracker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"ftpgate/internal/dnat"
)

// Proxy serves the control connections of forwards. Its fields are set before use and not after.
type Proxy struct {
	Path   DataPath
	Log    *slog.Logger
	Limits Limits

	MaxSessions  int // in all; 0: defaultMaxSessions
	MaxPerClient int // of one client address; 0: defaultMaxPerClient

	mu       sync.Mutex
	sessions int
	clients  map[netip.Addr]int
}

// The limits on sessions: memory is some 20 KiB a session, and no client needs more than a few at once.
const (
	defaultMaxSessions  = 20_000
	defaultMaxPerClient = 200
)

// Current tells what a forward is at the moment: where it leads changes when a name's address does.
type Current func() dnat.Resolved

// Serve takes the connections of a forward from a listener, which it owns, until ctx is done. Sessions
// that run then may finish their transfers until drained is done. It returns when the last one has ended.
func (p *Proxy) Serve(ctx, drained context.Context, l *net.TCPListener, forward Current) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	var sessions sync.WaitGroup
	defer sessions.Wait()
	for {
		c, err := l.AcceptTCP()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				sendAndClose(c, "421 the gateway is shutting down")
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("tracker: accept on %s: %w", l.Addr(), err)
		case err != nil: // out of descriptors, or the client has gone already: others may come
			p.Log.Error("accept", "listen", l.Addr().String(), "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		sessions.Go(func() { p.session(ctx, drained, c, forward()) })
	}
}

// acceptPause keeps a gateway without free descriptors from spinning.
const acceptPause = 100 * time.Millisecond

// session serves one client to the end.
func (p *Proxy) session(ctx, drained context.Context, client *net.TCPConn, f dnat.Resolved) {
	log := p.Log.With("forward", f.Name, "client", client.RemoteAddr().String())
	from := remote(client)
	if reason := p.admit(from, f); reason != "" {
		log.Warn("refused", "reason", reason)
		sendAndClose(client, "421 "+reason)
		return
	}
	defer p.leave(from)
	_ = onSocket(client, takeUrgent)
	server, err := p.dial(ctx, f, from)
	if err != nil {
		log.Error("cannot reach the server", "server", f.Server.String(), "err", err)
		sendAndClose(client, "421 cannot reach the server")
		return
	}
	log = log.With("server", server.RemoteAddr().String())
	log.Info("session begins")
	s := newSession(ctx, client, server, netip.Addr{}, p.Path, p.Limits, log)
	stop := context.AfterFunc(drained, func() { s.end("421 the gateway is shutting down") })
	s.run()
	stop()
	log.Info("session ends", "after", time.Since(s.began).Round(time.Millisecond))
}

// admit counts a session in, or says why not.
func (p *Proxy) admit(from netip.Addr, f dnat.Resolved) string {
	if len(f.Clients) > 0 && !slices.ContainsFunc(f.Clients, func(c netip.Prefix) bool { return c.Contains(from) }) {
		return "this address may not use this gateway"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.clients == nil {
		p.clients = map[netip.Addr]int{}
	}
	switch {
	case p.sessions >= orElse(p.MaxSessions, defaultMaxSessions):
		return "too many sessions, try again later"
	case p.clients[from] >= orElse(p.MaxPerClient, defaultMaxPerClient):
		return "too many sessions from your address"
	}
	p.sessions++
	p.clients[from]++
	return ""
}

func (p *Proxy) leave(from netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions--
	if p.clients[from]--; p.clients[from] == 0 {
		delete(p.clients, from)
	}
}

func orElse(n, def int) int {
	if n == 0 {
		return def
	}
	return n
}

// dial connects to the server: first in the client's own family, so that the kernel can carry data.
func (p *Proxy) dial(ctx context.Context, f dnat.Resolved, client netip.Addr) (*net.TCPConn, error) {
	addrs := []netip.Addr{f.Server4, f.Server6}
	if client.Is6() {
		slices.Reverse(addrs)
	}
	dialer := net.Dialer{Timeout: p.Limits.withDefaults().Dial}
	var errs []error
	for _, a := range addrs {
		if !a.IsValid() {
			continue
		}
		c, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(a.String(), strconv.Itoa(int(f.Server.Port))))
		if err == nil {
			return c.(*net.TCPConn), nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil, errors.New("its name has no address")
	}
	return nil, errors.Join(errs...)
}

func sendAndClose(c *net.TCPConn, reply string) {
	_ = c.SetWriteDeadline(time.Now().Add(lingerTime))
	_, _ = c.Write([]byte(reply + "\r\n"))
	hangUp(c)
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
