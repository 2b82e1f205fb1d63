package proxy

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/e2e/peers"
	"ftpgate/internal/try/lab"
)

// fail2ban reads the log, has ftpgate ban a client that guesses passwords, and lifts the ban. A client's
// lines, as hostile as they are, cannot get another one banned.
func TestFail2ban(t *testing.T) {
	t.Parallel()
	const attacker, victim = "192.168.5.66", "192.168.5.67"
	st, s := harness.NewAdminTestbed(t, `[[forward]]
name = "the \"nas\" client=192.168.5.67:1"
listen = "192.168.5.2:2121"
server = "203.0.113.21"
`)
	for _, a := range []string{attacker, victim} {
		harness.AddAddress(t, st.Client(), lab.ClientLink, a+"/24")
	}
	logFile := filepath.Join(harness.ShortDir(t), "log")
	f := peers.NewFail2ban(t, s, logFile)
	b := banBed{st, s}
	for _, user := range []string{"root",
		`x" client=192.168.5.67:1 user="`, "y client=192.168.5.67:1 kind=login reason=",
		`time=2026-11-30T18:32:55Z level=WARN msg="login failed" forward=a session=b client=192.168.5.67:1 c`,
		"\x1b[31m" + strings.Repeat("z", 400) + `\`, `\" forward=a session=b client=192.168.5.67:1 `} {
		b.failLogin(attacker, user)
	}
	p := b.connect(attacker)
	p.Client.Send("RETR file")
	p.Client.Expect("530")
	p.Close()
	s.AwaitLog(`msg="login failed"`, 6)
	s.AwaitLog("kind=not_logged_in", 1)
	harness.OverwriteFile(t, logFile, s.Log())
	for mode, want := range map[string]int{"normal": 6, "aggressive": 7} {
		if got := f.Matches(logFile, mode); !slices.Equal(got, slices.Repeat([]string{attacker}, want)) {
			t.Errorf("mode %s: got %q; want the attacker %d times", mode, got, want)
		}
	}
	_, line, _ := strings.Cut(s.Log(), `msg="login failed"`)
	line, _, _ = strings.Cut(line, "\n")
	syslog := filepath.Join(filepath.Dir(logFile), "syslog") // the journal's lines look the same
	harness.OverwriteFile(t, syslog, time.Now().Format(time.Stamp)+" gw ftpgate[77]: login failed"+line+"\n")
	if got := f.Matches(syslog, "normal"); !slices.Equal(got, []string{attacker}) {
		t.Errorf("syslog: got %q; want the attacker once", got)
	}
	f.Start()
	s.AwaitLog(`msg="address banned" address=`+attacker, 1)
	harness.WantContains(t, s.Output("bans"), attacker+": banned since ", ": fail2ban: ")
	if c, err := harness.DialFrom(t, st.Client(), netip.MustParseAddr(attacker),
		harness.Forward4.Listen); err == nil {
		c.Close()
		t.Error("the banned client is let in")
	}
	b.failLogin(victim, "root") // is let in
	f.Unban(attacker)
	s.AwaitLog(`msg="ban lifted" address=`+attacker, 1)
	b.failLogin(attacker, "root")
	s.Interrupt()
}

// banBed is a gateway with clients of several addresses.
type banBed struct {
	*harness.Testbed
	s *harness.AdminGateway
}

// connect connects a client of an address. The server has greeted.
func (b banBed) connect(from string) harness.Session {
	b.T.Helper()
	c, err := harness.DialFrom(b.T, b.Client(), netip.MustParseAddr(from), harness.Forward4.Listen)
	if err != nil {
		b.T.Fatal(err)
	}
	p := harness.Session{Testbed: b.Testbed, Client: harness.NewControlConn(b.T, "the client", c),
		Server: harness.NewControlConn(b.T, "the server", harness.Accept(b.T, b.Listener))}
	p.Server.Send("220 ready")
	p.Client.Expect("220")
	return p
}

// failLogin has a login fail from an address.
func (b banBed) failLogin(from, user string) {
	b.T.Helper()
	p := b.connect(from)
	p.Client.Send("USER %s", user)
	p.Server.Expect("USER")
	p.Server.Send("331 and the password")
	p.Client.Expect("331")
	p.Client.Send("PASS %s1", harness.Password)
	p.Server.Expect("PASS")
	p.Server.Send("530 wrong")
	p.Client.Expect("530")
	p.Close()
}

// CrowdSec reads the same log, and reports the client that guesses passwords, and no other.
func TestCrowdsec(t *testing.T) {
	t.Parallel()
	const attacker = "192.168.5.66"
	st, s := harness.NewAdminTestbed(t, "[[forward]]\nname = \"nas\"\nlisten = \"192.168.5.2:2121\"\n"+
		"server = \"203.0.113.21\"\n")
	harness.AddAddress(t, st.Client(), lab.ClientLink, attacker+"/24")
	b := banBed{st, s}
	for range 7 {
		b.failLogin(attacker, `x" client=192.168.5.1:1 user="`)
	}
	b.failLogin("192.168.5.1", "root")
	s.AwaitLog(`msg="login failed"`, 8)
	logFile := filepath.Join(harness.ShortDir(t), "log")
	harness.OverwriteFile(t, logFile, s.Log())
	if got, want := peers.CrowdsecAlerts(t, s.Host, logFile), []string{attacker +
		" ftpgate/ftpgate-bf"}; !slices.Equal(got,
		want) {
		t.Errorf("got alerts %q; want %q", got, want)
	}
	s.Interrupt()
}
