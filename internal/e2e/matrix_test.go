package e2e

import (
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// site is a forward in the lab, and how the server sees who uses it.
type site struct {
	listen, server netip.AddrPort
	masked         netip.Addr
}

var (
	site4 = site{netip.AddrPortFrom(lab.GatewayLAN4, 2121), netip.AddrPortFrom(lab.ServerAddr4, 21), lab.GatewayWAN4}
	site6 = site{netip.AddrPortFrom(lab.GatewayLAN6, 2121), netip.AddrPortFrom(lab.ServerAddr6, 21), lab.GatewayWAN6}
)

// version is how tests call the version of IP that a site's clients use.
func (s site) version() string {
	if s.listen.Addr().Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// forward starts ftpgate on the lab's gateway, between a site's two addresses.
func forward(t *testing.T, l *lab.Lab, at site, flags ...string) {
	t.Helper()
	start(t, l.Gateway(), append(append([]string{"forward"}, flags...), at.listen.String(), at.server.String())...).ready()
}

// TestKernelTrackingClients has every client list, fetch and store through the kernel's helper, in
// every mode that it can do.
func TestKernelTrackingClients(t *testing.T) {
	for _, c := range []client{lftp, curl, ncftp, tnftp} {
		for at, modes := range map[site][]mode{site4: c.v4, site6: c.v6} {
			for _, m := range modes {
				t.Run(c.name+"/"+at.version()+"/"+string(m), func(t *testing.T) {
					t.Parallel()
					l := labtest.New(t)
					s := vsftpd(t, l.Server(), at.server)
					forward(t, l, at, "--tracking", "kernel")
					through(t, l, c, s, m, at)
				})
			}
		}
	}
}

// through has a client visit a server by way of a forward, strictly, and asserts all that it promises.
func through(t *testing.T, l *lab.Lab, c client, s server, m mode, at site) {
	t.Helper()
	o := call(t, l.Client(), c, s, m, at.listen)
	o.files(t, s)
	o.modes(t, s, at.masked)
	o.named(t, at.listen.Addr())
}

// TestKernelTrackingServers has one passive and one active session with each of the other servers.
func TestKernelTrackingServers(t *testing.T) {
	for name, run := range serverPrograms {
		if name == "vsftpd" {
			continue // TestKernelTrackingClients has it
		}
		for _, m := range []mode{pasv, port} {
			t.Run(name+"/"+string(m), func(t *testing.T) {
				t.Parallel()
				l := labtest.New(t)
				s := run(t, l.Server(), site4.server)
				forward(t, l, site4, "--tracking", "kernel")
				through(t, l, lftp, s, m, site4)
			})
		}
	}
}

// TestKernelTrackingInterface publishes a server on every address of one interface.
func TestKernelTrackingInterface(t *testing.T) {
	for _, m := range []mode{pasv, eprt} {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			s := vsftpd(t, l.Server(), site4.server)
			start(t, l.Gateway(), "forward", "--tracking", "kernel", "--interface", lab.GatewayLANLink, ":2121", site4.server.String()).ready()
			through(t, l, curl, s, m, site4)
			// Not on the other interface.
			at := netip.AddrPortFrom(lab.GatewayWAN4, 2121).String()
			if conn, err := l.Server().Dial(t.Context(), "tcp", at); err == nil {
				conn.Close()
				t.Errorf("got a connection from %s to %s; want none", lab.GatewayWANLink, at)
			}
		})
	}
}

// TestNoTrackingPorts documents what a translated port range does: modes that name no address work,
// and so does PASV with a client that ignores the server's; not with one that believes it.
func TestNoTrackingPorts(t *testing.T) {
	flags := []string{"--tracking", "none", "--server-ports", "50000-50100"}
	passivePorts := []string{"pasv_min_port=50000", "pasv_max_port=50100"}
	t.Run("EPSV", func(t *testing.T) {
		t.Parallel()
		l := labtest.New(t)
		s := vsftpd(t, l.Server(), site4.server, passivePorts...)
		forward(t, l, site4, flags...)
		through(t, l, curl, s, epsv, site4)
	})
	t.Run("EPSV over IPv6", func(t *testing.T) {
		t.Parallel()
		l := labtest.New(t)
		s := vsftpd(t, l.Server(), site6.server, passivePorts...)
		forward(t, l, site6, flags...)
		through(t, l, curl, s, epsv, site6)
	})
	t.Run("PASV fixed by the client", func(t *testing.T) {
		t.Parallel()
		l := labtest.New(t)
		s := vsftpd(t, l.Server(), site4.server, passivePorts...)
		forward(t, l, site4, flags...)
		fixedByClient(t, l, s)
	})
	t.Run("PASV believed by the client", func(t *testing.T) {
		t.Parallel()
		l := labtest.New(t)
		s := vsftpd(t, l.Server(), site4.server, passivePorts...)
		forward(t, l, site4, flags...)
		o := call(t, l.Client(), curl, s, pasv, site4.listen)
		o.named(t, lab.ServerAddr4)
		const couldNotConnect = 7 // CURLE_COULDNT_CONNECT
		var exit *exec.ExitError
		if !errors.As(o.err, &exit) || exit.ExitCode() != couldNotConnect {
			t.Errorf("got %v; want exit status %d: the client cannot reach the address that the server names", o.err, couldNotConnect)
		}
		if strings.Contains(o.transcript, remoteMarker) {
			t.Error("got a listing; want none")
		}
	})
}

// TestNoTrackingAllPorts publishes every port of a server whose passive range nobody knows.
func TestNoTrackingAllPorts(t *testing.T) {
	flags := []string{"--tracking", "none", "--server-ports", "all", "--client", lab.LANPrefix4.String()}
	t.Run("EPSV", func(t *testing.T) {
		t.Parallel()
		l := labtest.New(t)
		s := vsftpd(t, l.Server(), site4.server)
		forward(t, l, site4, flags...)
		through(t, l, curl, s, epsv, site4)
	})
	t.Run("PASV fixed by the client", func(t *testing.T) {
		t.Parallel()
		l := labtest.New(t)
		s := vsftpd(t, l.Server(), site4.server)
		forward(t, l, site4, flags...)
		fixedByClient(t, l, s)
	})
}

// fixedByClient has lftp visit with its own settings: it sees that a 227 names another host than the
// one that it talks to, says so and goes on with the right one.
func fixedByClient(t *testing.T, l *lab.Lab, s server) {
	t.Helper()
	mild := lftp
	mild.steps = func(v visit) []step { return lftpSteps(v) }
	o := call(t, l.Client(), mild, s, pasv, site4.listen)
	o.files(t, s)
	o.modes(t, s, site4.masked)
	o.named(t, lab.ServerAddr4)
	const notice = "Address returned by PASV seemed to be incorrect and has been fixed"
	if !strings.Contains(o.transcript, notice) {
		t.Errorf("got no %q in lftp's debug log", notice)
	}
}
