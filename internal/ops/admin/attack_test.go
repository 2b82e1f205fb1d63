package admin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
)

const goodToken = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="

// tokenFile writes a token file that the server accepts.
func tokenFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(goodToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// freePort returns a TCP port of the loopback that was free a moment ago.
func freePort(t *testing.T) forward.Listen {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	return forward.Listen{Addr: at.Addr(), Port: at.Port()}
}

// wantRefused sends a request, and wants a status and a sentence in JSON as the answer, and the connection
// closed if close is true.
func wantRefused(t *testing.T, network, addr, request string, want int, text string) http.Header {
	t.Helper()
	status, header, body := raw(t, network, addr, request)
	if status != want || !strings.Contains(body, text) || header.Get("Content-Type") != "application/json" {
		t.Errorf("%.60q: got %d, %s: %s; want %d, JSON with %q", request, status, header.Get("Content-Type"),
			body, want, text)
	}
	return header
}

// TestToken: without the token the server answers nothing on TCP, and does nothing.
func TestToken(t *testing.T) {
	source := fixed()
	source.reload = func(context.Context) error { t.Error("got a reload; want none"); return nil }
	s := serve(t, source, Options{Listen: freePort(t), TokenFile: tokenFile(t)},
		func(s *Server) { s.times.slow = time.Millisecond })
	refusals := 0
	for _, header := range []string{
		"", "Authorization: Bearer\r\n", "Authorization: Bearer \r\n",
		"Authorization: Bearer wrong-wrong-wrong\r\n",
		"Authorization: Basic " + goodToken + "\r\n", "Authorization: Bearer " + goodToken + "x\r\n",
		"Authorization: Bearer " + goodToken[:10] + "\r\n", "Authorization: " + goodToken + "\r\n",
	} {
		for _, path := range []string{"POST /v1/reload", "GET /v1/status", "GET /metrics", "GET /v1/healthz",
			"DELETE /v1/sessions/3p5kx-17", "OPTIONS *", "OPTIONS /v1/status"} {
			refusals++
			got := wantRefused(t, "tcp", s.tcp(), path+" HTTP/1.1\r\nHost: localhost\r\n"+header+"\r\n",
				http.StatusUnauthorized, "no token")
			if !strings.HasPrefix(got.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("got %v; want how to authenticate", got)
			}
		}
	}
	if got := strings.Count(s.log.String(), `msg="admin request refused" by=127.0.0.1:`); got != refusals {
		t.Errorf("got %d refusals in the log; want a line for each of %d, with who it was", got, refusals)
	}
	wantRefused(t, "tcp", s.tcp(),
		"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+goodToken+
			"\r\n\r\n", http.StatusNotFound, "no such path")
	with := NewClient("http://"+s.tcp(), goodToken)
	defer with.Close()
	if _, err := with.Status(t.Context()); err != nil {
		t.Errorf("with the token: got %v; want nil", err)
	}
	without := NewClient("http://"+s.tcp(), "")
	defer without.Close()
	var refused *Error
	if _, err := without.Status(t.Context()); !errors.As(err, &refused) ||
		!strings.Contains(refused.Error(), "no token") {
		t.Errorf("without: got %v; want the server's words", err)
	}
	if _, err := s.client(t).Status(t.Context()); err != nil {
		t.Errorf("on the socket: got %v; want that none is needed", err)
	}
}

// TestTokenNeeded: beyond the loopback nothing listens without a token.
func TestTokenNeeded(t *testing.T) {
	port := freePort(t).Port
	for _, at := range []forward.Listen{
		{Port: port},
		{Addr: netip.MustParseAddr("192.0.2.1"), Port: port},
		{Addr: netip.MustParseAddr("2001:db8::1"), Port: port},
	} {
		s, err := Listen(Options{Listen: at})
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "name a file with a token") ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v; want one line that asks for a token", at, err)
		}
	}
	s := serve(t, fixed(), Options{Listen: forward.Listen{Port: port}, TokenFile: tokenFile(t)}, nil)
	wantRefused(t, "tcp", s.tcp(), "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", http.StatusUnauthorized,
		"no token")
	if _, err := Listen(Options{Listen: forward.Listen{Port: port}, TokenFile: tokenFile(t)}); err == nil ||
		!strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v; want that the port is in use", err)
	}
}

