package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ftpgate/internal/control/conn"
	"ftpgate/internal/control/upstream"
	"ftpgate/internal/core/pinhole"
)

// However the stream is split, and however much is pipelined, lines arrive whole and in order
// (RFC 1123 section 4.1.2.10: a read is not a line).
func TestSessionSplitsAndPipelines(t *testing.T) {
	b := newStage(t).connect().login()
	for _, piece := range []string{"P", "AS", "V\r", "\nSYST\r\nNOOP\r\nFE"} {
		b.client.say("%s", piece)
	}
	b.server.hear("PASV")
	for _, piece := range []string{"2", "27 Entering Passive Mode (1,1,1,1,195", ",80)\r", "\n"} {
		b.server.say("%s", piece)
	}
	b.client.hear("227 Entering Passive Mode (127,0,0,1,195,80)")
	b.server.hear("SYST")
	b.server.say("200 ok\r\n227 spoofed (127,0,0,1,0,22)\r\n") // the second answers nothing
	b.client.hear("200 ok")
	b.server.hear("NOOP")
	b.server.say("200 noop\r\n")
	b.client.hear("200 noop")
	b.client.say("AT\r\n")
	b.server.hear("FEAT")
	b.wantRefused("unasked_reply=1")
}

// Every way to cut a dialogue's stream in two leads to the same lines.
func TestSessionSplitsAnywhere(t *testing.T) {
	b := newStage(t).connect().login()
	const commands, replies = "EPSV\r\nNOOP\n", "229-here\n229 (|||50000|)\r\n200 ok\n"
	for i := range max(len(commands), len(replies)) {
		b.client.say("%s", commands[:min(i, len(commands))])
		b.client.say("%s", commands[min(i, len(commands)):])
		b.server.hear("EPSV")
		head := replies[:min(i, len("229-here\n229 (|||50000|)\r\n"))]
		b.server.say("%s", head)
		b.server.say("%s", strings.TrimPrefix("229-here\n229 (|||50000|)\r\n", head))
		b.client.hear("229 Entering Extended Passive Mode (|||50000|)")
		b.server.hear("NOOP")
		b.server.say("200 ok\n")
		b.client.hear("200 ok\n") // as the server ended it
	}
	b.wantRefused("")
}

// The bytes before ABOR reach the server unchanged (RFC 959 section 4.1.3), urgent bytes too.
func TestSessionSynch(t *testing.T) {
	b := newStage(t).connect().login()
	b.transfer()
	if err := conn.InlineUrgent(b.server.TCPConn); err != nil {
		t.Fatal(err)
	}
	b.client.say("\xff\xf4\xff")
	err := onSocket(b.client.TCPConn, func(fd int) error { return unix.Send(fd, []byte{242}, unix.MSG_OOB) })
	if err != nil {
		t.Fatal(err)
	}
	b.client.say("\xff\xf4ABOR\r\n") // if the urgent byte were missing, IAC IAC would be data
	b.server.hear("\xff\xf4\xff\xf2\xff\xf4ABOR")
}

func TestSessionEndsWithEitherSide(t *testing.T) {
	b := newStage(t).connect().login()
	data := b.transfer()
	b.server.Close()
	b.client.hear("421 the server closed the connection")
	b.client.heardAll()
	<-data.closed

	b = newStage(t).connect().login()
	data = b.transfer()
	b.client.Close()
	b.server.heardAll()
	<-data.closed

	b = newStage(t).connect().login()
	data = b.transfer()
	b.server.say("226 done\r\n")
	<-data.held
	b.client.Close()
	b.server.heardAll()
	<-data.closed

	b = newStage(t).connect().ask("QUIT", "221 bye")
	b.client.heardAll()
	b.server.heardAll()

	b = newStage(t).connect().ask("NOOP", "421 I am off")
	b.server.Close()
	b.client.heardAll() // it has said why
}

