package proxy

import (
	"fmt"
	"io"
	"net/netip"
	"syscall"
	"testing"

	"ftpgate/internal/e2e/harness"
)

// Every way to stop leaves no goroutine behind, after sessions of all kinds. The harness counts the
// goroutines of every program that it starts; this test is for those that sessions and reloads start.
func TestStopLeavesNoGoroutines(t *testing.T) {
	t.Parallel()
	for path, data := range map[string]string{"kernel": "auto", "relay": "relay"} {
		for name, stop := range map[string]func(*harness.Testbed, *harness.AdminGateway){
			"idle":              stopIdle,
			"during a transfer": stopDuringTransfer,
			"drain exceeded":    stopAfterDrain,
			"after a reload":    stopAfterReload,
		} {
			t.Run(path+"/"+name, func(t *testing.T) {
				t.Parallel()
				a := harness.NewAuthority(t)
				pair := a.IssueGateway()
				forward := fmt.Sprintf(harness.ForwardConfig+"data = %q\n", "files", harness.Gateway4, data)
				forward += fmt.Sprintf("[forward.tls]\nclient = \"optional\"\ncert = %q\nkey = %q\n",
					pair.CertFile, pair.KeyFile)
				s, admin := harness.NewAdminTestbed(t, forward)
				s.WantService()
				withTLS := &harness.ClientTLSTestbed{Testbed: s, Authority: a, T: t, GatewayPair: pair,
					Trusted: a.ClientConfig(harness.GatewayName)}
				withTLS.WantService()
				killSession(s, admin)
				stop(s, admin)
				if got := s.Program.Wait(); got != 0 {
					t.Errorf("got exit status %d; want 0", got)
				}
			})
		}
	}
}

// killSession ends a session and its transfer by ftpgate kill.
func killSession(s *harness.Testbed, admin *harness.AdminGateway) {
	b := s.Login().Retrieve(netip.Addr{})
	b.Carry(harness.RandomBytes(100_000))
	one := admin.AwaitSession("the transfer",
		func(one harness.SessionInfo) bool { return one.State == "transfer" })
	admin.Output("kill", one.ID)
	b.Client.Expect("421")
}

func stopIdle(s *harness.Testbed, _ *harness.AdminGateway) { s.Program.Signal(syscall.SIGTERM) }

// stopDuringTransfer stops during a transfer that finishes.
func stopDuringTransfer(s *harness.Testbed, _ *harness.AdminGateway) {
	b := s.Login().Retrieve(netip.Addr{})
	b.Carry(harness.RandomBytes(100_000))
	s.Program.Signal(syscall.SIGTERM)
	b.Complete()
	b.Client.ExpectClose()
}

// stopAfterDrain stops during a transfer that does not finish: it ends with the drain time.
func stopAfterDrain(s *harness.Testbed, admin *harness.AdminGateway) {
	harness.OverwriteFile(s.T, admin.ConfigFile, "drain = \"1s\"\n"+harness.ReadFile(s.T, admin.ConfigFile))
	admin.Output("reload")
	b := s.Login().Retrieve(netip.Addr{})
	b.Carry(harness.RandomBytes(100_000))
	s.Program.Signal(syscall.SIGTERM)
	b.Client.Expect("421")
	_, _ = io.Copy(io.Discard, b.Client.Reader)
}

// stopAfterReload stops after a reload that has removed a forward with a session, and one that has failed.
func stopAfterReload(s *harness.Testbed, admin *harness.AdminGateway) {
	idle := s.Login()
	admin.WriteConfig(s.T, fmt.Sprintf(harness.ForwardConfig, "others", "192.168.5.2:2122"))
	admin.Output("reload")
	idle.Client.Expect("421")
	admin.WriteConfig(s.T, "[[forward\n")
	if _, _, status := admin.Run("reload"); status == 0 {
		s.T.Error("got a reload of a broken file; want it refused")
	}
	s.Program.Signal(syscall.SIGTERM)
}
