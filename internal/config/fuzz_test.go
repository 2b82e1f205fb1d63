package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"ftpgate/internal/core/ban"
	"ftpgate/internal/core/forward"
)

// FuzzParse: no text crashes Parse. go-toml's own decoder and forward.Check accept a sound text, too. The
// faults of an unsound text have places in it, in order, and one line each.
func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(paths) == 0 {
		f.Fatalf("got %d files, error %v; want seeds", len(paths), err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(reference))
	for _, form := range sectionForms() {
		f.Add([]byte(form))
	}
	for _, form := range tlsForms(f) {
		f.Add([]byte(form))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parse("f.toml", bytes.NewReader(text))
		if err == nil {
			checkSound(t, c, text)
			return
		}
		var faults Faults
		if !errors.As(err, &faults) || len(faults) == 0 || c != nil {
			t.Fatalf("got %+v, error %#v; want Faults alone", c, err)
		}
		checkFaults(t, faults, text)
	})
}

// The tables of a file, as go-toml reads them.
type (
	rawAdmin struct {
		Socket, Group *string
		Listen        string
		TokenFile     string `toml:"token_file"`
	}
	rawLog struct{ Transfers, Xferlog, Format, Level string }
)

// checkTables compares [admin] and [log] with what go-toml reads.
func checkTables(t *testing.T, c *Config, rawAdmin rawAdmin, rawLog rawLog) {
	admin := Admin{Socket: DefaultSocket, Group: DefaultGroup, TokenFile: orNone(rawAdmin.TokenFile)}
	if s := rawAdmin.Socket; s != nil && *s != auto {
		admin.Socket, admin.SocketGiven = orNone(*s), true
	}
	if s := rawAdmin.Group; s != nil {
		admin.Group, admin.GroupGiven = orNone(*s), true
	}
	if s := orNone(rawAdmin.Listen); s != "" {
		admin.Listen, _ = forward.ParseListen(s)
	}
	log := Log{Transfers: orNone(rawLog.Transfers), Xferlog: orNone(rawLog.Xferlog),
		JSON: rawLog.Format == "json"}
	_ = log.Level.UnmarshalText([]byte(rawLog.Level)) // an error: none is given
	if c.Admin != admin || c.Log != log {
		t.Errorf("got %+v, %+v; want %+v, %+v", c.Admin, c.Log, admin, log)
	}
}

// checkSound compares what Parse accepted with what two others make of it.
func checkSound(t *testing.T, c *Config, text []byte) {
	if faults := forward.Check(c.Forwards); len(faults) > 0 {
		t.Errorf("got a sound file; want\n%v", faults)
	}
	for _, f := range c.Forwards {
		d := newDocument(nil)
		section := forwardSection{Forward: f, states: make([]keyState, forwardKeyCount)}
		if section.checkNeeds(d); len(d.faults) > 0 {
			t.Errorf("got a sound file; want %v", d.faults)
		}
	}
	if len(c.Forwards) == 0 || c.Resolve < minResolve || c.Drain < 0 || c.Drain > maxDrain {
		t.Errorf("got %d forwards, resolved every %s, drained for %s; want some, %s or more, and %s or less",
			len(c.Forwards), c.Resolve, c.Drain, minResolve, maxDrain)
	}
	var raw rawFile
	decoder := toml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(text,
		[]byte("\xef\xbb\xbf")))).DisallowUnknownFields()
	if err := decoder.Decode(&raw); err != nil {
		t.Fatalf("got a sound file; want go-toml's %v", err)
	}
	health := DefaultHealth
	if raw.Health != "" {
		health, _ = time.ParseDuration(raw.Health) // "off" is 0
	}
	if c.Health != health || health != 0 && (health < minHealth || health > maxHealth) {
		t.Errorf("got health %s; want %q, off or from %s to %s", c.Health, raw.Health, minHealth, maxHealth)
	}
	if deny := denyOf(raw.Deny); !reflect.DeepEqual(c.Deny, deny) {
		t.Errorf("got deny %v; want %v", c.Deny, deny)
	}
	checkTables(t, c, raw.Admin, raw.Log)
	if n := len(raw.Forward) + len(raw.Outbound); n != len(c.Forwards) {
		t.Fatalf("got %d forwards; want %d", len(c.Forwards), n)
	}
	forwards, outbounds := 0, 0
	for i, got := range c.Forwards {
		var want forward.Forward
		if got.Outbound == nil {
			want = raw.Forward[forwards].value()
			forwards++
		} else {
			want = raw.Outbound[outbounds].value()
			outbounds++
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("forward %d: got %+v; want %+v", i+1, got, want)
		}
	}
}

// rawFile is a file for go-toml's decoder.
type rawFile struct {
	Resolve, Drain string
	Health         string
	Deny           []string
	Admin          rawAdmin
	Log            rawLog
	Forward        []rawForward
	Outbound       []rawOutbound
}

