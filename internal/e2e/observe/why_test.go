package observe

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab/labtest"
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

// What real clients and servers do at the end of a transfer is no failure: a transfer that the client has
// got, or sent, is complete in the log, and no session is said to have failed.
func TestRealPeersDoNotFail(t *testing.T) {
	for path := range harness.DataPaths {
		for name, start := range peers.Servers {
			t.Run(path+"/"+name, func(t *testing.T) {
				t.Parallel()
				l := labtest.New(t)
				server := start(t, l.Server(), harness.Forward4.Server)
				s := harness.StartAdminGateway(t, l, fmt.Sprintf(harness.ForwardConfig+"data = %q\n", "files",
					harness.Gateway4, path))
				for _, c := range []peers.Client{peers.Curl, peers.LFTP, peers.NcFTP, peers.Tnftp} {
					for _, m := range []peers.Mode{peers.PASV, peers.PORT} {
						peers.RunClient(t, l.Client(), c, server, m, harness.Forward4.Listen).WantFiles(t,
							server)
					}
				}
				s.Interrupt()
				all := harness.ReadTransferLog(t, s.TransferLog)
				if len(all) < 8*peers.TransfersPerRun {
					t.Errorf("got %d transfers; want %d", len(all), 8*peers.TransfersPerRun)
				}
				for _, one := range all {
					if one.Complete == (one.Verdict != "") || !one.Complete && !refusedByServer(one.Verdict) {
						t.Errorf("got the transfer %+v; want it complete", one)
					}
				}
				for line := range strings.Lines(s.Log()) {
					if strings.Contains(line, `msg="session`) && strings.Contains(line, "level=WARN") &&
						!refusedByServer(line) {
						t.Error(line)
					}
				}
			})
		}
	}
}

// refusedByServer reports whether a text says that a server did not carry out a command, as some do to what
// clients only try.
func refusedByServer(text string) bool {
	return strings.Contains(text, "the server did not carry out ") || strings.Contains(text,
		"the server refused ")
}
