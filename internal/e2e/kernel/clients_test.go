package kernel

import (
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// TestKernelTrackingClients makes every client list, download and upload through the kernel's helper,
// in every mode that it knows.
func TestKernelTrackingClients(t *testing.T) {
	t.Parallel()
	for _, at := range []harness.Forward{harness.Forward4, harness.Forward6} {
		t.Run(at.IPVersion(), func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			s := peers.VSFTPD(t, l.Server(), at.Server)
			harness.StartForward(t, l, at, "--tracking", "kernel")
			peers.CheckClients(t, l, s, at, peers.LFTP, peers.Curl, peers.NcFTP, peers.Tnftp)
		})
	}
}

// TestKernelTrackingServers runs one passive and one active session with each of the other servers.
func TestKernelTrackingServers(t *testing.T) {
	t.Parallel()
	for name, run := range peers.Servers {
		if name == "vsftpd" {
			continue // see TestKernelTrackingClients
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			s := run(t, l.Server(), harness.Forward4.Server)
			harness.StartForward(t, l, harness.Forward4, "--tracking", "kernel")
			for _, m := range []peers.Mode{peers.PASV, peers.PORT} {
				t.Run(string(m), func(t *testing.T) {
					peers.CheckClient(t, l, peers.LFTP, s, m,
						harness.Forward4)
				})
			}
		})
	}
}

// TestKernelTrackingInterface publishes a server at every address of one interface.
func TestKernelTrackingInterface(t *testing.T) {
	t.Parallel()
	for _, m := range []peers.Mode{peers.PASV, peers.EPRT} {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			l := labtest.New(t)
			s := peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
			harness.Start(t, l.Gateway(), "forward", "--tracking", "kernel", "--interface",
				lab.GatewayLANLink, ":2121", harness.Forward4.Server.String()).AwaitReady()
			peers.CheckClient(t, l, peers.Curl, s, m, harness.Forward4)
			// The other interface does not publish it.
			at := netip.AddrPortFrom(lab.GatewayWAN4, 2121).String()
			if conn, err := l.Server().Dial(t.Context(), "tcp", at); err == nil {
				conn.Close()
				t.Errorf("got a connection from %s to %s; want none", lab.GatewayWANLink, at)
			}
		})
	}
}

// TestNoTrackingPorts documents what a translated port range does. Modes that name no address work, and
// so does PASV with a client that ignores the address; PASV fails with a client that uses it.
func TestNoTrackingPorts(t *testing.T) {
	t.Parallel()
	flags := []string{"--tracking", "none", "--server-ports", "50000-50100"}
	passivePorts := []string{"pasv_min_port=50000", "pasv_max_port=50100"}
	t.Run("EPSV", func(t *testing.T) {
		t.Parallel()
		l := labtest.New(t)
		s := peers.VSFTPD(t, l.Server(), harness.Forward4.Server, passivePorts...)
		harness.StartForward(t, l, harness.Forward4, flags...)
		peers.CheckClient(t, l, peers.Curl, s, peers.EPSV, harness.Forward4)
	})
	t.Run("EPSV over IPv6", func(t *testing.T) {
		t.Parallel()
		l := labtest.New(t)
		s := peers.VSFTPD(t, l.Server(), harness.Forward6.Server, passivePorts...)
		harness.StartForward(t, l, harness.Forward6, flags...)
		peers.CheckClient(t, l, peers.Curl, s, peers.EPSV, harness.Forward6)
	})
	t.Run("PASV fixed by the client", func(t *testing.T) {
		t.Parallel()
		l := labtest.New(t)
		s := peers.VSFTPD(t, l.Server(), harness.Forward4.Server, passivePorts...)
		harness.StartForward(t, l, harness.Forward4, flags...)
		checkLenientClient(t, l, s)
	})
	t.Run("PASV believed by the client", func(t *testing.T) {
		t.Parallel()
		l := labtest.New(t)
		s := peers.VSFTPD(t, l.Server(), harness.Forward4.Server, passivePorts...)
		harness.StartForward(t, l, harness.Forward4, flags...)
		o := peers.RunClient(t, l.Client(), peers.Curl, s, peers.PASV, harness.Forward4.Listen)
		o.WantAnnounced(t, lab.ServerAddr4)
		const couldNotConnect = 7 // CURLE_COULDNT_CONNECT
		var exit *exec.ExitError
		if !errors.As(o.Err, &exit) || exit.ExitCode() != couldNotConnect {
			t.Errorf("got %v; want exit status %d: the client cannot reach the address that the server names",
				o.Err, couldNotConnect)
		}
		if strings.Contains(o.Transcript, peers.ListedName) {
			t.Error("got a listing; want none")
		}
	})
}

// TestNoTrackingAllPorts publishes every port of a server whose passive range is unknown.
func TestNoTrackingAllPorts(t *testing.T) {
	t.Parallel()
	flags := []string{"--tracking", "none", "--server-ports", "all", "--client", lab.LANPrefix4.String()}
	t.Run("EPSV", func(t *testing.T) {
		t.Parallel()
		l := labtest.New(t)
		s := peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
		harness.StartForward(t, l, harness.Forward4, flags...)
		peers.CheckClient(t, l, peers.Curl, s, peers.EPSV, harness.Forward4)
	})
	t.Run("PASV fixed by the client", func(t *testing.T) {
		t.Parallel()
		l := labtest.New(t)
		s := peers.VSFTPD(t, l.Server(), harness.Forward4.Server)
		harness.StartForward(t, l, harness.Forward4, flags...)
		checkLenientClient(t, l, s)
	})
}

// checkLenientClient runs lftp with its default settings: it notices that a 227 names another host than
// its server, says so, and uses the right one.
func checkLenientClient(t *testing.T, l *lab.Lab, s peers.Server) {
	t.Helper()
	o := peers.RunClient(t, l.Client(), peers.LenientLFTP, s, peers.PASV, harness.Forward4.Listen)
	o.WantFiles(t, s)
	o.WantModes(t, s, harness.Forward4.Source)
	o.WantAnnounced(t, lab.ServerAddr4)
	const notice = "Address returned by PASV seemed to be incorrect and has been fixed"
	if !strings.Contains(o.Transcript, notice) {
		t.Errorf("got no %q in lftp's debug log", notice)
	}
}