// TestTokenFile: a token that others could know is refused.
func TestTokenFile(t *testing.T) {
	dir := t.TempDir()
	for name, tt := range map[string]struct {
		text string
		mode os.FileMode
		want string // "": it is taken
	}{
		"good":     {"  " + goodToken + "\r\n", 0o600, ""},
		"group":    {goodToken, 0o640, ""},
		"readonly": {goodToken, 0o400, ""},
		"world":    {goodToken, 0o644, "mode 0644, so that others can read or change it: chmod 600"},
		"writers":  {goodToken, 0o660, "mode 0660"},
		"short":    {"secret", 0o600, "fewer than 16 characters: make one"},
		"empty":    {"", 0o600, "fewer than 16 characters"},
		"long":     {strings.Repeat("x", 2000), 0o600, "more than 1024 bytes"},
		"words":    {"this is no token at all", 0o600, "printable ASCII"},
		"binary":   {"\x00\x01\x02" + goodToken, 0o600, "printable ASCII"},
	} {
		file := filepath.Join(dir, name)
		err := errors.Join(os.WriteFile(file, []byte(tt.text), 0o600), os.Chmod(file, tt.mode))
		if err != nil {
			t.Fatal(err)
		}
		wantToken(t, file, tt.want)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	wantToken(t, pipe, "not a regular file")
	wantToken(t, dir, "not a regular file")
	wantToken(t, filepath.Join(dir, "none"), "no such file")
	if os.Geteuid() == 0 {
		file := filepath.Join(dir, "good")
		if err := os.Chown(file, 12345, 0); err != nil {
			t.Fatal(err)
		}
		wantToken(t, file, "belongs to user 12345")
	}
}

func wantToken(t *testing.T, file, want string) {
	t.Helper()
	got, err := ReadToken(file)
	switch {
	case want == "":
		if err != nil || got != goodToken {
			t.Errorf("%s: got %q, %v; want the token", file, got, err)
		}
	case err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), goodToken):
		t.Errorf("%s: got %v; want %q", file, err, want)
	}
}

// TestBrowsers: a foreign web page gets nothing and changes nothing.
func TestBrowsers(t *testing.T) {
	source := fixed()
	s := serve(t, source, Options{Listen: freePort(t)}, nil)
	_, port, _ := net.SplitHostPort(s.tcp())
	for _, host := range []string{"evil.example", "evil.example:" + port, "192.0.2.1",
		"localhost.evil.example", "127.0.0.1.evil.example", "[2001:db8::1]:80", ""} {
		wantRefused(t, "tcp", s.tcp(), "GET /v1/sessions HTTP/1.1\r\nHost: "+host+"\r\n\r\n",
			http.StatusForbidden, "not a loopback address")
	}
	for _, host := range []string{"localhost", "LocalHost:" + port, "127.0.0.1", "127.0.0.1:" + port,
		"[::1]:" + port, "[::1]"} {
		if status, _, body := raw(t, "tcp", s.tcp(), "GET /v1/sessions HTTP/1.1\r\nHost: "+host+
			"\r\n\r\n"); status != http.StatusOK {
			t.Errorf("Host %q: got %d: %s; want 200", host, status, body)
		}
	}
	source.reload = func(context.Context) error { t.Error("got a reload; want none"); return nil }
	for _, header := range []string{"Origin: https://evil.example", "Sec-Fetch-Site: cross-site",
		"Sec-Fetch-Site: same-site", "Origin: null"} {
		for _, what := range []string{"POST /v1/reload", "DELETE /v1/sessions/3p5kx-17"} {
			request := what + " HTTP/1.1\r\nHost: localhost:" + port + "\r\n" + header +
				"\r\nContent-Length: 0\r\n\r\n"
			wantRefused(t, "tcp", s.tcp(), request, http.StatusForbidden, "cross-site")
		}
	}
}

