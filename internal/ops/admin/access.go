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

// accessCheck refuses clients that may not use the API, and requests that no honest client sends.
type accessCheck struct {
	endpoint *endpoint
	open     map[string]bool // the paths of the page, which need no token
	origin   http.CrossOriginProtection
	next     http.Handler
	log      *slog.Logger
	slow     time.Duration // delay of the answer to a wrong token
}

func (a *accessCheck) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if refusal := a.check(w, r); refusal != nil {
		w.Header().Set("Connection", "close") // make room for others
		a.log.Warn("admin request refused", "by", peerOf(r.Context()).String(), "reason", refusal.Text)
		if refusal.status == http.StatusUnauthorized {
			a.delay(r.Context())
		}
		writeError(w, refusal)
		return
	}
	if a.authorized(r) {
		letIn(r.Context())
	}
	a.next.ServeHTTP(w, r)
}

func (a *accessCheck) check(w http.ResponseWriter, r *http.Request) *Error {
	switch {
	// A foreign web page whose name now resolves to this host (DNS rebinding).
	case a.endpoint.loopback && !isLoopback(r.Host):
		return &Error{Text: "the Host header is not a loopback address",
			Remedy: "ask http://127.0.0.1 or http://localhost", status: http.StatusForbidden}
	case a.endpoint.socket && isPublicName(r.Host): // through ssh -L, for example
		return &Error{Text: "the Host header is a public name",
			Remedy: "ask http://localhost; behind a proxy, let it send Host: localhost",
			status: http.StatusForbidden}
	case !a.authorized(r) && !a.ofPage(r):
		w.Header().Set("WWW-Authenticate", `Bearer realm="ftpgate"`)
		return &Error{Text: "no token, or a wrong one", Remedy: "send the header Authorization: Bearer TOKEN",
			status: http.StatusUnauthorized}
	case a.origin.Check(r) != nil:
		return &Error{Text: "cross-site request refused", status: http.StatusForbidden}
	}
	_, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxBody))
	switch tooMuch := (*http.MaxBytesError)(nil); {
	case errors.As(err, &tooMuch):
		return &Error{Text: "the request has a body; none is allowed",
			status: http.StatusRequestEntityTooLarge}
	case err != nil:
		return &Error{Text: "the request is incomplete", status: http.StatusBadRequest}
	case r.URL.Path != path.Clean(r.URL.Path), r.RequestURI == "*":
		return noPath()
	}
	return nil
}

// authorized reports whether a request has the token that its endpoint requires.
func (a *accessCheck) authorized(r *http.Request) bool {
	return a.endpoint.token == nil || a.endpoint.token.matches(r.Header.Get("Authorization"))
}

// ofPage reports whether a request reads a file of the page.
func (a *accessCheck) ofPage(r *http.Request) bool {
	return a.open[r.URL.Path] && (r.Method == http.MethodGet || r.Method == http.MethodHead)
}

// isPublicName reports whether a Host may be the name of a foreign web page: a name with a dot. Clients of
// sockets send names like "localhost", or the socket's path with percent signs.
func isPublicName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err != nil && strings.Contains(host, ".") && !strings.Contains(host, "%")
}

// isLoopback reports whether every resolver resolves a Host, with or without a port, to this host.
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

// delay slows down the guessing of tokens: it returns when the time is over, or the client has disconnected.
func (a *accessCheck) delay(ctx context.Context) {
	timer := time.NewTimer(a.slow)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
