package servercheck

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"ftpgate/internal/core/ftp"
)

const (
	// maxReplyLines and maxReplyBytes bound a reply: the longest list of features has a few dozen lines, and
	// banners of lawyers not many more.
	maxReplyLines = 512
	maxReplyBytes = 64 << 10
	// maxPreliminary is how many 1yz replies a command may have: one by RFC 959 section 5.4.
	maxPreliminary = 3
	// farewell is how long the reply to QUIT is waited for: it says nothing of interest.
	farewell = time.Second
)

// errInjected is bytes in clear behind the reply after which TLS begins: whoever put them there would have
// them taken for the server's words.
var errInjected = errors.New("auth: bytes in clear behind the reply to AUTH TLS")

// errEndless is preliminary replies without end.
var errEndless = fmt.Errorf("read reply: more than %d preliminary replies", maxPreliminary)

// control is a control connection. Only one goroutine may use it, but for deadlines.
type control struct {
	conn    net.Conn // a *tls.Conn once state is set
	lines   *ftp.LineReader
	scan    ftp.ReplyScanner
	limit   time.Duration // for each reply
	heard   []byte        // the beginning of what has come since the last command
	local   netip.AddrPort
	lost    bool // replies may no longer belong to commands
	release func() bool

	secured  *tls.Config          // of the control connection; nil: it is in clear
	state    *tls.ConnectionState // of secured
	sessions *sessions
}

// dial opens a connection that closes when ctx is done.
func dial(ctx context.Context, to netip.AddrPort, limits Timeouts) (*control, error) {
	dialer := net.Dialer{Timeout: limits.Dial}
	conn, err := dialer.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	c := &control{conn: conn, limit: limits.Reply, sessions: &sessions{}, local: addrOf(conn.LocalAddr()),
		scan: ftp.ReplyScanner{MaxLines: maxReplyLines, MaxBytes: maxReplyBytes}}
	c.lines = ftp.NewLineReader(c, 0)
	c.release = context.AfterFunc(ctx, func() { conn.Close() })
	return c, nil
}

func addrOf(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// Read is for lines: it remembers how a peer began that does not speak FTP.
func (c *control) Read(p []byte) (int, error) {
	n, err := c.conn.Read(p)
	if room := 4*maxQuote - len(c.heard); room > 0 {
		c.heard = append(c.heard, p[:min(n, room)]...)
	}
	return n, err
}

// ask sends a command and returns the reply to it.
func (c *control) ask(verb, arg string) answer {
	if err := c.send(verb, arg); err != nil {
		return answer{err: err}
	}
	return c.reply(c.limit)
}

// send sends a command, which ends all memory of what came before it.
func (c *control) send(verb, arg string) error {
	command := ftp.Command{Verb: verb}
	if arg != "" {
		command.Arg = []byte(arg)
	}
	c.heard = c.heard[:0]
	c.conn.SetWriteDeadline(time.Now().Add(c.limit))
	_, err := c.conn.Write(command.AppendTo(nil))
	c.lost = c.lost || err != nil
	return err
}

// reply returns the next reply that is not preliminary, for which it waits so long.
func (c *control) reply(limit time.Duration) answer {
	c.conn.SetReadDeadline(time.Now().Add(limit))
	var err error = errEndless
	for range 1 + maxPreliminary {
		var reply ftp.Reply
		if reply, err = ftp.ReadReply(c.lines, &c.scan); err != nil {
			break
		}
		if reply.Code >= 200 {
			c.lost = c.lost || reply.Code == 421 // the server ends the connection
			return answer{Reply: reply}
		}
		err = errEndless
	}
	c.lost = true
	return answer{err: err, heard: string(c.heard)}
}

// encrypt goes on in TLS. Any certificate will do: who calls it must look at c.state.
func (c *control) encrypt(ctx context.Context, config *tls.Config) error {
	if c.lines.Buffered() > 0 {
		c.lost = true
		return errInjected
	}
	config = config.Clone()
	config.InsecureSkipVerify = true
	config.VerifyConnection, config.VerifyPeerCertificate = nil, nil
	config.ClientSessionCache = c.sessions
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	c.conn.SetDeadline(time.Time{})
	conn := tls.Client(c.conn, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		c.lost = true
		return fmt.Errorf("handshake: %w", err)
	}
	state := conn.ConnectionState()
	c.conn, c.secured, c.state = conn, config, &state
	c.lines.Reset(c)
	return nil
}

// close ends the connection; politely, if the two still understand each other.
func (c *control) close() {
	if !c.lost {
		c.limit = min(c.limit, farewell)
		c.ask("QUIT", "")
	}
	c.release()
	c.conn.Close()
}

// sessions is the TLS session of one control connection, for its data connections to resume. The newest is
// kept: crypto/tls would have it thrown away when a handshake fails, and then the next could not resume. It
// is only for one connection at a time.
type sessions struct{ last *tls.ClientSessionState }

// Get returns the newest session, whatever the name: there is only one server.
func (s *sessions) Get(string) (*tls.ClientSessionState, bool) { return s.last, s.last != nil }

// Put keeps a session; nil changes nothing.
func (s *sessions) Put(_ string, state *tls.ClientSessionState) {
	if state != nil {
		s.last = state
	}
}

// sendable tells whether a text can be an argument: one with the end of a line would be a second command.
func sendable(text string) bool { return !strings.ContainsAny(text, "\r\n\x00") }
