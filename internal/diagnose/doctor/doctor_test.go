package doctor

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/control/tlskeys"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/diagnose/facts"
	"ftpgate/internal/kernel/system"
)

type Facts = facts.Facts

var (
	server4 = netip.MustParseAddr("203.0.113.21")
	server6 = netip.MustParseAddr("2001:db8:113::21")
	lan4    = netip.MustParseAddr("192.168.5.2")
	wan4    = netip.MustParseAddr("203.0.113.1")
	clients = netip.MustParsePrefix("192.168.5.0/24")
	client  = netip.MustParseAddr("192.168.5.1")
)

func link(name string, mtu int, addr string) system.Link {
	return system.Link{Name: name, MTU: mtu, Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix(addr)}}
}

// sound is a host on which nothing is in the way of a forward.
func sound() Facts {
	f := Facts{
		Now:    time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
		Rights: &system.Rights{Administer: true, BindLow: true, OpenFiles: 524288},
		Links: []system.Link{link("lo", 65536, "127.0.0.1/8"), link("lan0", 1500, "192.168.5.2/24"),
			link("wan0.7", 1500, "203.0.113.1/24")},
		Sysctls: map[string]string{},
		Routes: map[netip.Addr]system.Route{
			server4: {Interface: "wan0.7", Source: wan4, MTU: 1500},
			server6: {Interface: "wan0.7", MTU: 1500},
			client:  {Interface: "lan0", Source: lan4, MTU: 1500},
		},
		Listeners: []system.Listener{},
	}
	for _, name := range facts.Modules() {
		f.Modules = append(f.Modules, system.Module{Name: name, State: system.ModulePresent})
	}
	for name, value := range map[string]string{
		facts.SysctlForward4: "1", facts.SysctlForward6: "1", facts.SysctlCount: "100",
		facts.SysctlMax:       "262144",
		facts.SysctlExpectMax: "4096",
		facts.SysctlAcct:      "1", facts.SysctlEvents: "2", facts.SysctlEstablished: "432000",
		facts.SysctlLowest:            "1024",
		"net.ipv4.conf.all.rp_filter": "0", "net.ipv4.conf.lan0.rp_filter": "0",
		"net.ipv4.conf.wan0/7.rp_filter": "0",
		"net.ipv4.conf.lan0.forwarding":  "1", "net.ipv4.conf.wan0/7.forwarding": "1",
	} {
		f.Sysctls[name] = value
	}
	return f
}

func testForward(tracking forward.Tracking) forward.Resolved {
	return forward.Resolved{Server4: server4, Forward: forward.Forward{
		Name: "archive", Tracking: tracking, Listen: forward.Listen{Addr: lan4, Port: 2121},
		Server: forward.Server{Host: server4.String(), Port: 21}, Clients: []netip.Prefix{clients},
	}}
}

// bad returns what is worse than good to know.
func bad(findings []finding.Finding) []finding.Finding {
	return slices.DeleteFunc(slices.Clone(findings),
		func(f finding.Finding) bool { return f.Severity == finding.OK || f.Severity == finding.Info })
}

func TestSound(t *testing.T) {
	for _, tracking := range []forward.Tracking{forward.TrackingProxy, forward.TrackingKernel,
		forward.TrackingNone} {
		findings := Examine(sound(), []forward.Resolved{testForward(tracking)})
		if got := finding.Worst(findings); got != finding.OK {
			t.Errorf("%s: got %+v; want nothing but ok", tracking, findings)
		}
		for _, code := range []string{CodeRights, CodeModules, CodeTable, CodeRoute, CodeForwarding} {
			if !slices.ContainsFunc(findings,
				func(f finding.Finding) bool { return f.Code == code && f.Severity == finding.OK }) {
				t.Errorf("%s: there is no finding of %s", tracking, code)
			}
		}
	}
	if got := Examine(Facts{}, nil); len(got) > 0 || finding.Worst(got) != finding.OK {
		t.Errorf("nothing known, no forward: got %+v; want nothing", got)
	}
}