// denyOf returns what a sound deny asks for.
func denyOf(texts []string) (d ban.Deny) {
	for _, text := range texts {
		if p, err := ban.ParseDenied(text); err == nil {
			d.Prefixes = append(d.Prefixes, p)
		} else {
			d.Files = append(d.Files, text)
		}
	}
	return d
}

// rawForward is a [[forward]] for go-toml's decoder.
type rawForward struct {
	Name, Listen, Server, Tracking, Interface string
	Clients                                   []string
	ServerPorts                               string `toml:"server_ports"`

	Data          string
	PassivePorts  string `toml:"passive_ports"`
	Advertise     []string
	ServerMode    string `toml:"server_mode"`
	Source        string
	Balancers     []string `toml:"accept_proxy_protocol"`
	SendHeader    string   `toml:"send_proxy_protocol"`
	SendOnData    bool     `toml:"send_proxy_protocol_data"`
	DialTime      string   `toml:"dial_time"`
	LoginTime     string   `toml:"login_time"`
	IdleTime      string   `toml:"idle_time"`
	Sessions      int      `toml:"max_sessions"`
	PerClient     int      `toml:"max_sessions_per_client"`
	IPv6Prefix    int      `toml:"client_ipv6_prefix"`
	LoginFailures int      `toml:"max_login_failures"`

	TLS rawTLS
}

// rawOutbound is an [[outbound]] for go-toml's decoder.
type rawOutbound struct {
	rawForward
	Ports        []uint16
	Servers      []string
	DenyServers  []string `toml:"deny_servers"`
	RedirectPort int      `toml:"redirect_port"`
	AccountFile  string   `toml:"account_file"`
}

func (r rawOutbound) value() forward.Forward {
	f := r.rawForward.value()
	o := &forward.Outbound{Explicit: r.Listen != "", Ports: r.Ports, RedirectPort: r.RedirectPort,
		AccountFile: r.AccountFile}
	for _, s := range r.Servers {
		d, _ := forward.ParseDestination(s)
		o.Servers = append(o.Servers, d)
	}
	for _, s := range r.DenyServers {
		d, _ := forward.ParseDestination(s)
		o.Denied = append(o.Denied, d)
	}
	f.Server, f.Outbound = forward.Server{}, o
	if !o.Explicit {
		f.Listen.Port = uint16(cmp.Or(r.RedirectPort, forward.DefaultRedirectPort))
		if r.Name == "" {
			f.Name = "outbound on " + r.Interface
			if r.RedirectPort != 0 {
				f.Name = fmt.Sprintf("%s port %d", f.Name, r.RedirectPort)
			}
		}
	}
	return f
}

// rawTLS is a [forward.tls] for go-toml's decoder.
type rawTLS struct {
	Client, Cert, Key string
	Implicit, CCC     bool
	Names             []string
	SessionReuse      *bool  `toml:"session_reuse"`
	ClientCloseNotify string `toml:"client_close_notify"`
	ClientMinVersion  string `toml:"client_min_version"`
	ClientCA          string `toml:"client_ca"`
	ClientAuth        string `toml:"client_auth"`
	ClientCRL         string `toml:"client_crl"`

	Server, CA, Verify string
	ServerData         string `toml:"server_data"`
	ServerName         string `toml:"server_name"`
	ClientCert         string `toml:"client_cert"`
	ClientKey          string `toml:"client_key"`
	ServerCloseNotify  string `toml:"server_close_notify"`
	ServerMinVersion   string `toml:"server_min_version"`
}

func (r rawTLS) value() forward.TLS {
	t := forward.TLS{
		Names:    lowered(r.Names),
		Implicit: r.Implicit, Cert: r.Cert, Key: r.Key, CCC: r.CCC,
		SessionReuseOptional:      r.SessionReuse != nil && !*r.SessionReuse,
		ClientCloseNotifyOptional: r.ClientCloseNotify == "optional",
		ClientCA:                  r.ClientCA, ClientAuthOptional: r.ClientAuth == "optional",
		ClientCRL:       r.ClientCRL,
		ServerDataClear: r.ServerData == "clear",
		CA:              r.CA, ServerName: r.ServerName, ClientCert: r.ClientCert,
		ClientKey:                 r.ClientKey,
		Insecure:                  r.Verify == "insecure",
		ServerCloseNotifyOptional: r.ServerCloseNotify == "optional",
	}
	t.Client, _ = forward.ParseWord[forward.ClientTLS]("tls.client", r.Client)
	t.Server, _ = forward.ParseWord[forward.ServerTLS]("tls.server", r.Server)
	t.ClientMinVersion, _ = forward.ParseWord[forward.TLSVersion]("", r.ClientMinVersion)
	t.ServerMinVersion, _ = forward.ParseWord[forward.TLSVersion]("", r.ServerMinVersion)
	return t
}

