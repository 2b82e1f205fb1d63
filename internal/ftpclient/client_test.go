package ftpclient

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/ftp"
)

// loopback is a host whose every address is 127.0.0.1: "203.0.113.21:50000" is dialled as port
// 50000. It implements Host.
type loopback struct{}

func (loopback) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

func (loopback) Listen(network, address string) (net.Listener, error) {
	return net.Listen(network, address)
}

// log is an observer that keeps what it hears.
type log struct {
	lines []string
	fail  error // what Sent answers
}

func (l *log) Sent(_ context.Context, c ftp.Command) error {
	l.lines = append(l.lines, "> "+c.String())
	return l.fail
}

func (l *log) Received(_ context.Context, r ftp.Reply) error {
	l.lines = append(l.lines, fmt.Sprintf("< %d %s", r.Code, r.Text()))
	return nil
}

func (l *log) Note(text string) { l.lines = append(l.lines, "- "+text) }

// script is what a peer says: a line of "> " is awaited, one of "< " is said, and one with
// another mark calls the function of that name.
func script(t *testing.T, lines string, calls map[string]func(), conn net.Conn) error {
	t.Helper()
	r := bufio.NewReader(conn)
	for line := range strings.Lines(lines) {
		line = strings.TrimSpace(line)
		mark, text, _ := strings.Cut(line, " ")
		switch mark {
		case "":
		case ">":
			got, err := r.ReadString('\n')
			if err != nil || got != text+"\r\n" {
				return fmt.Errorf("the peer got %q, %v; want %q", got, err, text)
			}
		case "<":
			if _, err := io.WriteString(conn, text+"\r\n"); err != nil {
				return fmt.Errorf("the peer said %q: %w", text, err)
			}
		default:
			calls[mark]()
		}
	}
	return nil
}