// The pinhole is gone with the next negotiation, before the line about it.
func TestSessionNegotiatesAnew(t *testing.T) {
	b := newStage(t).connect().login()
	first := b.pasv()
	second := b.pasv()
	if !first.isClosed() || second.isClosed() {
		t.Error("after two PASV the first pinhole is there, or the second is not")
	}
	if _, most := b.path.opened(); most != 1 {
		t.Errorf("got %d pinholes at once; want 1", most)
	}
}

// PORT: reserved, sent to the server, armed with its 2yz, and then announced to the client.
func TestSessionActive(t *testing.T) {
	b := newStage(t).connect().login()
	b.client.say("PORT 127,0,0,1,156,64\r\n")
	b.server.hear("PORT 127,0,0,1,195,80")
	data := b.path.last()
	if data.isArmed() {
		t.Error("armed before the server's 2yz")
	}
	b.server.say("200 ok\r\n")
	b.client.hear("200 ok")
	if !data.isArmed() || data.isClosed() {
		t.Error("not armed when the client is told so")
	}
	if want := netip.MustParseAddrPort("127.0.0.1:40000"); data.pinhole.Target != want {
		t.Errorf("leads to %s; want %s", data.pinhole.Target, want)
	}

	b.path.set(nil, errors.New("the kernel refuses"))
	b.client.say("PORT 127,0,0,1,156,64\r\n")
	b.server.hear("PORT 127,0,0,1,195,80")
	b.server.say("200 ok\r\n")
	b.client.hear("425 no data connection is possible now, try again later")
	b.wantRefused("no_port=1")
	if now, _ := b.path.opened(); now != 0 {
		t.Errorf("got %d pinholes; want none", now)
	}
}

// A data path without a port: 425, and not a hang.
func TestSessionWithoutPorts(t *testing.T) {
	b := newStage(t).connect().login()
	b.path.set(errors.New("no passive port is free"), nil)
	b.client.say("PASV\r\n")
	b.server.hear("PASV")
	b.server.say("227 Entering Passive Mode (10,0,0,1,195,80)\r\n")
	b.client.hear("425 no data connection is possible now, try again later")
	b.wantRefused("no_port=1")

	b.path.set(nil, errors.New("the kernel refuses"))
	b.client.say("EPSV\r\n")
	b.server.hear("EPSV")
	b.server.say("229 ok (|||50000|)\r\n")
	b.client.hear("425 no data connection is possible now, try again later")
	b.wantRefused("no_port=2")

	b.path.set(nil, nil)
	b.pasv()
}

// An active client and a server that must be passive: the gateway connects to both.
func TestSessionServerModePassive(t *testing.T) {
	b := newStage(t, serverPassive).connect().login()
	port := func() {
		b.client.say("PORT 127,0,0,1,156,64\r\n")
		b.server.hear("PASV")
		b.server.say("227 Entering Passive Mode (10,0,0,1,195,80)\r\n")
		b.client.hear("200 PORT command successful")
	}
	port()
	if len(b.path.all) != 0 {
		t.Error("AwaitBothEnds was called before the transfer")
	}
	b.ask("RETR x", "150 here")
	data := b.path.last()
	at := netip.MustParseAddr("127.0.0.1")
	want := pinhole.Bridge{
		Client: pinhole.Leg{SourceIP: at, Target: netip.AddrPortFrom(at, 40_000)},
		Server: pinhole.Leg{SourceIP: at, Target: netip.AddrPortFrom(at, 50_000)},
	}
	if data.bridge != want {
		t.Errorf("got bridge %v; want %v", data.bridge, want)
	}
	close(data.done)
	b.server.say("226 done\r\n")
	b.client.hear("226 done")
	if !data.isClosed() {
		t.Error("the bridge is there after its transfer")
	}
	port()
	b.path.set(errors.New("no bridges here"), nil)
	b.client.say("RETR x\r\n")
	b.client.hear("425 no data connection is possible now, try again later")
	b.path.set(nil, nil)
	port()
	b.ask("RETR x", "150 here")
	b.client.Close()
	b.server.heardAll()
	<-b.path.last().closed
}

