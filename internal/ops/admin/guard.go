package admin

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"sync/atomic"
	"time"
)

// guard refuses clients that may not use the API, and requests that no honest client sends.
type guard struct {
	endpoint *endpoint
	origin   http.CrossOriginProtection
	next     http.Handler
	log      *slog.Logger
	warned   atomic.Int64 // when it last logged a refusal, in nanoseconds
}

// warnTime is how often guard logs a refusal: anybody can cause them.
const warnTime = time.Second

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if refusal := g.check(w, r); refusal != nil {
		w.Header().Set("Connection", "close") // make room for others
		g.warn(r, refusal)
		writeError(w, refusal)
		return
	}
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
	case r.URL.Path != path.Clean(r.URL.Path) && r.RequestURI != "*":
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

// warn logs a refusal, unless it has just logged another one.
func (g *guard) warn(r *http.Request, refusal *Error) {
	now, last := time.Now().UnixNano(), g.warned.Load()
	if now-last >= int64(warnTime) && g.warned.CompareAndSwap(last, now) {
		g.log.Warn("admin request refused", "by", peerOf(r.Context()), "reason", refusal.Text)
	}
}