// value returns the forward of a sound text: an empty string is a key that was left out.
func (r rawForward) value() forward.Forward {
	f := forward.Forward{Name: r.Name}
	f.Listen, _ = forward.ParseListen(r.Listen)
	f.Listen.Interface = r.Interface
	f.Server, _ = forward.ParseServer(r.Server)
	if r.Name == "" {
		f.Name = f.Listen.String()
	}
	f.Tracking, _ = forward.ParseWord[forward.Tracking]("tracking", r.Tracking)
	for _, s := range r.Clients {
		p, _ := forward.ParseClient(s)
		f.Clients = append(f.Clients, p)
	}
	f.ServerPorts, _ = forward.ParsePortRange(r.ServerPorts)
	f.Data, _ = forward.ParseWord[forward.DataPath]("data", r.Data)
	f.PassivePorts, _ = forward.ParsePortRange(r.PassivePorts)
	for _, s := range r.Advertise {
		a, _ := forward.ParseAdvertise(s)
		f.Advertise = append(f.Advertise, a)
	}
	f.ServerMode, _ = forward.ParseWord[forward.ServerMode]("server_mode", r.ServerMode)
	f.Source, _ = forward.ParseWord[forward.Source]("source", r.Source)
	for _, s := range r.Balancers {
		p, _ := forward.ParseBalancer(s)
		f.Balancers = append(f.Balancers, p)
	}
	f.SendProxyProtocol, _ = forward.ParseWord[forward.ProxyProtocol]("", r.SendHeader)
	f.SendProxyProtocolData = r.SendOnData
	f.TLS = r.TLS.value()
	f.Limits = forward.Limits{Sessions: r.Sessions, PerClient: r.PerClient, IPv6Prefix: r.IPv6Prefix,
		LoginFailures: r.LoginFailures}
	f.Limits.Dial, _ = time.ParseDuration(r.DialTime)
	f.Limits.Login, _ = time.ParseDuration(r.LoginTime)
	f.Limits.Idle, _ = time.ParseDuration(r.IdleTime)
	return f
}

func checkFaults(t *testing.T, faults Faults, text []byte) {
	lines := strings.Split(string(text), "\n")
	for i, f := range faults {
		at := f.Place
		if at.Line < 1 || at.Line > len(lines) || at.Column < 1 ||
			at.Column > len([]rune(lines[at.Line-1]))+1 {
			t.Errorf("got place %d:%d; want one in the text", at.Line, at.Column)
		}
		if f.Text == "" || strings.ContainsAny(f.Text, "\n\r\x00\x1b") {
			t.Errorf("got text %q; want one line that can be printed", f.Text)
		}
		if i > 0 && (faults[i-1].Place.Line > at.Line || faults[i-1].Place.Line == at.Line &&
			faults[i-1].Place.Column > at.Column) {
			t.Errorf("got %s after %s; want them in order", f, faults[i-1])
		}
	}
}

// many writes a file of n forwards, with every key that can be given.
func many(n int, forward func(i int) (listen, server string)) []byte {
	var b bytes.Buffer
	for i := range n {
		listen, server := forward(i)
		fmt.Fprintf(&b, "[[forward]]\nname = \"camera %d\" # in hall %d\nlisten = %q\nserver = "+
			"%q\ntracking = \"proxy\"\nmax_sessions = 100\nidle_time = \"5m\"\nclients = "+
			"[\"192.168.5.0/24\", \"192.168.6.17\"]\n\n", i, i%7, listen, server)
	}
	return b.Bytes()
}

// BenchmarkParse parses ten thousand forwards: on ports of one address, and on one port of ten
// thousand addresses; and a file with a fault in each forward.
func BenchmarkParse(b *testing.B) {
	const n = 10_000
	address := func(net, i int) string { return fmt.Sprintf("10.%d.%d.%d", net, i>>8, i&255) }
	for _, bench := range []struct {
		name    string
		sound   bool
		forward func(i int) (listen, server string)
	}{
		{"ports", true, func(i int) (string, string) {
			return fmt.Sprintf("192.168.5.2:%d", 10_000+i), address(2, i) + ":21"
		}},
		{"addresses", true, func(i int) (string, string) { return address(1, i) + ":21", address(2, i) }},
		{"faults", false, func(i int) (string, string) { return "192.168.5.2:0", address(2, i) + "a" }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			text := many(n, bench.forward)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				c, err := parse("f.toml", bytes.NewReader(text))
				if bench.sound && (err != nil || len(c.Forwards) != n) {
					b.Fatalf("got error %v; want %d forwards", err, n)
				}
				var faults Faults
				if !bench.sound && (!errors.As(err, &faults) || len(faults) != n) {
					b.Fatalf("got %d faults; want %d", len(faults), n)
				}
			}
		})
	}
}

// lowered returns names in lower case, or nil if there are none.
func lowered(names []string) (all []string) {
	for _, name := range names {
		all = append(all, strings.ToLower(name))
	}
	return all
}