// peer plays a script for one client at an address of loopback; the test waits for its end.
func peer(t *testing.T, lines string, calls map[string]func()) (address string) {
	t.Helper()
	l := listen(t)
	ended := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			ended <- err
			return
		}
		defer conn.Close()
		ended <- script(t, lines, calls, conn)
	}()
	t.Cleanup(func() {
		_ = l.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// testContext ends a test that hangs.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// hostPort writes a listener's address as PORT and 227 do.
func hostPort(l net.Listener) string {
	return string(ftp.AppendHostPort(nil, l.Addr().(*net.TCPAddr).AddrPort()))
}

// serveData accepts one data connection, and lets the peer use it with the call that it returns.
func serveData(t *testing.T, l net.Listener, use func(net.Conn)) func() {
	return func() {
		conn, err := l.Accept()
		if err != nil {
			t.Errorf("data connection: %v", err)
			return
		}
		use(conn)
		_ = conn.Close()
	}
}

func write(s string) func(net.Conn) {
	return func(c net.Conn) { _, _ = io.WriteString(c, s) }
}

func TestClientPASV(t *testing.T) {
	ctx, l := testContext(t), listen(t)
	var stored []byte
	addr := peer(t, `
		< 220-two
		< 331 lines are one reply
		< 220 hello
		> USER a
		< 331 and?
		> PASS secret
		< 230 in
		> TYPE I
		< 200 I
		> PASV
		< 227 Entering Passive Mode (`+hostPort(l)+`)
		> LIST
		< 150 here
		list
		< 226 done
		> PASV
		< 227 =`+hostPort(l)+`
		> RETR f
		< 150 here
		file
		< 226 done
		> PASV
		< 227 `+hostPort(l)+`.
		> STOR g
		< 150 come
		stored
		< 226 done
		> QUIT
		< 221 bye`, map[string]func(){
		"list":   serveData(t, l, write("f\r\n")),
		"file":   serveData(t, l, write("12345")),
		"stored": serveData(t, l, func(c net.Conn) { stored, _ = io.ReadAll(c) }),
	})
	w := &log{}
	c := &Client{Host: loopback{}, Watch: w}
	if err := c.Open(ctx, addr); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(ctx, "a", "secret"); err != nil {
		t.Fatal(err)
	}
	if got, err := c.List(ctx, PASV); err != nil || string(got) != "f\r\n" {
		t.Errorf("list: got %q, %v; want %q", got, err, "f\r\n")
	}
	buf := make([]byte, 5)
	if _, err := c.Retrieve(ctx, PASV, "f", buf); err != nil || string(buf) != "12345" {
		t.Errorf("retrieve: got %q, %v; want 12345", buf, err)
	}
	if _, err := c.Store(ctx, PASV, "g", []byte("67890")); err != nil {
		t.Errorf("store: %v", err)
	}
	if err := c.Quit(ctx); err != nil {
		t.Errorf("quit: %v", err)
	}
	if string(stored) != "67890" {
		t.Errorf("store: the peer got %q; want 67890", stored)
	}
	all := strings.Join(w.lines, "\n")
	if strings.Contains(all, "secret") || !strings.Contains(all, "> PASS ****") {
		t.Errorf("the password is not masked:\n%s", all)
	}
}

func TestClientActive(t *testing.T) {
	t.Run("PORT", func(t *testing.T) { testClientActive(t, PORT, ftp.ParseHostPort) })
	t.Run("EPRT", func(t *testing.T) { testClientActive(t, EPRT, ftp.ParseEPRT) })
}

func testClientActive(t *testing.T, m Mode, parse func([]byte) (netip.AddrPort, error)) {
	ctx := testContext(t)
	control := listen(t)
	ended := make(chan error, 1)
	go func() { ended <- activePeer(control, string(m)+" ", parse) }()
	c := &Client{Host: loopback{}, Watch: &log{}}
	if err := c.Open(ctx, control.Addr().String()); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := c.List(ctx, m)
	if err != nil || string(got) != "active" {
		t.Errorf("got %q, %v; want %q", got, err, "active")
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// activePeer connects to where a PORT or EPRT says, and lists.
func activePeer(l net.Listener, verb string, parse func([]byte) (netip.AddrPort, error)) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	lines := ftp.NewLineReader(conn, 0)
	say := func(s string) { _, _ = io.WriteString(conn, s+"\r\n") }
	say("220 hello")
	line, _, err := lines.ReadLine()
	if err != nil {
		return err
	}
	arg, ok := strings.CutPrefix(string(line), verb)
	to, err := parse([]byte(arg))
	if err != nil || !ok {
		return fmt.Errorf("got %q, %v; want %s", line, err, verb)
	}
	say("200 ok")
	if line, _, err = lines.ReadLine(); err != nil || string(line) != "LIST" {
		return fmt.Errorf("got %q, %v; want LIST", line, err)
	}
	say("150 here")
	data, err := net.Dial("tcp", to.String())
	if err != nil {
		return err
	}
	_, _ = io.WriteString(data, "active")
	_ = data.Close()
	say("226 done")
	return nil
}

// TestClientRefuses: each script makes the client stop, for the reason given.
func TestClientRefuses(t *testing.T) {
	l := listen(t)
	file := func(s string) map[string]func() { return map[string]func(){"file": serveData(t, l, write(s))} }
	retrieve := func(m Mode) func(context.Context, *Client) error {
		return func(ctx context.Context, c *Client) error {
			_, err := c.Retrieve(ctx, m, "f", make([]byte, 5))
			return err
		}
	}
	for _, tt := range []struct {
		why, script string
		calls       map[string]func()
		do          func(context.Context, *Client) error
		want        string
	}{
		{"not welcome", "< 421 too many", nil, nil, `greeting: the answer is 421 "too many"; want 2yz`},
		{"no FTP", "< SSH-2.0-x", nil, nil,
			`greeting: read reply: reply "SSH-2.0-x": want a code of three digits`},
		{"gone", "", nil, nil, "greeting: read reply: EOF"},
		{"login", "< 220 x\n> USER u\n< 331 x\n> PASS p\n< 530 no", nil,
			func(ctx context.Context, c *Client) error { return c.Login(ctx, "u", "p") },
			`PASS: the answer is 530 "no"; want 2yz`},
		{"PASV refused", "< 220 x\n> PASV\n< 502 no", nil, retrieve(PASV),
			`PASV: the answer is 502 "no"; want 2yz`},
		{"227 of seven", "< 220 x\n> PASV\n< 227 (127,0,0,1,2,3,4)", nil, retrieve(PASV),
			`227 reply "(127,0,0,1,2,3,4)": no address and port in it`},
		{"229 without port", "< 220 x\n> EPSV\n< 229 (||||)", nil, retrieve(EPSV),
			`229 reply "(||||)": the port is not a number from 1 to 65535`},
		{"too short", "< 220 x\n> PASV\n< 227 " + hostPort(l) + "\n> RETR f\n< 150 x\nfile", file("123"),
			retrieve(PASV), "RETR: 3 of 5 bytes: unexpected EOF"},
		{"too long", "< 220 x\n> PASV\n< 227 " + hostPort(l) + "\n> RETR f\n< 150 x\nfile", file("123456"),
			retrieve(PASV), "RETR: more than 5 bytes"},
		{"not complete", "< 220 x\n> PASV\n< 227 " + hostPort(l) + "\n> RETR f\n< 150 x\nfile\n< 426 lost",
			file("12345"), retrieve(PASV), `RETR: the answer is 426 "lost"; want 2yz`},
	} {
		t.Run(tt.why, func(t *testing.T) {
			ctx := testContext(t)
			c := &Client{Host: loopback{}, Watch: &log{}}
			err := c.Open(ctx, peer(t, tt.script, tt.calls))
			if err == nil && tt.do != nil {
				err = tt.do(ctx, c)
			}
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v; want %s", err, tt.want)
			}
		})
	}
}

// TestClientDataPeer: a data connection from a third host is not taken.
func TestClientDataPeer(t *testing.T) {
	ctx, l := testContext(t), listen(t)
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := &Client{Watch: &log{}}
	err = c.connect(ctx, NewActive(l, netip.MustParseAddr("192.0.2.1")))
	if !errors.Is(err, ErrData) || !strings.Contains(err.Error(), "it came from 127.0.0.1") {
		t.Errorf("got %v; want an ErrData that names 127.0.0.1", err)
	}
}

// TestClientInterrupted: a client that waits for a reply ends with its context, and says why.
func TestClientInterrupted(t *testing.T) {
	why := errors.New("a key was pressed")
	ctx, cancel := context.WithCancelCause(testContext(t))
	addr := peer(t, "< 220 hello\n> QUIT\npress", map[string]func(){"press": func() {
		cancel(why)
	}})
	c := &Client{Host: loopback{}, Watch: &log{}}
	if err := c.Open(ctx, addr); err != nil {
		t.Fatal(err)
	}
	if err := c.Quit(ctx); !errors.Is(err, why) {
		t.Errorf("got %v; want %v", err, why)
	}
}
