package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"ftpgate/internal/core/ban"
	"ftpgate/internal/observe/sessions"
)

const (
	// answerTime is how long a daemon may take to begin its answer.
	answerTime = 10 * time.Second
	// maxError is how much of an error's answer the client reads, in bytes.
	maxError = 1 << 20
)

// The errors of a Client that cannot reach a daemon.
var (
	ErrNotRunning   = errors.New("ftpgate is not running here") // nothing answers
	ErrNoPermission = errors.New("no permission")               // the caller may not use the socket
)

// Client talks to a running ftpgate. Several goroutines may call its methods.
type Client struct {
	target string
	base   string // of URLs
	token  string
	http   http.Client
	slow   http.Client // for slow requests
}

// NewClient returns a client for the socket at a path, or for "http://ADDR:PORT", which is sent the token
// unless that is empty. It does not connect yet; Close releases it.
func NewClient(target, token string) *Client {
	if !strings.HasPrefix(target, "http://") {
		return NewDialClient(target, func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", target)
		})
	}
	return newClient(target, strings.TrimRight(target, "/"), token, nil)
}

// NewDialClient returns a client that connects by dial. Messages call what it connects to target.
func NewDialClient(target string, dial func(context.Context) (net.Conn, error)) *Client {
	return newClient(target, "http://ftpgate", "",
		func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) })
}

func newClient(target, base, token string,
	dial func(ctx context.Context, network, address string) (net.Conn, error)) *Client {
	c := &Client{target: target, base: base, token: token}
	transport := &http.Transport{DialContext: dial}
	c.slow.Transport = transport.Clone()
	transport.ResponseHeaderTimeout = answerTime
	c.http.Transport = transport
	for _, each := range []*http.Client{&c.http, &c.slow} {
		each.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return c
}

// Close closes the idle connections.
func (c *Client) Close() {
	c.http.CloseIdleConnections()
	c.slow.CloseIdleConnections()
}

// Status returns the state of the daemon.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.get(ctx, statusPath, &s)
}

// StatusJSON copies the answer to Status to w as it arrives.
func (c *Client) StatusJSON(ctx context.Context, w io.Writer) error {
	return c.copy(ctx, statusPath, w)
}

// Sessions yields the sessions that match f, in the order in which they began. An error is the last that it
// yields.
func (c *Client) Sessions(ctx context.Context, f Filter) iter.Seq2[sessions.Session, error] {
	return func(yield func(sessions.Session, error) bool) {
		body, err := c.request(ctx, &c.http, http.MethodGet, f.path())
		if err != nil {
			yield(sessions.Session{}, err)
			return
		}
		defer body.Close()
		decoder := json.NewDecoder(body)
		err = openList(decoder)
		for err == nil && decoder.More() {
			var s sessions.Session
			if err = decoder.Decode(&s); err == nil && !yield(s, nil) {
				return
			}
		}
		if err == nil {
			_, err = decoder.Token() // the end of the list, or of the connection
		}
		if err != nil {
			yield(sessions.Session{}, c.brokenAnswer(err))
		}
	}
}

// openList reads the answer up to the first session.
func openList(d *json.Decoder) error {
	for _, want := range []json.Token{json.Delim('{'), "sessions", json.Delim('[')} {
		got, err := d.Token()
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("want %v, not %v", want, got)
		}
	}
	return nil
}

// SessionsJSON copies the answer to Sessions to w as it arrives.
func (c *Client) SessionsJSON(ctx context.Context, f Filter, w io.Writer) error {
	return c.copy(ctx, f.path(), w)
}

// Explain returns a session with its time line.
func (c *Client) Explain(ctx context.Context, id string) (sessions.Explained, error) {
	var e sessions.Explained
	return e, c.get(ctx, pathOf(id), &e)
}

// ExplainJSON copies the answer to Explain to w as it arrives.
func (c *Client) ExplainJSON(ctx context.Context, id string, w io.Writer) error {
	return c.copy(ctx, pathOf(id), w)
}

