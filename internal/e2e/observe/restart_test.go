package observe

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab/labtest"
)

// After a kill during a transfer and a restart, ftpgate knows no earlier session, and serves.
func TestRestartAfterKill(t *testing.T) {
	for path := range harness.DataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			labtest.Need(t, "nft")
			st, s := harness.NewAdminTestbed(t, fmt.Sprintf(harness.ForwardConfig+"data = %q\n", "files",
				harness.Gateway4, path))
			busy, waiting := st.Login(), st.Login()
			busy.Retrieve(netip.Addr{}).Complete()
			harness.Await(t, "the first transfer in the log",
				func() bool { return len(harness.ReadTransferLog(t, s.TransferLog)) == 1 })
			before := harness.ReadTransferLog(t, s.TransferLog)[0].Session
			waiting.Passive(netip.Addr{})
			b := busy.Retrieve(netip.Addr{})
			b.Carry(harness.RandomBytes(300_000))
			s.AwaitSession("the transfer", func(one harness.SessionInfo) bool {
				return one.Transfer != nil && one.Transfer.Bytes >= 300_000
			})

			s.Kill()
			for _, p := range []harness.Session{busy, waiting} {
				p.Client.ExpectClose()
				p.Server.ExpectClose()
			}
			if path == "relay" {
				if n, err := io.Copy(io.Discard, b.ClientData); err == nil {
					t.Errorf("the data connection ends well after %d more bytes; want it broken", n)
				}
			}
			wantNotRunning(s)
			s.Program = harness.Start(t, s.Host, "run", "-c", s.ConfigFile).AwaitReady()
			st.Program = s.Program
			wantNothingKept(t, st, s, path, before)

			st.WantService()
			harness.Await(t, "two more transfers",
				func() bool { return s.Status().Forwards[0].Transfers == 2 })
			s.Interrupt()
			all := harness.ReadTransferLog(t, s.TransferLog)
			if len(all) != 3 || all[0].Session != before || all[1].Session != all[2].Session {
				t.Errorf("got the transfers %+v; want one of before, and two of one session", all)
			}
		})
	}
}

// wantNothingKept expects that a new start knows nothing of an earlier session, and has no old rules.
func wantNothingKept(t *testing.T, st *harness.Testbed, s *harness.AdminGateway, path, before string) {
	t.Helper()
	if all := s.Sessions("--ended"); len(all) != 0 {
		t.Errorf("got the sessions %+v; want none of before", all)
	}
	if f := s.Status().Forwards[0]; f.Total+f.Transfers+f.Failed+f.Clients != 0 || f.Up+f.Down != 0 {
		t.Errorf("got the forward %+v; want nothing of before", f)
	}
	if path == "kernel" {
		if n := strings.Count(harness.Ruleset(t, s.Host), "table inet ftpgate"); n != 1 {
			t.Errorf("got %d tables; want one", n)
		}
		st.WantPinholes(0, "after the start")
	}
	_, stderr, status := s.Run("explain", before)
	if status != 1 || strings.Count(stderr, "\n") > 2 || !strings.Contains(stderr,
		"there is no session "+before) {
		t.Errorf("explain of a session of before: got exit status %d, %q; want 1", status, stderr)
	}
}
