package e2e

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"ftpgate/internal/try/lab/labtest"
)

// Killed in the middle of a transfer and started again, it knows nothing of before, and serves.
func TestShowAfterKill(t *testing.T) {
	for path := range dataPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			labtest.Need(t, "nft")
			st, s := newShownStage(t, fmt.Sprintf(oneForward+"data = %q\n", "files", gateway4, path))
			busy, waiting := st.login(), st.login()
			busy.retrieve(netip.Addr{}).complete()
			until(t, "the first transfer in the log", func() bool { return len(lines(t, s.transfers)) == 1 })
			before := lines(t, s.transfers)[0].Session
			waiting.passive(netip.Addr{})
			b := busy.retrieve(netip.Addr{})
			b.carry(payload(300_000))
			s.awaitSession("the transfer", func(one seen) bool { return one.Transfer != nil && one.Transfer.Bytes == 300_000 })

			s.kill()
			for _, end := range []*wire{busy.client, busy.server, waiting.client, waiting.server} {
				end.ended()
			}
			if path == "relay" {
				if n, err := io.Copy(io.Discard, b.to); err == nil {
					t.Errorf("the data connection ends well after %d more bytes; want it broken", n)
				}
			}
			s.wantNobody()
			s.program = start(t, s.host, "run", "-c", s.file).ready()
			st.gate = s.program
			if all := s.sessions("--ended"); len(all) != 0 {
				t.Errorf("got the sessions %+v; want none of before", all)
			}
			if f := s.status().Forwards[0]; f.Total+f.Transfers+f.Failed+f.Clients != 0 || f.Up+f.Down != 0 {
				t.Errorf("got the forward %+v; want nothing of before", f)
			}
			if path == "kernel" {
				if n := strings.Count(rules(t, s.host), "table inet ftpgate"); n != 1 {
					t.Errorf("got %d tables; want one", n)
				}
				st.wantHoles(0, "after the start")
			}
			_, stderr, status := s.ask("explain", before)
			if status != 1 || strings.Count(stderr, "\n") > 2 || !strings.Contains(stderr, "there is no session "+before) {
				t.Errorf("explain of a session of before: got exit status %d, %q; want 1", status, stderr)
			}

			st.serves()
			until(t, "two more transfers", func() bool { return s.status().Forwards[0].Transfers == 2 })
			s.interrupt()
			all := lines(t, s.transfers)
			if len(all) != 3 || all[0].Session != before || all[1].Session != all[2].Session {
				t.Errorf("got the transfers %+v; want one of before, and two of one session", all)
			}
		})
	}
}