// A fact that is not known is not checked: a host without facts has no faults.
func TestNothingRead(t *testing.T) {
	facts := Facts{Expectations: -1, Unread: []system.Unread{{What: "the routes", Why: "permission denied"}}}
	got := Examine(facts, []forward.Resolved{testForward(forward.TrackingProxy),
		testForward(forward.TrackingKernel), testForward(forward.TrackingNone)})
	want := []finding.Finding{{Code: CodeUnread, Severity: finding.Info,
		Text: "the routes could not be read: permission denied", Remedy: "run ftpgate doctor as root"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v; want %+v", got, want)
	}
}

// provoked is a host and a forward with one cause, and the finding that it must have.
type provoked struct {
	name     string
	tracking forward.Tracking
	change   func(*Facts, *forward.Resolved)
	code     string
	level    finding.Severity
	text     string // a part of it
	remedy   string // a part of it
}

func sysctl(name, value string) func(*Facts, *forward.Resolved) {
	return func(f *Facts, _ *forward.Resolved) { f.Sysctls[name] = value }
}

func relayed(_ *Facts, r *forward.Resolved) { r.Data = forward.DataRelay }

// both applies several changes.
func both(changes ...func(*Facts, *forward.Resolved)) func(*Facts, *forward.Resolved) {
	return func(f *Facts, r *forward.Resolved) {
		for _, c := range changes {
			c(f, r)
		}
	}
}

func (p provoked) check(t *testing.T) {
	facts, r := sound(), testForward(p.tracking)
	p.change(&facts, &r)
	got := Examine(facts, []forward.Resolved{r})
	if !slices.ContainsFunc(got, func(f finding.Finding) bool {
		return f.Code == p.code && f.Severity == p.level && strings.Contains(f.Text, p.text) &&
			strings.Contains(f.Remedy, p.remedy)
	}) {
		t.Errorf("got %+v\nwant %s %s %q %q", bad(got), p.level, p.code, p.text, p.remedy)
	}
	for _, f := range bad(got) { // one cause, one finding
		if f.Code != p.code {
			t.Errorf("got %+v, too", f)
		}
		if f.Remedy == "" || f.Text == "" || strings.HasSuffix(f.Text, ".") ||
			strings.Contains(f.Text, "%!") {
			t.Errorf("got %+v; want a sentence without its full stop, and a remedy", f)
		}
	}
}

func run(t *testing.T, tests []provoked) {
	for _, p := range tests {
		t.Run(p.name, p.check)
	}
}

func TestExpiry(t *testing.T) {
	facts := sound()
	facts.Expiries = []tlskeys.Expiry{
		{Forwards: []string{"archive"}, File: "/a.pem", NotAfter: facts.Now.Add(100 * 24 * time.Hour)},
		{Forwards: []string{"archive"}, File: "/b.pem", NotAfter: facts.Now.Add(10 * 24 * time.Hour)},
	}
	facts.TLS = []finding.Finding{{Forward: "archive", Key: "tls.client_cert", Severity: finding.Warning,
		Remedy: "renew",
		Text:   "the certificate in /b.pem expires on 2030-01-11, in 10 days"}}
	got := Examine(facts, []forward.Resolved{testForward(forward.TrackingProxy)})
	valid := slices.DeleteFunc(slices.Clone(got), func(f finding.Finding) bool { return f.Code != CodeValid })
	want := []finding.Finding{{Code: CodeValid, Severity: finding.OK, Forward: "archive",
		Text: "the certificate in /a.pem is good until 2030-04-11, for 100 days more"}}
	if !slices.Equal(valid, want) || len(bad(got)) != 1 {
		t.Errorf("got %+v, and %+v; want %+v, and one warning", valid, bad(got), want)
	}
}

// Every code is snake_case and no two are the same; the JSON has the names that are documented.
func TestJSON(t *testing.T) {
	b, err := json.Marshal(finding.Finding{Code: CodeTable, Severity: finding.Warning, Forward: "archive",
		Text: "text", Remedy: "remedy"})
	want := `{"code":"conntrack_table","level":"warning","forward":"archive","text":"text","remedy":"remedy"}`
	if err != nil || string(b) != want {
		t.Errorf("got %s, %v; want %s", b, err, want)
	}
	b, err = json.Marshal(finding.Finding{Code: CodeTable, Severity: finding.OK, Text: "text"})
	if want = `{"code":"conntrack_table","level":"ok","text":"text"}`; err != nil || string(b) != want {
		t.Errorf("got %s, %v; want %s", b, err, want)
	}
}

func TestDestinations(t *testing.T) {
	f := testForward(forward.TrackingProxy)
	f.Servers, f.Clients = []netip.Addr{server4, server6},
		append(f.Clients, netip.MustParsePrefix("10.0.0.7/32"))
	want := []netip.Addr{netip.MustParseAddr("10.0.0.7"), client, server4, server6}
	if got := facts.Destinations([]forward.Resolved{f, f}); !slices.Equal(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
}
