package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"time"
)

// guard refuses clients that may not use the API, and requests that no honest client sends.
type guard struct {
	endpoint *endpoint
	origin   http.CrossOriginProtection
	next     http.Handler
	log      *slog.Logger
	slow     time.Duration // how long the answer to a wrong token waits
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if refusal := g.check(w, r); refusal != nil {
		w.Header().Set("Connection", "close") // make room for others
		g.log.Warn("admin request refused", "by", peerOf(r.Context()).String(), "reason", refusal.Text)
		if refusal.status == http.StatusUnauthorized {
			g.delay(r.Context())
		}
		writeError(w, refusal)
		return
	}
	letIn(r.Context())
	g.next.ServeHTTP(w, r)
}

func (g *guard) check(w http.ResponseWriter, r *http.Request) *Error {
	switch {
	case g.endpoint.loopback && !isLoopback(r.Host):
		// A foreign web page whose name now resolves to this host (DNS rebinding).
		return &Error{Text: "the Host is no loopback address",
			Remedy: "ask http://127.0.0.1 or http://localhost", status: http.StatusForbidden}
	case g.endpoint.token != nil && !g.endpoint.token.matches(r.Header.Get("Authorization")):
		w.Header().Set("WWW-Authenticate", `Bearer realm="ftpgate"`)
		return &Error{Text: "no token, or a wrong one", Remedy: "send the header Authorization: Bearer TOKEN",
			status: http.StatusUnauthorized}
	case g.origin.Check(r) != nil:
		return &Error{Text: "cross-site request refused", status: http.StatusForbidden}
	}
	_, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxBody))
	switch tooMuch := (*http.MaxBytesError)(nil); {
	case errors.As(err, &tooMuch):
		return &Error{Text: "the request has a body, and none is wanted",
			status: http.StatusRequestEntityTooLarge}
	case err != nil:
		return &Error{Text: "the request has not come to its end", status: http.StatusBadRequest}
	case r.URL.Path != path.Clean(r.URL.Path), r.RequestURI == "*":
		return noPath()
	}
	return nil
}

// isLoopback reports whether a Host, with or without a port, means this host to every resolver.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.Unmap().IsLoopback()
}

// delay makes guessing tokens slow: it returns when the time is over, or the client has gone.
func (g *guard) delay(ctx context.Context) {
	timer := time.NewTimer(g.slow)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