// Ten thousand pipelined PASV: each is answered, none opens more than one pinhole at a time, and
// what is not answered waits in the client's socket.
func TestSessionFlood(t *testing.T) {
	b := newStage(t).connect().login()
	const flood = 10_000
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(b.client, strings.Repeat("PASV\r\n", flood))
		sent <- err
	}()
	for i := range flood {
		b.server.hear("PASV")
		b.server.say("227 Entering Passive Mode (10,0,0,1,195,80)\r\n")
		if got, err := b.client.lines.ReadString('\n'); err != nil || !strings.HasPrefix(got, "227 ") {
			t.Fatalf("reply %d: got %q, error %v", i, got, err)
		}
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if _, most := b.path.opened(); most != 1 {
		t.Errorf("got %d pinholes at once; want 1", most)
	}
}

// Both control connections have keep-alive for the NATs on the way, and no Nagle: it would hold short
// lines back.
func TestSessionSockets(t *testing.T) {
	client, server := pair(t)
	for name, c := range map[string]*net.TCPConn{"client": client, "server": server} {
		for option, level := range map[int]int{unix.SO_KEEPALIVE: unix.SOL_SOCKET,
			unix.TCP_NODELAY: unix.IPPROTO_TCP} {
			err := onSocket(c, func(fd int) error {
				if v, err := unix.GetsockoptInt(fd, level, option); err != nil || v == 0 {
					return fmt.Errorf("option %d is %d, error %w", option, v, err)
				}
				return nil
			})
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// onSocket calls f with a connection's descriptor.
func onSocket(c *net.TCPConn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// pair returns what a proxy has in hand: the connection that it accepted, and the one that it dialled.
func pair(t *testing.T) (accepted, dialled *net.TCPConn) {
	t.Helper()
	l := loopback(t)
	c, err := upstream.DialTCP(t.Context(), l.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); c.Close() })
	return a, c.(*net.TCPConn)
}

// Eight-bit paths, doubled IAC and spaces come through byte for byte (RFC 3659 section 2.2).
func TestSessionBytes(t *testing.T) {
	b := newStage(t).connect().login()
	line := []byte("CWD ")
	for c := 1; c < 256; c++ {
		if c != '\r' && c != '\n' {
			line = append(line, byte(c))
		}
	}
	line = append(line, "\xff\xff  "...)
	b.client.say("%s\r\n", line)
	got, err := b.server.lines.ReadBytes('\n')
	if err != nil || !bytes.Equal(got, append(line, "\r\n"...)) {
		t.Errorf("got %q, error %v; want %q", got, err, line)
	}
}

// A client that closes its side behind its last command still gets the answers, and its data: the server sees
// that it sends no more, and closes when it has said everything.
func TestSessionHalfClosedClient(t *testing.T) {
	b := newStage(t).connect().login()
	data := b.pasv()
	b.client.say("NOOP\r\nRETR x\r\n")
	if err := b.client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	b.server.hear("NOOP")
	b.server.say("200 ok\r\n")
	b.client.hear("200 ok")
	b.server.hear("RETR x")
	b.server.say("150 here\r\n")
	b.client.hear("150 here")
	if rest, err := io.ReadAll(b.server.lines); err != nil || len(rest) > 0 {
		t.Fatalf("got %q, error %v; want the client's end", rest, err)
	}
	if data.isClosed() {
		t.Error("the end of the client's commands closes the port of its transfer")
	}
	close(data.done)
	b.server.say("226 done\r\n")
	b.client.hear("226 done")
	b.server.Close()
	b.client.heardAll()
	if isClosed(data.severed) {
		t.Error("the end of the session severs its data connection")
	}

	b = newStage(t).connect()
	b.client.say("NOOP\r\nQUIT\r\n")
	if err := b.client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"NOOP", "QUIT"} {
		b.server.hear(command)
		b.server.say("221 to %s\r\n", command)
		b.client.hear("221 to " + command)
	}
	b.client.heardAll()
}
