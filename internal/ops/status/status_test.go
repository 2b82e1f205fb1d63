package status

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/control/tlskeys"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/verdict"
	"ftpgate/internal/gateway/bans"
	"ftpgate/internal/gateway/repair"
	"ftpgate/internal/observe/health"
	"ftpgate/internal/observe/sessions"
	"ftpgate/internal/ops/admin"
)

var _ admin.Source = (*Source)(nil)

// published is a gateway with these forwards.
type published []forward.Resolved

func (p published) Forwards() []forward.Resolved { return p }
func (p published) Installed() bool              { return len(p) > 0 }

func newSource(forwards ...forward.Resolved) *Source {
	return &Source{Version: "v1", Table: "ftpgate", Started: time.Now(), Gateway: published(forwards),
		SessionLog: sessions.New(time.Now()), Expiries: func() []tlskeys.Expiry { return nil },
		Keeper:  bans.New(bans.Config{}),
		Repairs: func() repair.State { return repair.State{} },
		Health:  func(string) health.State { return health.State{} }}
}

func archive() forward.Resolved {
	f := forward.Resolved{Server4: netip.MustParseAddr("203.0.113.21")}
	f.Name, f.Tracking = "archive", forward.TrackingProxy
	f.Listen.Port, f.Server.Host, f.Server.Port = 2121, "ftp.example.com", 21
	return f
}

func begin(s *Source, name string) *sessions.Record {
	return s.SessionLog.Begin(sessions.Start{Forward: name, Tracking: forward.TrackingProxy,
		Client: netip.MustParseAddrPort("192.168.5.1:3000")})
}

func TestForwards(t *testing.T) {
	nowhere := archive()
	nowhere.Name, nowhere.Server4 = "nowhere", netip.Addr{}
	untracked := archive()
	untracked.Name, untracked.Tracking = "untracked", forward.TrackingNone
	s := newSource(archive(), nowhere, untracked)
	s.SetKernel(true, nil)
	begin(s, "archive")
	got := s.Status().Forwards
	if len(got) != 3 {
		t.Fatalf("got %d forwards; want 3", len(got))
	}
	if text, err := json.Marshal(got[2]); err != nil || strings.Contains(string(text), "session") {
		t.Errorf("got %s, error %v; want nothing of the sessions of tracking none", text, err)
	}
	one, two := got[0], got[1]
	if one.Name != "archive" || one.Sessions != 1 || one.Clients != 1 || one.Total != 1 ||
		one.Problem != "" || one.DataPath != "kernel" ||
		one.Server != "ftp.example.com:21" {
		t.Errorf("got %+v; want one session of one client, over the kernel", one)
	}
	if two.Sessions != 0 || two.Problem != "the server's name has no address" {
		t.Errorf("got %+v; want no session, and the problem", two)
	}
}

// A forward has what the checks of its server found; a server that does not answer is a problem.
func TestHealth(t *testing.T) {
	other := archive()
	other.Name = "other"
	unknown := archive()
	unknown.Name = "unknown"
	s := newSource(archive(), other, unknown)
	since := time.Date(2026, 11, 30, 9, 30, 0, 0, time.Local)
	s.Health = func(name string) health.State {
		return map[string]health.State{
			"archive": {Checked: since.Add(time.Minute), Answers: true, Since: since},
			"other":   {Checked: since.Add(time.Minute), Since: since, Why: "refused", Remedy: "start it"},
		}[name]
	}
	got := s.Status().Forwards
	want := admin.Health{Answers: true, Since: since, Checked: since.Add(time.Minute)}
	if h := got[0].Health; h == nil || *h != want || got[0].Problem != "" {
		t.Errorf("got %+v, problem %q; want %+v and none", h, got[0].Problem, want)
	}
	want.Answers, want.Why, want.Remedy = false, "refused", "start it"
	const problem = "the server has not answered since 2026-11-30 09:30:00: refused"
	if h := got[1].Health; h == nil || *h != want || got[1].Problem != problem {
		t.Errorf("got %+v, problem %q; want %+v and %q", h, got[1].Problem, want, problem)
	}
	if h := got[2].Health; h != nil || got[2].Problem != "" {
		t.Errorf("got %+v, problem %q before the first check; want neither", h, got[2].Problem)
	}
}

func TestKernel(t *testing.T) {
	s := newSource(archive())
	s.SetKernel(false, []finding.Finding{{Text: "no nftables", Remedy: "get one"}})
	got := s.Status()
	want := []string{"ftpgate carries all data connections itself", "no nftables: get one"}
	if !slices.Equal(got.Capabilities, want) || got.Table != "" || got.Forwards[0].DataPath != "relay" {
		t.Errorf("got %+v; want %q, no table, and the relay", got, want)
	}
	s.SetKernel(true, nil)
	want = []string{"the kernel may carry data connections"}
	if got := s.Status(); !slices.Equal(got.Capabilities, want) || got.Table != "inet ftpgate" {
		t.Errorf("got %+v; want %q, and the table", got, want)
	}
	s.Gateway = published(nil)
	if got := s.Status(); got.Table != "" {
		t.Errorf("got table %q without forwards; want none", got.Table)
	}
}

