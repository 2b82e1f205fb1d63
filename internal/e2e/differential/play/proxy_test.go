package play

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"sync"
	"testing"
)

// lie is how a proxy differs from an honest one. A field that is not set is honest.
type lie struct {
	reply   func(line []byte) []byte                      // what the client gets for a line of the server's
	command func(line []byte) []byte                      // what the server gets for a line of the client's
	end     func(to *net.TCPConn)                         // how a control connection's end is passed on
	data    func(data []byte) []byte                      // what is made of data
	dataEnd func(to *net.TCPConn, err error)              // how the end of data is passed on
	dial    func(to netip.AddrPort) (*net.TCPConn, error) // how the server is reached for data
}

// liar is a proxy on loopback: it passes lines and data on, and rewrites the port of a 227.
type liar struct {
	lie
	t        *testing.T
	listener *net.TCPListener
	server   netip.AddrPort

	mu      sync.Mutex
	over    bool
	sockets []io.Closer
	all     sync.WaitGroup
}

var loopback = netip.MustParseAddr("127.0.0.1")

// startLiar starts a proxy for one session. It ends with the test.
func startLiar(t *testing.T, server netip.AddrPort, l lie) netip.AddrPort {
	t.Helper()
	listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		t.Fatal(err)
	}
	p := &liar{lie: l, t: t, listener: listener, server: server}
	p.own(listener)
	p.all.Go(p.serve)
	t.Cleanup(func() {
		p.mu.Lock()
		p.over = true
		for _, c := range p.sockets {
			c.Close()
		}
		p.mu.Unlock()
		p.all.Wait()
	})
	return addrPort(listener.Addr())
}

func (p *liar) own(c io.Closer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sockets = append(p.sockets, c)
	if p.over {
		c.Close()
	}
}

// serve carries one session.
func (p *liar) serve() {
	client, err := p.listener.AcceptTCP()
	if err != nil {
		return
	}
	p.own(client)
	server, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(p.server))
	if err != nil {
		return
	}
	p.own(server)
	p.all.Go(func() { p.lines(server, client, p.command) })
	p.lines(client, server, func(line []byte) []byte {
		if line = p.passive(line); p.reply != nil {
			return p.reply(line)
		}
		return line
	})
}

// lines passes lines on, and the end behind them.
func (p *liar) lines(to, from *net.TCPConn, change func([]byte) []byte) {
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadBytes('\n')
		if change != nil && len(line) > 0 {
			line = change(line)
		}
		to.Write(line)
		if err != nil {
			break
		}
	}
	if p.end != nil {
		p.end(to)
		return
	}
	to.CloseWrite()
}

var passivePort = regexp.MustCompile(`,(\d+),(\d+)\)`)

// passive makes a 227 name a port of the proxy.
func (p *liar) passive(line []byte) []byte {
	m := passivePort.FindSubmatch(line)
	if !bytes.HasPrefix(line, []byte("227")) || m == nil {
		return line
	}
	high, _ := strconv.Atoi(string(m[1]))
	low, _ := strconv.Atoi(string(m[2]))
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		p.t.Error(err)
		return line
	}
	p.own(l)
	p.all.Go(func() { p.relay(l, netip.AddrPortFrom(loopback, uint16(high<<8|low))) })
	own := addrPort(l.Addr()).Port()
	return passivePort.ReplaceAll(line, fmt.Appendf(nil, ",%d,%d)", own>>8, own&0xff))
}

// relay carries one data connection.
func (p *liar) relay(l *net.TCPListener, to netip.AddrPort) {
	client, err := l.AcceptTCP()
	if err != nil {
		return
	}
	p.own(client)
	dial := p.dial
	if dial == nil {
		dial = func(to netip.AddrPort) (*net.TCPConn, error) {
			return net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(to))
		}
	}
	server, err := dial(to)
	if err != nil {
		return
	}
	p.own(server)
	p.all.Go(func() { p.copy(server, client) })
	p.copy(client, server)
}

// copy passes data on, and its end.
func (p *liar) copy(to, from *net.TCPConn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		data := buffer[:n]
		if p.data != nil {
			data = p.data(data)
		}
		to.Write(data)
		switch {
		case err == nil:
			continue
		case p.dataEnd != nil:
			p.dataEnd(to, err)
		case isReset(err):
			resetConn(to)
		default:
			to.CloseWrite()
		}
		return
	}
}

// resetConn ends a connection with RST.
func resetConn(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// dialFrom connects from another address of loopback.
func dialFrom(from string) func(netip.AddrPort) (*net.TCPConn, error) {
	return func(to netip.AddrPort) (*net.TCPConn, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", to.String())
		if err != nil {
			return nil, err
		}
		return c.(*net.TCPConn), nil
	}
}
