package harness

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Session is a session of a scripted client and a scripted server.
type Session struct {
	*Testbed
	Client, Server *ControlConn
}

// Exchange sends a command from the client and a reply from the server. The gateway must pass on both
// unchanged.
func (p Session) Exchange(command, reply string) {
	p.T.Helper()
	p.Client.Send("%s", command)
	p.Server.Expect(command)
	p.Server.Send("%s", reply)
	p.Client.Expect(reply)
}

// login logs in.
func (p Session) login() {
	p.T.Helper()
	p.loginAs("alice")
}

func (p Session) loginAs(user string) {
	p.T.Helper()
	p.Exchange("USER "+user, "331 and the password")
	p.Exchange("PASS "+Password, "230 welcome")
}

var hostPortPattern = regexp.MustCompile(`(\d+),(\d+),(\d+),(\d+),(\d+),(\d+)`)

// ParseHostPort reads the address in a 227 or a PORT.
func ParseHostPort(t *testing.T, line string) netip.AddrPort {
	t.Helper()
	m := hostPortPattern.FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("got %q; want an address in it", line)
	}
	high, _ := strconv.Atoi(m[5])
	low, _ := strconv.Atoi(m[6])
	addr, err := netip.ParseAddr(strings.Join(m[1:5], "."))
	if err != nil {
		t.Fatalf("got %q: %v", line, err)
	}
	return netip.AddrPortFrom(addr, uint16(high<<8|low))
}

// FormatHostPort writes an address as PORT and 227 do.
func FormatHostPort(a netip.AddrPort) string {
	return fmt.Sprintf("%s,%d,%d", strings.ReplaceAll(a.Addr().String(), ".", ","), a.Port()>>8,
		a.Port()&0xff)
}

// Passive negotiates with PASV, or with EPSV over IPv6. The server listens at the address of its control
// connection, and announces the address named if that is valid. It returns the server's listener and the
// address that the client gets.
func (p Session) Passive(named netip.Addr) (net.Listener, netip.AddrPort) {
	p.T.Helper()
	own := p.Server.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	data := Listen(p.T, p.Lab.Server(), netip.AddrPortFrom(own, 0).String())
	if !named.IsValid() {
		named = own
	}
	if own.Is6() {
		p.Client.Send("EPSV")
		p.Server.Expect("EPSV")
		p.Server.Send("229 Entering Extended Passive Mode (|||%d|)", data.Addr().(*net.TCPAddr).Port)
		_, text, _ := strings.Cut(p.Client.Expect("229"), "(|||")
		port, _, _ := strings.Cut(text, "|")
		dialled := p.Client.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
		return data, netip.MustParseAddrPort(fmt.Sprintf("[%s]:%s", dialled, port))
	}
	p.Client.Send("PASV")
	p.Server.Expect("PASV")
	p.Server.Send("227 Entering Passive Mode (%s)", FormatHostPort(netip.AddrPortFrom(named,
		data.Addr().(*net.TCPAddr).AddrPort().Port())))
	return data, ParseHostPort(p.T, p.Client.Expect("227"))
}

// Active negotiates with PORT, or with EPRT over IPv6. It returns the client's listener and the address that
// the server gets.
func (p Session) Active() (net.Listener, netip.AddrPort) {
	p.T.Helper()
	own := p.Client.LocalAddr().(*net.TCPAddr).AddrPort().Addr()
	data := Listen(p.T, p.Lab.Client(), netip.AddrPortFrom(own, 0).String())
	var at netip.AddrPort
	if own.Is6() {
		p.Client.Send("EPRT |2|%s|%d|", own, data.Addr().(*net.TCPAddr).Port)
		parts := strings.Split(p.Server.Expect("EPRT |2|"), "|")
		at = netip.MustParseAddrPort(fmt.Sprintf("[%s]:%s", parts[2], parts[3]))
	} else {
		p.Client.Send("PORT %s", FormatHostPort(data.Addr().(*net.TCPAddr).AddrPort()))
		at = ParseHostPort(p.T, p.Server.Expect("PORT"))
	}
	p.Server.Send("200 fine")
	p.Client.Expect("200")
	return data, at
}

// WantAlive expects that the session still works, and that nothing stands before the next reply.
func (p Session) WantAlive() {
	p.T.Helper()
	p.Exchange("NOOP", "200 still there")
	p.Exchange("PWD", `257 "/"`)
}

// Close closes both ends.
func (p Session) Close() {
	p.Client.Close()
	p.Server.Close()
}

// ClientLeaves closes the client's end, and the server's as soon as it sees that.
func (p Session) ClientLeaves() {
	p.Client.Close()
	_, _ = io.Copy(io.Discard, p.Server.Reader)
	p.Server.Close()
}

// Quit ends the session.
func (p Session) Quit() {
	p.T.Helper()
	p.Exchange("QUIT", "221 bye")
	p.Server.Close()
	p.Client.ExpectClose()
	p.Client.Close()
}
