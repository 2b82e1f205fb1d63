package proxy

import (
	"net/netip"
	"strings"
	"testing"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
)

// Without a table, ftpgate itself refuses a banned client, and says so. The ban outlives a stop.
func TestBanByRelay(t *testing.T) {
	t.Parallel()
	const attacker = "192.168.5.66"
	st, s := harness.NewAdminTestbed(t, "[[forward]]\nname = \"main\"\nlisten = \"192.168.5.2:2121\"\n"+
		"server = \"203.0.113.21\"\ndata = \"relay\"\n")
	harness.AddAddress(t, st.Client(), lab.ClientLink, attacker+"/24")
	b := banBed{st, s}
	running := b.connect(attacker)
	running.Exchange("USER alice", "331 and the password")
	running.Exchange("PASS "+harness.Password, "230 welcome")
	transfer := running.Retrieve(netip.Addr{})
	other := b.connect("192.168.5.1")
	harness.WantContains(t, s.Output("ban", "192.168.5.64/28", "--reason", "try it"), "1 session ended")
	if got := running.Client.ExpectClose(); !strings.Contains(got, "421 your address is banned") {
		t.Errorf("got %q; want the reason", got)
	}
	harness.WantBroken(t, "the client", transfer.ClientData)
	harness.WantContains(t, s.Output("explain", b.sessionOf(attacker)), "192.168.5.66 is banned")
	b.wantBanned(attacker)
	other.Exchange("USER alice", "331 and the password")
	other.Close()
	if rules := harness.Ruleset(t, s.Host); strings.Contains(rules, "banned4") {
		t.Errorf("got a table for the relay alone:\n%s", rules)
	}
	harness.WantContains(t, s.Output("status"), "1 ban, and 0 by deny in the file")
	harness.WantContains(t, harness.Shell(t, s.Host, "curl -s http://%s/metrics", harness.MetricsAddress),
		`ftpgate_refusals_total{forward="main",reason="banned"} 1`, `ftpgate_banned{by="ban"} 1`)
	s.Interrupt()
	s.Start(t)
	b.wantBanned(attacker)
	s.Output("unban", "192.168.5.64/28")
	b.connect(attacker).Close()
	s.Interrupt()
}

// sessionOf returns the last session of a client.
func (b banBed) sessionOf(client string) string {
	b.T.Helper()
	all := b.s.Sessions("--ended")
	for i := len(all) - 1; i >= 0; i-- {
		if strings.HasPrefix(all[i].Client, client+":") {
			return all[i].ID
		}
	}
	b.T.Fatalf("got no session of %s", client)
	return ""
}

// wantBanned expects that ftpgate sends a client away.
func (b banBed) wantBanned(client string) {
	b.T.Helper()
	c, err := harness.DialFrom(b.T, b.Client(), netip.MustParseAddr(client), harness.Forward4.Listen)
	if err != nil {
		b.T.Fatal(err)
	}
	conn := harness.NewControlConn(b.T, "the banned client", c)
	conn.Expect("421 your address is banned")
	conn.ExpectClose()
	harness.WantContains(b.T, b.s.Output("explain", b.sessionOf(client)), client+" is banned")
}