// TestOddRequests: a wrong request gets a reason, and does not reach the source.
func TestOddRequests(t *testing.T) {
	s := serve(t, fixed(), Options{}, nil)
	long := strings.Repeat("9", 5000)
	for _, tt := range []struct {
		line string
		want int
		text string
	}{
		{"GET /v1/sessions/..%2f..%2fetc%2fpasswd", 404, "no such path"},
		{"GET /v1/sessions/../status", 404, "no such path"},
		{"GET /v1//status", 404, "no such path"},
		{"GET /v1/sessions/", 404, "no such path"},
		{"GET /v1/sessions/a%00b", 404, "no session"},
		{"GET /v1/sessions/%1b%5b2J", 404, "no session"},
		{"GET /v1/sessions/a%0d%0aSet-Cookie:x", 404, "no session"},
		{"DELETE /v1/sessions/x%2fy", 404, "no session"},
		{"GET /v1/sessions/" + long, 404, "no session"},
		{"GET /v1/sessions/3p5kx-18", 404, "there is no session 3p5kx-18"},
		{"DELETE /v1/sessions/3p5kx-18", 404, "there is no session 3p5kx-18"},
		{"DELETE /v1/sessions/3p5kx-9", 409, "has ended"},
		{"GET /page", 404, "no such path"},
		{"GET /page/", 404, "no such path"},
		{"GET /page/page.go", 404, "no such path"},
		{"GET /page/../v1/status", 404, "no such path"},
		{"GET /index.html", 404, "no such path"},
		{"GET /favicon.ico", 404, "no such path"},
		{"POST /", 405, "there is GET"},
		{"GET /v2/status", 404, "no such path"},
		{"POST /v1/status", 405, "there is GET"},
		{"GET /v1/reload", 405, "there is POST"},
		{"PUT /v1/sessions/3p5kx-17", 405, "there is DELETE, GET"},
		{"DELETE /v1/sessions", 405, "there is GET"},
		{"TRACE /v1/status", 405, "there is GET"},
	} {
		wantRefused(t, "unix", s.socket, tt.line+" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", tt.want,
			tt.text)
	}
	status, header, body := raw(t, "unix", s.socket, "HEAD /v1/sessions HTTP/1.1\r\nHost: x\r\n\r\n")
	if status != 200 || body != "" || header.Get("Content-Type") != "application/json" {
		t.Errorf("HEAD: got %d, %v, %q; want 200 and no body", status, header, body)
	}
	status, _, _ = raw(t, "unix", s.socket, "GET /v1/status HTTP/1.1\r\nHost: x\r\nX: "+
		strings.Repeat("x", 64<<10)+"\r\n\r\n")
	if status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("large header: got %d; want 431", status)
	}
}

// TestBodies: no request can make the server read more than its limit, and a request with a body has no
// effect.
func TestBodies(t *testing.T) {
	source := fixed()
	source.reload = func(context.Context) error { t.Error("got a reload; want none"); return nil }
	s := serve(t, source, Options{}, nil)
	huge := strings.Repeat("x", 1<<20)
	for _, request := range []string{
		"POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n" + huge,
		"POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000000000\r\n\r\n" + huge[:8192],
		"POST /v1/reload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n" + huge +
			"\r\n0\r\n\r\n",
	} {
		wantRefused(t, "unix", s.socket, request, http.StatusRequestEntityTooLarge, "none is allowed")
	}
}

// TestSlowClients: a client that sends nothing, or does not read, loses its connection; others are served
// meanwhile.
func TestSlowClients(t *testing.T) {
	short := func(s *Server) {
		s.times.read, s.times.write = 200*time.Millisecond, 200*time.Millisecond
	}
	source := fixed()
	source.reload = func(context.Context) error { t.Error("got a reload; want none"); return nil }
	s := serve(t, source, Options{}, short)
	var slow []net.Conn
	for range 2 * connections {
		slow = append(slow, s.dial(t))
	}
	for i, c := range slow {
		text := []string{"", "GET /v1/sta", "POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: " +
			"100\r\n\r\nhalf"}[i%3]
		// A broken pipe: on a busy machine the server has closed it already.
		if _, err := io.WriteString(c, text); err != nil && !errors.Is(err, syscall.EPIPE) {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := s.client(t).Status(ctx); err != nil {
		t.Errorf("got %v; want an answer once the slow ones' time is over", err)
	}
	for _, c := range slow {
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("got a connection that stays; want all of them closed")
		}
	}
}

// TestReadsNothing: a client that requests a long list and does not read it costs no memory, and loses its
// connection.
func TestReadsNothing(t *testing.T) {
	t.Parallel() // it waits for the server's deadline
	// Long enough for the first part of the list on a busy machine.
	const deadline = 2 * time.Second
	source := manySessions(20_000)
	s := serve(t, source, Options{}, func(s *Server) { s.times.write = deadline })
	c := s.dial(t)
	if _, err := io.WriteString(c, "GET /v1/sessions HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	// First the server closes its end; then the test reads what it has sent.
	if err := awaitHangup(c.(*net.UnixConn)); err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(c)
	if n := len(text); n == 0 || n > 4<<20 {
		t.Errorf("got %d bytes; want a part of the list", n)
	}
}