// Kill ends a session.
func (c *Client) Kill(ctx context.Context, id string) error {
	return c.do(ctx, &c.http, http.MethodDelete, pathOf(id))
}

// Reload makes the daemon reload its configuration, and waits for the result.
func (c *Client) Reload(ctx context.Context) error {
	return c.do(ctx, &c.slow, http.MethodPost, reloadPath)
}

// Bans returns who is banned.
func (c *Client) Bans(ctx context.Context) (Bans, error) {
	var b Bans
	return b, c.get(ctx, bansPath, &b)
}

// BansJSON copies the answer to Bans to w as it comes.
func (c *Client) BansJSON(ctx context.Context, w io.Writer) error { return c.copy(ctx, bansPath, w) }

// Ban bans addresses.
func (c *Client) Ban(ctx context.Context, b BanRequest) (banned Banned, err error) {
	return banned, c.decode(ctx, http.MethodPost, b.path(), &banned)
}

// Unban lifts a ban. The error wraps ban.ErrNotBanned if there is none.
func (c *Client) Unban(ctx context.Context, p netip.Prefix) (lifted Unbanned, err error) {
	err = c.decode(ctx, http.MethodDelete, BanRequest{Prefix: p}.path(), &lifted)
	if e := (*Error)(nil); errors.As(err, &e) && e.status == http.StatusNotFound {
		e.Kind = ban.ErrNotBanned
	}
	return lifted, err
}

func pathOf(id string) string { return sessionsPath + "/" + url.PathEscape(id) }

func (c *Client) get(ctx context.Context, path string, value any) error {
	return c.decode(ctx, http.MethodGet, path, value)
}

// decode sends a request, and reads its answer into a value.
func (c *Client) decode(ctx context.Context, method, path string, value any) error {
	body, err := c.request(ctx, &c.http, method, path)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(value); err != nil {
		return c.brokenAnswer(err)
	}
	return nil
}

func (c *Client) copy(ctx context.Context, path string, w io.Writer) error {
	body, err := c.request(ctx, &c.http, http.MethodGet, path)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(w, body)
	return err // io.ErrUnexpectedEOF if the answer is incomplete
}

func (c *Client) do(ctx context.Context, with *http.Client, method, path string) error {
	body, err := c.request(ctx, with, method, path)
	if err != nil {
		return err
	}
	return body.Close()
}

// request returns the body of a successful answer; the caller closes it.
func (c *Client) request(ctx context.Context, with *http.Client, method, path string) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.target, err)
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	answer, err := with.Do(r)
	if err != nil {
		return nil, c.connectError(ctx, err)
	}
	if answer.StatusCode/100 == 2 {
		return answer.Body, nil
	}
	defer answer.Body.Close()
	e := &Error{status: answer.StatusCode}
	if json.NewDecoder(io.LimitReader(answer.Body, maxError)).Decode(e) != nil || e.Text == "" {
		return nil, fmt.Errorf("what answers at %s is not ftpgate: it says %q", c.target, answer.Status)
	}
	for _, k := range kindStatus {
		if k.status == answer.StatusCode && e.Kind == nil {
			e.Kind = k.kind
		}
	}
	return nil, e
}

// connectError explains why there is no answer.
func (c *Client) connectError(ctx context.Context, err error) error {
	slow, isNet := errors.AsType[net.Error](err)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w for %s", ErrNoPermission, c.target)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: nothing answers at %s", ErrNotRunning, c.target)
	case isNet && slow.Timeout():
		return fmt.Errorf("ftpgate does not answer at %s within %s", c.target, answerTime)
	}
	if of, ok := errors.AsType[*url.Error](err); ok {
		err = of.Err
	}
	return fmt.Errorf("ask %s: %w", c.target, err)
}

// brokenAnswer returns the error for an answer that is incomplete, or not ftpgate's.
func (c *Client) brokenAnswer(err error) error {
	return fmt.Errorf("the answer of %s breaks off: %w", c.target, err)
}