// What other programs did to the table is shown, and whether it still is as it should be.
func TestTableWarnings(t *testing.T) {
	s := newSource(archive())
	if got := s.Status().Warnings; len(got) > 0 {
		t.Errorf("got warnings %q; want none", got)
	}
	last := time.Date(2026, 11, 30, 9, 30, 0, 0, time.UTC)
	s.Repairs = func() repair.State {
		return repair.State{Repairs: 2, Last: last, By: "nft (pid 7)", Differences: []string{"chain a"},
			Err: repair.ErrFight}
	}
	want := []string{
		"the table differs from what is wanted (chain a): " + repair.ErrFight.Error(),
		"2 repairs of the table since the start, the last at 2026-11-30 09:30:00: nft (pid 7) had removed " +
			"rules",
	}
	if got := s.Status().Warnings; !slices.Equal(got, want) {
		t.Errorf("got warnings %q; want %q", got, want)
	}
}

func TestReload(t *testing.T) {
	s := newSource()
	if got := s.Status().Reload; got != nil {
		t.Errorf("got %+v before the first reload; want nil", got)
	}
	at := time.Now()
	s.SetReload(at, errors.New("unsound"))
	if got, want := *s.Status().Reload, (admin.Reload{At: at, Error: "unsound"}); got != want {
		t.Errorf("got %+v; want %+v", got, want)
	}
	s.SetReload(at, nil, "[admin]")
	if got := s.Status().Warnings; !slices.Equal(got, []string{"a change of [admin] waits for a restart"}) {
		t.Errorf("got warnings %q; want that [admin] waits", got)
	}
	s.SetReload(at, nil)
	if got := s.Status().Warnings; len(got) > 0 {
		t.Errorf("got warnings %q; want none", got)
	}
	if got, want := *s.Status().Reload, (admin.Reload{At: at, OK: true}); got != want {
		t.Errorf("got %+v; want %+v", got, want)
	}
	s.RequestReload = func(ctx context.Context) error { return context.Cause(ctx) }
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Reload(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v; want the error of the reloader", err)
	}
}

func TestCertificates(t *testing.T) {
	now := time.Now()
	s := newSource()
	s.Expiries = func() []tlskeys.Expiry {
		return []tlskeys.Expiry{
			{Forwards: []string{"a", "b"}, File: "gone.pem", NotAfter: now.Add(-time.Hour)},
			{Forwards: []string{"c"}, File: "soon.pem", Subject: "CN=gw", NotAfter: now.AddDate(0, 0, 10)},
			{Forwards: []string{"d"}, File: "good.pem", NotAfter: now.AddDate(1, 0, 0)},
		}
	}
	var got []string
	for _, c := range s.certificates(now) {
		got = append(got, c.Forward+" "+c.File+" "+c.Subject+" "+c.Warning)
	}
	want := []string{
		"a gone.pem  has expired",
		"b gone.pem  has expired",
		"c soon.pem CN=gw expires soon",
		"d good.pem  ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q; want %q", got, want)
	}
}

func TestKill(t *testing.T) {
	s := newSource(archive())
	killed := begin(s, "archive")
	ends := false
	killed.OnKill(func() { ends = true })
	if err := s.Kill(killed.ID()); err != nil || !ends {
		t.Errorf("got ended %t, error %v; want it ended", ends, err)
	}
	killed.Ended("")
	kernel := begin(s, "archive") // the kernel's: nothing can end it
	for id, want := range map[string]struct {
		kind error
		text string
	}{
		killed.ID(): {admin.ErrNotNow, "session " + killed.ID() + " has ended already"},
		kernel.ID(): {admin.ErrNotNow, "session " + kernel.ID() +
			" is tracked by the kernel, which keeps its connections"},
		"x-1": {admin.ErrNoSession, admin.ErrNoSession.Error()},
	} {
		if err := s.Kill(id); !errors.Is(err, want.kind) || !strings.HasPrefix(err.Error(), want.text) {
			t.Errorf("kill %s: got %v; want %q", id, err, want.text)
		}
	}
	if n := len(slices.Collect(s.Sessions(true))); n != 1 {
		t.Errorf("got %d ended sessions; want 1", n)
	}
	if _, known := s.Explain(kernel.ID()); !known {
		t.Errorf("session %s is not explained", kernel.ID())
	}
}

// If a filter of the gateway is what went wrong, explain names it.
func TestExplainNamesFilter(t *testing.T) {
	s := newSource(archive())
	remedy := "chain forward refuses"
	s.FilterRemedy = func(server string) string {
		if server != "203.0.113.21" {
			t.Errorf("got asked for %s; want the session's server", server)
		}
		return remedy
	}
	for _, code := range []verdict.Code{verdict.CodeGatewayFilter, verdict.CodeClientLeft} {
		r := begin(s, "archive")
		r.Connected(netip.MustParseAddrPort("203.0.113.21:21"), 0)
		r.Refuse(verdict.Fault{Code: code})
	}
	if e, _ := s.Explain("2"); e.Verdict.Remedy == remedy {
		t.Errorf("got the filter as the remedy for %s", e.Verdict.Code)
	}
	if e, _ := s.Explain("1"); e.Verdict.Remedy != remedy {
		t.Errorf("got remedy %q; want %q", e.Verdict.Remedy, remedy)
	}
	remedy = ""
	if e, _ := s.Explain("1"); !strings.Contains(e.Verdict.Remedy, "ct status dnat accept") {
		t.Errorf("without a filter that is known got remedy %q; want the general one", e.Verdict.Remedy)
	}
	if _, known := s.Explain("3"); known {
		t.Error("got a session that was never begun")
	}
}
