package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/ops/page"
)

// The limits of a connection: a slow client must not block others for longer.
const (
	readTime    = 5 * time.Second // of a whole request, which has almost no body
	writeTime   = time.Minute     // of an answer: 10,000 sessions are some 6 MB
	idleTime    = 2 * time.Minute // longer than any scraper's interval
	stopTime    = 2 * time.Second // for answers under way at the stop
	maxHeader   = 8 << 10
	maxBody     = 4 << 10
	connections = 64 // at once, at the socket and at the TCP port each: people and scrapers
	// of those at the TCP port, from one address, before their first authorized request
	strangers = 8
	slowTime  = time.Second // for the answer to a wrong token
)

// Options say where a server listens.
type Options struct {
	Socket    string         // path of the unix socket; empty: none
	Group     string         // whose members may use it, by name or number; empty: only its owner
	NeedGroup bool           // without that group Listen fails, instead of leaving the socket to root
	Listen    forward.Listen // on TCP, without an interface; port 0: not at all
	TokenFile string         // with the token for TCP; empty: none, and TCP must be on loopback
}

// Server listens and does not answer yet. The caller must call either Serve or Close.
type Server struct {
	endpoints []*endpoint
	times     times
	log       *slog.Logger
}

// times is those limits above that tests shorten.
type times struct{ read, write, slow time.Duration }

// endpoint is a listener and its access rules.
type endpoint struct {
	net.Listener
	loopback bool       // of TCP: the Host of requests must be one, too
	socket   bool       // the Host of requests must be no public name
	token    *tokenHash // nil: none is required
}

// Listen opens the sockets that the options name. The error names the obstacle and the remedy.
func Listen(o Options) (*Server, error) {
	s := &Server{times: times{readTime, writeTime, slowTime}}
	if o.Listen.Port != 0 {
		d, err := listenTCP(o.Listen, o.TokenFile)
		if err != nil {
			return nil, err
		}
		s.endpoints = append(s.endpoints, d)
	}
	if o.Socket != "" {
		l, err := listenSocket(o)
		if err != nil {
			s.Close()
			return nil, err
		}
		s.endpoints = append(s.endpoints, &endpoint{Listener: limit(l, connections), socket: true})
	}
	return s, nil
}

func listenTCP(at forward.Listen, tokenFile string) (*endpoint, error) {
	d := &endpoint{loopback: at.Addr.IsLoopback()}
	switch {
	case tokenFile != "":
		token, err := ReadToken(tokenFile)
		if err != nil {
			return nil, fmt.Errorf("admin.listen %s: %w", at, err)
		}
		d.token = hashToken(token)
	case !d.loopback:
		return nil, fmt.Errorf("admin.listen %s is not a loopback address: name a file with a token, too "+
			"(%s), or listen at 127.0.0.1", at, makeTokenCommand)
	}
	host := ""
	if at.Addr.IsValid() {
		host = at.Addr.String()
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(int(at.Port))))
	if err != nil {
		return nil, fmt.Errorf("admin.listen %s: %w", at, cause(err))
	}
	d.Listener = limitStrangers(limit(l, connections), strangers)
	return d, nil
}

// Close stops listening, and removes the socket.
func (s *Server) Close() error {
	var errs []error
	for _, d := range s.endpoints {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}

// Serve answers requests until ctx is done; then it closes everything and returns nil. Metrics answers GET
// /metrics; nil: 404.
func (s *Server) Serve(ctx context.Context, source Source, metrics http.Handler, log *slog.Logger) error {
	s.log = log
	failed := make(chan error, len(s.endpoints))
	var servers []*http.Server
	var wg sync.WaitGroup
	for _, d := range s.endpoints {
		server := s.serverOf(ctx, d, &handlers{source: source, log: log}, metrics)
		servers = append(servers, server)
		wg.Go(func() { failed <- server.Serve(d.Listener) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("admin: serve: %w", err)
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	for _, server := range servers {
		if server.Shutdown(stop) != nil {
			server.Close()
		}
	}
	wg.Wait()
	s.Close() // Shutdown may leave the socket's name, which must be removed
	return err
}

func (s *Server) serverOf(ctx context.Context, d *endpoint, h *handlers, metrics http.Handler) *http.Server {
	files, open := page.Files(d.token != nil), map[string]bool{}
	for _, f := range files {
		open[f.Path] = true
	}
	return &http.Server{
		Handler: &accessCheck{endpoint: d, open: open, next: h.routes(metrics, files), log: s.log,
			slow: s.times.slow},
		BaseContext:    func(net.Listener) context.Context { return ctx },
		ConnContext:    withPeer,
		ReadTimeout:    s.times.read,
		WriteTimeout:   s.times.write,
		IdleTimeout:    idleTime,
		MaxHeaderBytes: maxHeader,
		// "OPTIONS *" needs a token like everything else.
		DisableGeneralOptionsHandler: true,

		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// connKey is the key of the connection in a request's context.
type connKey struct{}

// withPeer records the connection of a request.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// peerOf returns who is at the other end, for the log: a user of this host, or an address.
func peerOf(ctx context.Context) net.Addr {
	c, ok := ctx.Value(connKey{}).(net.Conn)
	if !ok {
		return userAddr("unknown")
	}
	return c.RemoteAddr()
}

// letIn notes that the client of a request may use the API: its connection no longer counts as a stranger's.
func letIn(ctx context.Context) {
	if c, ok := ctx.Value(connKey{}).(*strangerConn); ok {
		c.known()
	}
}
