package quirk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"

	"ftpgate/internal/core/ftp"
)

// Server is an FTP server with quirks. Its fields must not change after Serve is called.
type Server struct {
	Listen  func(network, address string) (net.Listener, error) // for data connections
	Listing string                                              // answer to LIST
}

// Serve serves clients of l until ctx is done. Then it closes l, ends the sessions, and waits for them. It
// returns an error only if the listener fails.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var sessions sync.WaitGroup
	defer sessions.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	release := closeAfter(ctx, l)
	defer release()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("quirk: accept: %w", err)
		}
		sessions.Go(func() { s.serve(ctx, conn) })
	}
}

// closeAfter closes c when ctx is done, or when release is called.
func closeAfter(ctx context.Context, c io.Closer) (release func()) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	return func() {
		if stop() {
			_ = c.Close()
		}
	}
}

// session is one control connection.
type session struct {
	*Server
	control net.Conn
	lines   *ftp.LineReader
	quirk   Quirk
	pending []byte       // replies not yet written
	data    net.Listener // from PASV to LIST; else nil
}

var errQuit = errors.New("the client sent QUIT")

// serve serves one client. Any error ends the session.
func (s *Server) serve(ctx context.Context, conn net.Conn) {
	release := closeAfter(ctx, conn)
	defer release()
	t := &session{Server: s, control: conn, lines: ftp.NewLineReader(conn, 0)}
	defer t.closeData()
	t.reply("220 the server with quirks")
	for {
		if !t.lines.Ready() && t.flush() != nil { // answer commands of one segment in one segment
			return
		}
		line, _, err := t.lines.ReadLine()
		if err != nil {
			return
		}
		c, err := ftp.ParseCommand(line)
		if err == nil {
			err = t.handle(ctx, c)
		}
		if err != nil {
			_ = t.flush()
			return
		}
	}
}

func (t *session) reply(line string) { t.pending = append(t.pending, line+"\r\n"...) }

// flush writes what is pending in one piece.
func (t *session) flush() error {
	if len(t.pending) == 0 {
		return nil
	}
	_, err := t.control.Write(t.pending)
	t.pending = t.pending[:0]
	return err
}

func (t *session) handle(ctx context.Context, c ftp.Command) error {
	switch c.Verb {
	case "USER":
		t.quirk = Quirk(c.Arg)
		t.reply("331 password, please")
	case "PASS":
		t.reply("230 welcome")
	case "TYPE":
		t.reply("200 ok")
	case "PASV":
		return t.passive()
	case "LIST":
		return t.list(ctx)
	case "QUIT":
		t.reply("221 goodbye")
		return errQuit
	default:
		t.reply("502 not here")
	}
	return nil
}

// passive answers PASV in segments. The last one stays pending.
func (t *session) passive() error {
	t.closeData()
	own, err := netip.ParseAddrPort(t.control.LocalAddr().String())
	if err != nil {
		return err
	}
	l, err := t.Listen("tcp", netip.AddrPortFrom(own.Addr(), 0).String())
	if err != nil {
		t.reply("425 " + err.Error())
		return nil
	}
	t.data = l
	port, err := netip.ParseAddrPort(l.Addr().String())
	if err != nil {
		return err
	}
	for i, segment := range t.quirk.Segments(port) {
		if i > 0 {
			if err := t.flush(); err != nil {
				return err
			}
		}
		t.pending = append(t.pending, segment...)
	}
	return nil
}

func (t *session) list(ctx context.Context) error {
	if t.data == nil {
		t.reply("425 PASV first")
		return nil
	}
	defer t.closeData()
	t.reply("150 here it comes")
	if err := t.flush(); err != nil {
		return err
	}
	release := closeAfter(ctx, t.data)
	defer release()
	conn, err := t.data.Accept()
	if err != nil {
		return err
	}
	_, err = io.WriteString(conn, t.Listing)
	if err = errors.Join(err, conn.Close()); err != nil {
		t.reply("426 " + err.Error())
		return nil
	}
	t.reply("226 that was it")
	return nil
}

// closeData closes the data port of the last PASV.
func (t *session) closeData() {
	if t.data != nil {
		_ = t.data.Close()
		t.data = nil
	}
}
