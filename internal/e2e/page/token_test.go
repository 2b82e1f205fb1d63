package page

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ftpgate/internal/core/ban"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/observe/sessions"
	"ftpgate/internal/ops/admin"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// crowd is a source of the admin API with very many sessions, which remembers what it was asked to change.
type crowd struct {
	running, ended []sessions.Session
	began          time.Time

	mu      sync.Mutex
	changes []string
	bans    []ban.Ban
}

const crowded = 5000

func newCrowd() *crowd {
	c := &crowd{began: time.Now().Add(-26 * time.Hour)}
	for i := range crowded {
		s := sessions.Session{ID: fmt.Sprintf("c-%d", i), Forward: fmt.Sprintf("archive %d", i%120),
			Tracking: "proxy",
			Client:   netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), 40000),
			Gateway:  netip.MustParseAddrPort("192.168.5.2:2121"),
			Server:   netip.MustParseAddrPort("203.0.113.21:21"),
			User:     fmt.Sprintf("user%d", i), Since: c.began.Add(time.Duration(i) * 15 * time.Second),
			Active: time.Now(), State: sessions.StateIdle, Mode: "EPSV", Path: "kernel",
			TLS:    sessions.TLS{Client: "TLS 1.3"},
			Totals: sessions.Totals{Transfers: i % 70, Down: int64(i) * 1_234_567, Up: int64(i%9) * 77_000},
			Verdict: verdict.Verdict{Code: verdict.CodeFine,
				Text: "nothing went wrong: all transfers were complete"}}
		c.running = append(c.running, s)
		if i < 1000 {
			s.ID, s.State, s.Ended = fmt.Sprintf("e-%d", i), sessions.StateEnded, s.Since.Add(time.Minute)
			c.ended = append(c.ended, s)
		}
	}
	return c
}

func (c *crowd) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes = append(c.changes, fmt.Sprintf(format, args...))
}

func (c *crowd) Status() admin.Status {
	st := admin.Status{Version: "9.9", PID: 4711, Since: c.began, File: "/etc/ftpgate/ftpgate.toml"}
	for i := range 120 {
		st.Forwards = append(st.Forwards, admin.Forward{Name: fmt.Sprintf("archive %d", i), Listen: ":2121",
			Server: "203.0.113.21:21", Tracking: "proxy", DataPath: "kernel", FTPS: "terminated",
			Counts: &admin.Counts{Sessions: 41},
			Health: &admin.Health{Answers: true, Since: c.began, Checked: time.Now()}})
	}
	return st
}

func (c *crowd) Sessions(ended bool) iter.Seq[sessions.Session] {
	if ended {
		return slices.Values(c.ended)
	}
	return slices.Values(c.running)
}

func (c *crowd) Explain(id string) (sessions.Explained, bool) {
	at := slices.IndexFunc(c.running, func(s sessions.Session) bool { return s.ID == id })
	if at < 0 {
		return sessions.Explained{}, false
	}
	return sessions.Explained{Session: c.running[at], Events: []sessions.Event{
		{At: c.running[at].Since, Kind: sessions.KindSession, Text: "connected"}}}, true
}

func (c *crowd) Kill(id string) error { c.note("kill %s", id); return nil }

func (c *crowd) Bans() admin.Bans {
	c.mu.Lock()
	defer c.mu.Unlock()
	return admin.Bans{Bans: slices.Clone(c.bans), Denied: 1312}
}

func (c *crowd) Ban(b admin.BanRequest) (admin.Banned, error) {
	if b.Prefix.Addr().IsLoopback() {
		return admin.Banned{}, fmt.Errorf("%s %w: it is this host itself", b.Prefix, ban.ErrUnfit)
	}
	c.note("ban %s for %s: %s", b.Prefix, b.For, b.Reason)
	c.mu.Lock()
	defer c.mu.Unlock()
	one := ban.Ban{Prefix: b.Prefix, Since: time.Now(), Until: time.Now().Add(b.For), Reason: b.Reason}
	c.bans = append(c.bans, one)
	return admin.Banned{Ban: one, Ended: 1}, nil
}

