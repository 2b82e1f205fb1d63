package observe

import (
	"fmt"
	"net/netip"
	"regexp"
	"syscall"
	"testing"

	"ftpgate/internal/e2e/harness"
)

// The log alone says why a data connection failed, also where that is known only after the session; and all
// counters agree about it.
func TestLogSaysWhy(t *testing.T) {
	for path := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			st, s := harness.NewAdminTestbed(t, fmt.Sprintf(harness.ForwardConfig+"data = %q\n", "files",
				harness.Gateway4, path))
			well := st.Login()
			well.Retrieve(netip.Addr{}).Complete()
			well.Quit()
			p := st.Login()
			p.Passive(netip.Addr{})
			s.AwaitSession("a client that does not connect",
				func(one harness.SessionInfo) bool { return one.Verdict.Code == "waiting" })
			p.ClientLeaves()
			s.AwaitLog(`verdict="the client never connected to 192.168.5.2:`, 1)
			why := regexp.MustCompile(`level=WARN msg="session (ends|failed)" forward=files session=\S+ ` +
				`client=\S+ server=203.0.113.21:21 .*verdict="the client never connected to \S+ within ` +
				`\d+ s" remedy="check whether a firewall between the client and the gateway`)
			if !why.MatchString(s.Log()) {
				t.Errorf("no line like %s in\n%s", why, s.Log())
			}
			if n := s.LogCount("level=WARN msg=\"session"); n != 1 {
				t.Errorf("got %d lines about failed sessions; want one:\n%s", n, s.Log())
			}
			one := s.AwaitSession("its end", func(one harness.SessionInfo) bool {
				return one.Verdict.Code == "client_never_connected"
			}, "--ended")
			if one.Totals.Failed != 1 || one.Refused != 0 {
				t.Errorf("got %+v; want one failure, and nothing refused", one)
			}
			if f := s.Status().Forwards[0]; f.Transfers != 1 || f.Failed != 1 || f.Refused != 0 {
				t.Errorf("status: got %+v; want one transfer, one failure, and nothing refused", f)
			}
			s.Interrupt()
			harness.WantContains(t, s.Log(), "sessions=2 transfers=1 failed=1\n")
		})
	}
}

// A stop says at once that the gateway stops, and what it waits for. A transfer that the end of the drain
// cuts counts as failed everywhere.
func TestStopSaysWhatItWaitsFor(t *testing.T) {
	for path := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			st, s := harness.NewAdminTestbed(t, fmt.Sprintf(harness.ForwardConfig+"data = %q\n", "files",
				harness.Gateway4, path))
			harness.OverwriteFile(t, s.ConfigFile, "drain = \"1s\"\n"+harness.ReadFile(t, s.ConfigFile))
			s.Output("reload")
			b := st.Login().Retrieve(netip.Addr{})
			b.Carry(harness.RandomBytes(200_000))
			s.AwaitSession("the transfer",
				func(one harness.SessionInfo) bool { return one.Totals.Down >= 200_000 })
			s.Signal(syscall.SIGTERM)
			s.AwaitLog(`msg="stopping; running transfers may finish" transfers=1 passed_through=0 until=`, 1)
			b.Client.Expect("421")
			if status := s.Wait(); status != 0 {
				t.Errorf("got exit status %d; want 0", status)
			}
			harness.WantContains(t, s.Log(), "sessions=1 transfers=0 failed=1\n", "level=WARN msg=\"session",
				`verdict="ended because the gateway is shutting down"`)
			all := harness.ReadTransferLog(t, s.TransferLog)
			if len(all) != 1 || all[0].Complete || all[0].Bytes < 200_000 || all[0].Verdict == "" {
				t.Errorf("got the transfers %+v; want one that was cut", all)
			}
		})
	}
}
