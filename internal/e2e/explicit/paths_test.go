package explicit

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// fetch has curl list and download through the gateway, with these arguments before the URL.
func fetch(t *testing.T, l *lab.Lab, gateway, server netip.AddrPort, s peers.Server, more ...string) string {
	t.Helper()
	labtest.Need(t, "curl")
	home := t.TempDir()
	var all string
	for path, to := range map[string]string{"pub/": "-", peers.DownloadPath: fetched} {
		args := append([]string{"curl", "--verbose", "--silent", "--show-error", "--globoff",
			"--max-time", "20", "--output", to}, more...)
		// The host is in the URL: curl ends the user of --user at the first colon.
		args = append(args, fmt.Sprintf("ftp://%s%%40%s:%s@%s/%s", s.User,
			strings.NewReplacer("[", "%5B", "]", "%5D", ":", "%3A").Replace(server.String()),
			strings.ReplaceAll(s.Password, "@", "%40"), gateway, path))
		text, err := peers.Exec(t, l.Client(), home, peers.Invocation{Args: args})
		if all += text; err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, text)
		}
	}
	if !strings.Contains(all, peers.ListedName) {
		t.Errorf("got no %q in the listing:\n%s", peers.ListedName, all)
	}
	got, err := os.ReadFile(filepath.Join(home, fetched))
	if err != nil || string(got) != string(peers.Content()) {
		t.Errorf("got %d bytes, error %v; want the file", len(got), err)
	}
	return all
}

// Both families, active and passive, over the kernel's path and the relay; for an ordinary user, too.
func TestPaths(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]harness.Forward{"4": harness.Forward4, "6": harness.Forward6,
		"4 to 6": harness.Forward4To6, "6 to 4": harness.Forward6To4} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			s := peers.VSFTPD(t, l.Server(), at.Server)
			p := harness.Start(t, l.Gateway(), "outbound", "--listen", at.Listen.String()).AwaitReady()
			user := netip.AddrPortFrom(at.Listen.Addr(), at.Listen.Port()+1)
			harness.StartCommand(t, l.Gateway(), harness.UnprivilegedCommand(t, "outbound", "--listen",
				user.String(), "--data", "relay")).AwaitReady()
			for _, gateway := range []netip.AddrPort{at.Listen, user} {
				fetch(t, l, gateway, at.Server, s)
				fetch(t, l, gateway, at.Server, s, "--ftp-port", "-")
			}
			if strings.Contains(p.Log(), "level=WARN") {
				t.Errorf("got warnings: %s", p.Log())
			}
		})
	}
}

// TLS that ends at the gateway, with clients, with servers and with both: the server's certificate must be
// that of the host which the client named.
func TestTLS(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	a := harness.NewAuthority(t)
	at := harness.Forward4
	plain := peers.VSFTPD(t, l.Server(), at.Server)
	secure := netip.AddrPortFrom(lab.ServerAddr4, 2100)
	withTLS := peers.ProFTPDWithTLS(t, l.Server(), secure, peers.ServerTLS{Certificate: a.IssueServer()})
	for i, tt := range []struct {
		name         string
		flags        []string
		server       netip.AddrPort
		s            peers.Server
		clientHasTLS bool
	}{
		{"client", a.ClientTLSFlags(), at.Server, plain, true},
		{"server", append(a.ServerTLSFlags(), "--port", "2100"), secure, withTLS, false},
		{"both", append(append(a.ClientTLSFlags(), a.ServerTLSFlags()...), "--port", "2100"), secure,
			withTLS, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gateway := netip.AddrPortFrom(at.Listen.Addr(), uint16(2121+i))
			p := harness.Start(t, l.Gateway(), append([]string{"outbound", "--listen", gateway.String()},
				tt.flags...)...).AwaitReady()
			var more []string
			if tt.clientHasTLS {
				more = []string{"--ssl-reqd", "--cacert", a.CAFile}
			}
			fetch(t, l, gateway, tt.server, tt.s, more...)
			want := map[bool]string{true: "leg=client", false: "leg=server"}[tt.clientHasTLS]
			harness.WantContains(t, p.Log(), want)
		})
	}
}