func (c *crowd) Unban(p netip.Prefix) (admin.Unbanned, error) {
	c.note("unban %s", p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bans = slices.DeleteFunc(c.bans, func(b ban.Ban) bool { return b.Prefix == p })
	return admin.Unbanned{Prefix: p}, nil
}

func (c *crowd) Doctor(context.Context) (admin.Findings, error) {
	return admin.Findings{At: time.Now(), Findings: []finding.Finding{
		{Code: "ip_forward", Severity: finding.Fault, Text: "IP forwarding is off",
			Remedy: "sysctl -w net.ipv4.ip_forward=1"},
		{Code: "input_refused", Severity: finding.Warning, Forward: "archive 7",
			Text:   "chain INPUT of table ip filter refuses port 2121",
			Remedy: "iptables -I INPUT -p tcp --dport 2121 -j ACCEPT"},
		{Code: "capabilities", Severity: finding.OK, Text: "ftpgate may change the network"}}}, nil
}

func (c *crowd) Reload(context.Context) error { return errors.New("nobody asks for it") }

// serveCrowd answers the API with a token, on a host's loopback.
func serveCrowd(t *testing.T, h *lab.Host, c *crowd, token string) {
	t.Helper()
	at := netip.MustParseAddrPort(harness.MetricsAddress)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	o := admin.Options{Listen: forward.Listen{Addr: at.Addr(), Port: at.Port()},
		TokenFile: file}
	var server *admin.Server
	if err := h.Do(func() (err error) {
		server, err = admin.Listen(o)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, c, nil, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// wantChange waits until the source was asked to change something.
func (c *crowd) wantChange(t *testing.T, want string) {
	t.Helper()
	harness.Await(t, want, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return slices.Contains(c.changes, want)
	})
}

// TestToken: with a token the page shows five thousand sessions, and ends sessions and bans clients once that
// is confirmed. Without it, it shows nothing.
func TestToken(t *testing.T) {
	photos(t)
	const token = "a-token-of-thirty-two-characters"
	l := labtest.New(t)
	c := newCrowd()
	serveCrowd(t, l.Gateway(), c, token)
	b := startBrowser(t, l.Gateway())
	b.dark(false)
	b.load(address)
	b.await("the page asks for a token", `document.activeElement.id === "token"`)
	if b.holds(`document.querySelector("#page").checkVisibility()`) {
		t.Error("without a token: got the page; want nothing but the question")
	}
	b.wantNoFaults() // it has not tried without a token
	b.photo("token", false)
	b.write("wrong-wrong-wrong-wrong")
	b.press("Enter")
	b.await("a wrong token", `document.querySelector("#refusal").innerText.includes("does not accept")`)
	b.wantNoFaults("401")
	b.write(token)
	b.press("Enter")
	b.await("the page", `document.querySelector("#state").innerText === "Live"`)
	testCrowd(t, b)
	testChanges(t, b, c)

	var kept string
	b.eval(`JSON.stringify([location.href, document.cookie, {...localStorage}, {...sessionStorage},
		document.querySelector("#token").value, performance.getEntries().map((e) => e.name)])`, &kept)
	if strings.Contains(kept, token) {
		t.Errorf("got the token in %s; want it in memory only", kept)
	}
	b.click("#lock")
	b.await("the page asks again", `document.activeElement.id === "token"`)
	b.wantNoFaults("400") // of the ban that was refused
}

// testCrowd: the page has few of the rows, and finds every session.
func testCrowd(t *testing.T, b *browser) {
	t.Helper()
	b.await("all sessions are counted", `document.querySelector("#running-count").innerText === "5,000"`)
	b.wantText("#sessions-count", "The first 50 of 5,000 sessions.")
	b.photo("crowd", true)
	b.click("#more")
	b.await("more rows", `document.querySelectorAll("#running tbody tr").length === 100`)
	b.click("#running thead th:nth-child(8) button") // Down
	b.await("the largest first", `document.querySelector("#running tbody tr").innerText.includes("user4999")`)
	b.click("#search")
	b.write("10.9.4.210 archive")
	b.await("one is found",
		`document.querySelector("#sessions-count").innerText === "1 found of 5,000 sessions."`)
	b.wantText("#forwards-count", "20 more forwards not shown.")
}

// testChanges: nothing changes without a confirmation.
func testChanges(t *testing.T, b *browser, c *crowd) {
	t.Helper()
	b.click("#running tbody button")
	b.await("the session", `document.querySelector("#kill").checkVisibility()`)
	b.click("#kill")
	b.await("the question",
		`document.querySelector("#confirm").open && document.activeElement.id === "cancel"`)
	b.photo("confirm", false)
	b.press("Enter")
	b.await("no change", `!document.querySelector("#confirm").open`)
	b.click("#kill")
	b.click("#yes")
	b.await("it says so", `document.querySelector("#said").innerText.includes("is ended")`)
	c.wantChange(t, "kill c-1234")

	b.click("#ban")
	b.await("the question", `document.querySelector("#ban-address").value === "10.9.4.210"`)
	b.click("#ban-reason")
	b.write("<b>scans</b> & more")
	b.photo("ban", false)
	b.click("#yes")
	c.wantChange(t, "ban 10.9.4.210/32 for 1h0m0s: <b>scans</b> & more")
	b.await("it says so", `document.querySelector("#said").innerText.includes("10.9.4.210 is banned")`)
	b.await("the list of bans", `document.querySelector("#bans").innerText.includes("<b>scans</b> & more")`)

	b.click("#ban")
	b.click("#ban-address")
	b.eval(`document.querySelector("#ban-address").value = "127.0.0.1"`, nil)
	b.click("#yes")
	b.await("the reason why not", `document.querySelector("#said").innerText.includes("this host itself")`)
	b.press("Escape")
	b.click("#bans tbody button")
	b.click("#yes")
	c.wantChange(t, "unban 10.9.4.210/32")
	b.await("an empty list", `document.querySelector("#bans-count").innerText.includes("Nobody is banned")`)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.changes) != 3 {
		t.Errorf("got the changes %q; want three", c.changes)
	}
}
