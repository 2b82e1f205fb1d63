package admin

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestWrongTokenSlow: the answer to a wrong token waits for its time, and no longer than the client; another
// refusal does not.
func TestWrongTokenSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &accessCheck{endpoint: &endpoint{token: hashToken(goodToken)},
			log:  slog.New(slog.DiscardHandler),
			slow: slowTime, next: http.NotFoundHandler()}
		took := func(ctx context.Context, header, origin string) time.Duration {
			r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/reload", nil)
			r.Header.Set("Authorization", header)
			r.Header.Set("Origin", origin)
			start := time.Now()
			g.ServeHTTP(httptest.NewRecorder(), r)
			return time.Since(start)
		}
		gone, leave := context.WithCancel(t.Context())
		leave()
		for name, tt := range map[string]struct {
			took, want time.Duration
		}{
			"none":          {took(t.Context(), "", ""), slowTime},
			"wrong":         {took(t.Context(), "Bearer wrong-wrong-wrong", ""), slowTime},
			"has gone":      {took(gone, "Bearer wrong-wrong-wrong", ""), 0},
			"right":         {took(t.Context(), "Bearer "+goodToken, ""), 0},
			"another cause": {took(t.Context(), "Bearer "+goodToken, "https://evil.example"), 0},
		} {
			if tt.took != tt.want {
				t.Errorf("%s: took %s; want %s", name, tt.took, tt.want)
			}
		}
	})
}

// TestStrangers: an address has few connections over which no request was let in, and each that has had one,
// or is closed, makes room.
func TestStrangers(t *testing.T) {
	s := serve(t, fixed(), Options{Listen: freePort(t), TokenFile: tokenFile(t)}, func(s *Server) {
		s.times.read, s.times.slow = time.Hour, time.Millisecond // until the end of the test
	})
	dial := func(local string) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}
		c, err := d.DialContext(t.Context(), "tcp", s.tcp())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	const ask = "GET /v1/healthz HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
	answered := func(c net.Conn, token string) (code string) {
		t.Helper()
		if _, err := io.WriteString(c, ask+token+"\r\n\r\n"); err != nil {
			return ""
		}
		line, _ := bufio.NewReader(c).ReadString('\n')
		_, rest, _ := strings.Cut(line, " ")
		code, _, _ = strings.Cut(rest, " ")
		return code
	}
	var silent []net.Conn
	for range strangers {
		silent = append(silent, dial("127.0.0.1"))
	}
	if got := answered(dial("127.0.0.1"), goodToken); got != "" {
		t.Errorf("got the answer %q over one connection more; want it closed", got)
	}
	if got := answered(dial("127.0.0.2"), goodToken); got != "200" {
		t.Errorf("from another address got %q; want 200", got)
	}
	for _, c := range silent { // known from now on
		if got := answered(c, goodToken); got != "200" {
			t.Errorf("got %q; want 200", got)
		}
	}
	for range 2 * strangers { // each is closed, and makes room
		c := dial("127.0.0.1")
		if got := answered(c, "wrong"); got != "401" {
			t.Errorf("got %q; want 401", got)
		}
		_, _ = io.Copy(io.Discard, c) // until the server has closed it
	}
}
