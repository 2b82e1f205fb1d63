package admin

import (
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/ops/page"
)

// wantPage sends a request for a file of the page, and wants it.
func wantPage(t *testing.T, network, addr, request string) (body string) {
	t.Helper()
	status, header, body := raw(t, network, addr, request)
	if status != http.StatusOK || header.Get("Content-Security-Policy") == "" {
		t.Errorf("%.60q: got %d, %v; want the page", request, status, header)
	}
	return body
}

// TestPage: a browser gets the page on the socket, on the loopback, and at an address with a token, where it
// has none yet.
func TestPage(t *testing.T) {
	open := serve(t, fixed(), Options{Listen: freePort(t)}, nil)
	locked := serve(t, fixed(), Options{Listen: freePort(t), TokenFile: tokenFile(t)},
		func(s *Server) { s.times.slow = time.Millisecond })
	for _, f := range page.Files(false) {
		request := "GET " + f.Path + " HTTP/1.1\r\nHost: localhost\r\n\r\n"
		wantPage(t, "unix", open.socket, request)
		wantPage(t, "tcp", open.tcp(), request)
		body := wantPage(t, "tcp", locked.tcp(), request)
		for _, secret := range []string{goodToken, "3p5kx", "archive", "203.0.113", "0.2.0"} {
			if strings.Contains(body, secret) {
				t.Errorf("%s: got %q in it; want nothing of this gateway without the token", f.Path, secret)
			}
		}
		wantRefused(t, "tcp", locked.tcp(), "POST "+f.Path+" HTTP/1.1\r\nHost: localhost\r\n\r\n",
			http.StatusUnauthorized, "no token")
		wantRefused(t, "tcp", open.tcp(), "GET "+f.Path+" HTTP/1.1\r\nHost: evil.example\r\n\r\n",
			http.StatusForbidden, "not a loopback address")
	}
	for _, path := range []string{"/page/", "/page", "//", "/page/../v1/status", "/page/page.go",
		"/v1/status", "/x"} {
		wantRefused(t, "tcp", locked.tcp(), "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n",
			http.StatusUnauthorized, "no token")
	}
}

// dialTCP connects to an address, with a deadline that no test should meet.
func dialTCP(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestPageIsNoToken: who gets the page and no more still counts as a stranger.
func TestPageIsNoToken(t *testing.T) {
	s := serve(t, fixed(), Options{Listen: freePort(t), TokenFile: tokenFile(t)},
		func(s *Server) { s.times.read = time.Hour }) // until the end of the test
	request := "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
	for range strangers {
		c := dialTCP(t, s.tcp())
		if _, err := c.Write([]byte(request)); err != nil {
			t.Fatal(err)
		}
		if status, _, _ := readAnswer(t, c, request); status != http.StatusOK {
			t.Fatalf("got %d; want the page", status)
		}
	}
	c := dialTCP(t, s.tcp())
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil || os.IsTimeout(err) {
		t.Errorf("one more: got %d bytes, %v; want it closed", n, err)
	}
}

// TestSocketHost: a foreign web page cannot use a socket that ssh -L shows to a browser.
func TestSocketHost(t *testing.T) {
	s := serve(t, fixed(), Options{}, nil)
	for _, host := range []string{"evil.example", "evil.example:9921", "evil.", "127.0.0.1.evil.example",
		"a.b"} {
		for _, path := range []string{"/", "/v1/status"} {
			wantRefused(t, "unix", s.socket, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n",
				http.StatusForbidden, "public name")
		}
	}
	for _, host := range []string{"localhost", "localhost:9921", "127.0.0.1:9921", "[::1]:9921", "ftpgate",
		"x", "",
		"192.168.5.2:9921", "%2Frun%2Fftpgate.sock"} {
		status, _, body := raw(t, "unix", s.socket, "GET /v1/status HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		if status != http.StatusOK {
			t.Errorf("Host %q: got %d: %s; want 200", host, status, body)
		}
	}
}
