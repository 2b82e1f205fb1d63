package differential

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ftpgate/internal/e2e/differential/play"
	"ftpgate/internal/e2e/differential/script"
	"ftpgate/internal/e2e/harness"
	"ftpgate/internal/try/lab"
	"ftpgate/internal/try/lab/labtest"
)

// The second addresses of the two ends: of the client as it is, directly and behind the gateway, and of the
// server.
var (
	clientOther = netip.MustParseAddr("192.168.5.3")
	directOther = netip.MustParseAddr("203.0.113.3")
	serverOther = netip.MustParseAddr("203.0.113.22")
)

// lanes is how many pairs run at a time. Each lane has forwards of its own, so that the server knows which
// session a connection belongs to.
const lanes = 8

// testbed is a lab with one ftpgate, and a second lab without, where client and server have one link. There
// the client is where the gateway is in the first lab: the server sees the same address.
type testbed struct {
	*harness.Program
	free  chan lane
	bound time.Duration
}

// lane is the routes of one pair at a time, with IPv4 and with IPv6. Two of each are direct: a pair that
// differs from itself proves nothing.
type lane struct{ routes, routes6 []play.Route }

// The first two routes are direct.
const directRoutes = 2

func newTestbed(t *testing.T, bound time.Duration) *testbed {
	t.Helper()
	through, direct := labtest.New(t), labtest.New(t)
	harness.AddAddress(t, through.Client(), lab.ClientLink, clientOther.String()+"/24")
	harness.AddAddress(t, through.Server(), lab.ServerLink, serverOther.String()+"/24")
	harness.AddAddress(t, direct.Gateway(), lab.GatewayWANLink, directOther.String()+"/24")
	harness.AddAddress(t, direct.Server(), lab.ServerLink, serverOther.String()+"/24")
	for _, h := range []*lab.Host{through.Server(), direct.Server()} {
		// Thousands of connections leave port 20 within a minute: none may be in the way of a later one.
		if err := h.WriteSysctl("net.ipv4.tcp_max_tw_buckets", "0"); err != nil {
			t.Fatal(err)
		}
	}
	// Conntrack knows a connection that its receiver has reset for 10 s. It would lead one between the same
	// ports to where that one went: servers come from port 20, and the gateway's ports are drawn. One that
	// has ended in order it knows for two minutes, in which the ports of the clients come round again.
	for sysctl, seconds := range map[string]string{"close": "1", "time_wait": "10"} {
		if err := through.Gateway().WriteSysctl("net.netfilter.nf_conntrack_tcp_timeout_"+sysctl,
			seconds); err != nil {
			t.Fatal(err)
		}
	}
	s := &testbed{free: make(chan lane, lanes), bound: bound}
	h := hosts{through: through, direct: direct, directPorts: play.Ports{First: 10_000, Count: 22_000},
		throughPorts: map[string]*play.Ports{"kernel": {First: 10_000, Count: 11_000},
			"relay": {First: 21_000, Count: 11_000}}}
	var config strings.Builder
	config.WriteString("health = \"off\"\n") // the servers are scripted
	for i := range uint16(lanes) {
		var l lane
		l.routes = h.routes(&config, fmt.Sprint("-4-", i), i, lab.GatewayLAN4, lab.ServerAddr4)
		l.routes6 = h.routes(&config, fmt.Sprint("-6-", i), i, lab.GatewayLAN6, lab.ServerAddr6)
		s.free <- l
	}
	file := filepath.Join(harness.ShortDir(t), "ftpgate.toml")
	harness.OverwriteFile(t, file, config.String())
	s.Program = harness.Start(t, through.Gateway(), "run", "-c", file).AwaitReady()
	return s
}

// hosts are those of a testbed, and the ports on which its clients listen.
type hosts struct {
	through, direct *lab.Lab
	directPorts     play.Ports
	// throughPorts has other ports for each path: conntrack knows a connection of the kernel path for two
	// minutes, and would give one of the relay to the same port of the client another source port than 20.
	throughPorts map[string]*play.Ports
}

// routes returns the routes of one family in a lane, and appends what the gateway's configuration needs.
func (h *hosts) routes(config *strings.Builder, suffix string, lane uint16, gateway, server netip.Addr) (
	routes []play.Route) {
	for _, port := range []uint16{3000 + lane, 3100 + lane} {
		at := netip.AddrPortFrom(server, port)
		routes = append(routes, play.Route{Name: "direct", Client: h.direct.Gateway(),
			Server: h.direct.Server(), Dial: at, Listen: at, ClientOther: directOther,
			ServerOther: serverOther, ClientPorts: &h.directPorts})
	}
	for name, port := range map[string]uint16{"kernel": 2100 + lane, "relay": 2200 + lane} {
		r := play.Route{Name: name, Client: h.through.Client(), Server: h.through.Server(),
			Dial: netip.AddrPortFrom(gateway, port), Listen: netip.AddrPortFrom(server, port),
			ClientOther: clientOther, ServerOther: serverOther, ClientPorts: h.throughPorts[name]}
		routes = append(routes, r)
		fmt.Fprintf(config, "[[forward]]\nname = %q\nlisten = %q\nserver = %q\ndata = %q\n",
			name+suffix, r.Dial, r.Listen, name)
	}
	return routes
}

// within returns the same testbed with another bound.
func (s *testbed) within(bound time.Duration) *testbed {
	return &testbed{Program: s.Program, free: s.free, bound: bound}
}

// finding is what a pair shows.
type finding struct {
	invalid string                       // why the pair proves nothing
	direct  play.Record                  // what is right
	records map[string]play.Record       // of the gateway's routes
	differs map[string][]play.Difference // for each of the gateway's routes, where it differs
}

// try runs a pair over all routes at once.
func (s *testbed) try(t *testing.T, p script.Pair) finding {
	t.Helper()
	l := <-s.free
	defer func() { s.free <- l }()
	routes := l.routes
	if p.IPv6 {
		routes = l.routes6
	}
	records := make([]play.Record, len(routes))
	errs := make([]error, len(routes))
	var all sync.WaitGroup
	for i, r := range routes {
		all.Go(func() { records[i], errs[i] = play.Play(t.Context(), p, r, s.bound) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	f := finding{direct: records[0], records: map[string]play.Record{},
		differs: map[string][]play.Difference{}}
	switch {
	case f.direct.Failure != "":
		f.invalid = "fails directly: " + f.direct.Failure
	case !f.direct.Equal(records[1]):
		f.invalid = fmt.Sprintf("differs from itself directly: %v %s",
			play.Compare(records[0], records[1]), records[1].Failure)
	}
	for i, r := range routes[directRoutes:] {
		got := records[directRoutes+i]
		f.records[r.Name] = got
		if d := play.Compare(f.direct, got); len(d) > 0 {
			f.differs[r.Name] = d
		}
	}
	return f
}

// paths are the gateway's routes.
var paths = []string{"kernel", "relay"}

// String describes the difference.
func (f finding) String() string {
	if f.invalid != "" {
		return "invalid: " + f.invalid
	}
	var b strings.Builder
	for _, name := range paths {
		for _, d := range f.differs[name] {
			fmt.Fprintf(&b, "%s: %s\n", name, d)
		}
		if len(f.differs[name]) > 0 && f.records[name].Failure != "" {
			fmt.Fprintf(&b, "%s: broken off at %s\n", name, f.records[name].Failure)
		}
	}
	return b.String()
}
