package servercheck

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/ftpclient"
	"ftpgate/internal/proxyprotocol"
)

const (
	// maxReplyLines and maxReplyBytes bound a reply: the longest list of features has a few dozen lines, and
	// legal banners not many more.
	maxReplyLines = 512
	maxReplyBytes = 64 << 10
	// maxPreliminary is how many 1yz replies a command may have: one by RFC 959 section 5.4.
	maxPreliminary = 3
	// quitTime is how long to wait for the reply to QUIT.
	quitTime = time.Second
)

// errPreliminary is the error for endless preliminary replies.
var errPreliminary = fmt.Errorf("read reply: more than %d preliminary replies", maxPreliminary)

// control is a session's control connection, which notes when replies may no longer match commands. Only one
// goroutine may use it, except for deadlines.
type control struct {
	*ftpclient.Control
	limit   time.Duration // for each reply
	heard   []byte        // the first bytes received since the last command
	lost    bool          // replies may no longer match commands
	release func() bool   // from the context that closes it

	tlsConfig *tls.Config          // nil: it is in clear
	tlsState  *tls.ConnectionState // of tlsConfig
	session   *ftpclient.Session   // TLS, for data connections to resume
}

// connect opens a connection, and sends a PROXY protocol header that names no client if there is a version.
func connect(ctx context.Context, to netip.AddrPort, limit time.Duration, version forward.ProxyProtocol,
) (net.Conn, error) {
	dialer := net.Dialer{Timeout: limit}
	conn, err := dialer.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	if header := proxyprotocol.Append(nil, version, proxyprotocol.Header{}); len(header) > 0 {
		if _, err := conn.Write(header); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

// dial opens a control connection that closes when ctx is done.
func dial(ctx context.Context, to netip.AddrPort, limits Timeouts, version forward.ProxyProtocol,
) (*control, error) {
	conn, err := connect(ctx, to, limits.Dial, version)
	if err != nil {
		return nil, err
	}
	c := &control{limit: limits.Reply, session: &ftpclient.Session{}}
	c.Control = ftpclient.NewControl(conn, ftpclient.Options{
		MaxReplyLines: maxReplyLines, MaxReplyBytes: maxReplyBytes, Heard: c.hear})
	c.release = context.AfterFunc(ctx, func() { _ = conn.Close() }) // interrupts reads and writes
	return c, nil
}

// hear keeps the first bytes of a peer that does not speak FTP.
func (c *control) hear(p []byte) {
	if room := 4*maxQuote - len(c.heard); room > 0 {
		c.heard = append(c.heard, p[:min(len(p), room)]...)
	}
}

// ask sends a command and returns the reply to it.
func (c *control) ask(verb, arg string) answer {
	if err := c.send(verb, arg); err != nil {
		return answer{err: err}
	}
	return c.reply(c.limit)
}

// send sends a command, and drops what the server has sent before.
func (c *control) send(verb, arg string) error {
	c.heard = c.heard[:0]
	err := c.SetWriteDeadline(time.Now().Add(c.limit))
	if err == nil {
		err = c.Send(ftpclient.Command(verb, arg))
	}
	c.lost = c.lost || err != nil
	return err
}

// reply waits up to limit for the next reply that is not preliminary.
func (c *control) reply(limit time.Duration) answer {
	err := c.SetReadDeadline(time.Now().Add(limit))
	for range 1 + maxPreliminary {
		if err != nil {
			c.lost = true
			return answer{err: err, heard: string(c.heard)}
		}
		reply, replyErr := c.Receive()
		if replyErr == nil && reply.Code >= 200 {
			c.lost = c.lost || reply.Code == 421 // the server ends the connection
			return answer{Reply: reply}
		}
		err = replyErr
	}
	c.lost = true
	return answer{err: errPreliminary, heard: string(c.heard)}
}

// encrypt begins TLS. It accepts any certificate: the caller must check tlsState.
func (c *control) encrypt(ctx context.Context, config *tls.Config) error {
	config = config.Clone()
	config.InsecureSkipVerify = true
	config.VerifyConnection, config.VerifyPeerCertificate = nil, nil
	config.ClientSessionCache = c.session
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	state, err := c.StartTLS(ctx, config)
	if err != nil {
		c.lost = true
		return err
	}
	c.tlsConfig, c.tlsState = config, &state
	return nil
}

// quit ends the connection: with QUIT, unless replies may no longer match commands.
func (c *control) quit() {
	if !c.lost {
		c.limit = min(c.limit, quitTime)
		c.ask("QUIT", "")
	}
	c.release()
	_ = c.Close() // the check is done
}

// sendable reports whether a text can be an argument: one with the end of a line would be a second command.
func sendable(text string) bool { return !strings.ContainsAny(text, "\r\n\x00") }