const (
	notAllowed = "530 this server is not allowed"
	noName     = "501 this is no server's name"
)

// closedHosts are what clients call what they may not reach, and the answers.
var closedHosts = map[string]string{
	"127.0.0.1":              notAllowed,
	"[::1]":                  notAllowed,
	"[::ffff:127.0.0.1]":     notAllowed,
	"[::ffff:7f00:1]":        notAllowed,
	"[64:ff9b::7f00:1]":      notAllowed,
	"localhost":              notAllowed,
	"localhost.":             notAllowed,
	"LOCALHOST":              notAllowed,
	"192.168.5.2":            notAllowed, // the gateway
	"203.0.113.1":            notAllowed, // on its other side
	"192.168.5.1":            notAllowed, // the client
	"[2001:db8:5::1]":        notAllowed,
	"169.254.169.254":        notAllowed,
	"203.0.113.21":           notAllowed, // denied
	"[64:ff9b::cb00:7115]":   notAllowed,
	"203.0.113.21:22":        "530 this port is not allowed",
	"0.0.0.0":                noName,
	"2130706433":             noName,
	"0x7f000001":             noName,
	"0177.0.0.1":             noName,
	"127.1":                  noName,
	"127.0.0.1.":             noName,
	"127.0.0.1%lo":           noName,
	"[fe80::1%lan0]":         noName,
	"127.0.0.1:21:22":        noName,
	"127.0.0.1/":             noName,
	"127.0.0.1\\@x":          noName,
	"\xff\xf1127.0.0.1":      noName,
	strings.Repeat("a", 999): noName,
}

// What clients may not reach is not reached, whatever they call it: the gateway's own services, its
// surroundings, other ports, what is not allowed.
func TestPolicy(t *testing.T) {
	t.Parallel()
	l := labtest.New(t)
	at := harness.Forward4
	for _, service := range []string{"127.0.0.1:21", "[::1]:21", "192.168.5.2:21", "203.0.113.1:21"} {
		inside := harness.Listen(t, l.Gateway(), service)
		go wantNobody(t, inside)
	}
	go wantNobody(t, harness.Listen(t, l.Server(), harness.Server4)) // which is denied
	p := harness.Start(t, l.Gateway(), "outbound", "--listen", at.Listen.String(), "--deny-server",
		"203.0.113.21").AwaitReady()
	name := func(command, want string) {
		t.Helper()
		conn, err := l.Client().Dial(t.Context(), "tcp", at.Listen.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := harness.NewControlConn(t, "the client", conn)
		c.Expect("220 ")
		c.Send("%s", command)
		c.Expect(want)
		c.Send("PASV")
		c.Expect("530 ")
	}
	// First those that the log is to tell of: it has few lines for many refusals.
	for host, why := range map[string]string{
		"127.0.0.1":       "127.0.0.1: it is an address of the gateway",
		"169.254.169.254": "169.254.169.254: it is a private or local address",
		"203.0.113.1":     "203.0.113.1: it is an address of the gateway",
		"192.168.5.1":     "192.168.5.1: it is in a network of the clients",
		"203.0.113.21":    "203.0.113.21: it is denied",
	} {
		name("USER x@"+host, notAllowed)
		p.AwaitLog(why, 1)
	}
	harness.WantContains(t, p.Log(), "kind=server", "if it should, name the server")
	for host, want := range closedHosts {
		for _, command := range []string{"USER x@", "OPEN ", "SITE "} {
			if strings.Contains(host, "@") && command == "USER x@" {
				continue // it names another host
			}
			name(command+host, want)
		}
	}
}

// wantNobody expects that nobody connects to a listener until it is closed.
func wantNobody(t *testing.T, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		t.Errorf("%s was reached", l.Addr())
		c.Close()
	}
}
