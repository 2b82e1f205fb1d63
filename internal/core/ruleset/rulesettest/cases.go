// Package rulesettest has forwards of every kind for tests. Tests of ruleset compare the text of their tables
// with golden files. Tests of nft install each table in two ways and compare what the kernel has.
package rulesettest

import (
	"net/netip"
	"strings"

	"ftpgate/internal/core/ban"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ruleset"
)

// Case is a list of forwards for one table.
type Case struct {
	Name     string
	Forwards []forward.Resolved
	Bans     ban.Ranges // that never end
}

// Table returns the table of the case, with the daemon's name.
func (c Case) Table() ruleset.Table {
	return ruleset.Build(ruleset.DefaultTable, c.Forwards).Banning(c.Bans, c.Forwards)
}

// Cases returns cases that together have every set and every rule that a table can have.
func Cases() []Case {
	return []Case{
		{Name: "empty", Forwards: nil},
		{Name: "kernel", Forwards: []forward.Resolved{
			Forward("main", "192.168.5.2:2121", "203.0.113.21:21", forward.TrackingKernel),
		}},
		{Name: "kernel6", Forwards: []forward.Resolved{
			Forward("main", "[2001:db8:5::2]:2121", "[2001:db8:113::21]:21", forward.TrackingKernel),
		}},
		{Name: "none", Forwards: []forward.Resolved{
			with(Forward("main", "192.168.5.2:2121", "203.0.113.21:21", forward.TrackingNone),
				ports(50000, 50100)),
		}},
		{Name: "none-all", Forwards: []forward.Resolved{
			with(Forward("main", "192.168.5.2:2121", "203.0.113.21:21", forward.TrackingNone),
				ports(1, 65535),
				clients("192.168.5.0/24", "192.168.5.7/32", "10.0.0.0/8")),
		}},
		{Name: "wildcard", Forwards: []forward.Resolved{
			with(Forward("main", ":2121", "203.0.113.21:21", forward.TrackingKernel),
				server6("2001:db8:113::21")),
		}},
		{Name: "every-kind", Forwards: everyKind()},
		{Name: "proxy", Forwards: []forward.Resolved{proxied(forward.DataAuto)}},
		{Name: "proxy-kernel-none", Forwards: []forward.Resolved{
			proxied(forward.DataKernel),
			Forward("plc", "192.168.5.2:2122", "203.0.113.7", forward.TrackingKernel),
			with(Forward("camera", "192.168.5.2:2123", "203.0.113.8", forward.TrackingNone),
				ports(50000, 50100)),
		}},
		{Name: "proxy-passthrough", Forwards: []forward.Resolved{passing(forward.DataAuto, "main", 50000,
			50100)}},
		// together with a forward with the same ports and no proxy
		{Name: "proxy-passthroughs", Forwards: []forward.Resolved{
			passing(forward.DataKernel, "main", 50000, 50100),
			passing(forward.DataAuto, "like it", 50000, 50100),
			passing(forward.DataAuto, "all", 1024, 65535),
			passing(forward.DataAuto, "one", 60000, 60000),
			passing(forward.DataRelay, "relayed", 50200, 50300),
			with(passing(forward.DataAuto, "terminated", 50400, 50500),
				func(f *forward.Resolved) { f.TLS.Client = forward.ClientTLSRequired }),
			with(Forward("camera", "192.168.5.2:2123", "203.0.113.8", forward.TrackingNone),
				ports(50000, 50100)),
		}},
		{Name: "relay", Forwards: []forward.Resolved{proxied(forward.DataRelay)}},
		{Name: "relay-kernel", Forwards: []forward.Resolved{
			proxied(forward.DataRelay),
			Forward("plc", "192.168.5.2:2122", "203.0.113.7", forward.TrackingKernel),
		}},
		{Name: "outbound", Forwards: outbounds()},
		{Name: "source-client", Forwards: []forward.Resolved{with(proxied(forward.DataRelay),
			func(f *forward.Resolved) { f.Source = forward.SourceClient })}},
		{Name: "banned", Forwards: banned(), Bans: Bans("192.0.2.7", "192.0.2.64-192.0.2.95",
			"255.255.255.0-255.255.255.255", "2001:db8:7::-2001:db8:7:ffff:ffff:ffff:ffff:ffff")},
	}
}

// outbounds returns outbounds with and without clients, two of which share a port, beside another forward.
func outbounds() []forward.Resolved {
	return []forward.Resolved{
		outbound("lan", "lan0", 8021, []uint16{21, 2121}, "192.168.5.0/24", "2001:db8:5::/64"),
		outbound("all", "dmz0", 8021, nil),
		outbound("old", "lan1", 8022, nil, "10.0.0.0/8"),
		Forward("plc", "192.168.5.2:2122", "203.0.113.7", forward.TrackingKernel),
	}
}

// outbound returns an outbound for clients on an interface.
func outbound(name, iface string, redirect uint16, ports []uint16, from ...string) forward.Resolved {
	return with(forward.Resolved{Forward: forward.Forward{Name: name,
		Listen:   forward.Listen{Interface: iface, Port: redirect},
		Outbound: &forward.Outbound{Ports: ports}}}, clients(from...))
}

// banned returns forwards whose clients may be banned: with every tracking, two of which share ports, and
// with listen addresses of every kind.
func banned() []forward.Resolved {
	lan := Forward("lan", ":2125", "203.0.113.21", forward.TrackingProxy)
	lan.Listen.Interface = "lan0"
	return []forward.Resolved{
		Forward("main", "192.168.5.2:2121", "203.0.113.21:21", forward.TrackingProxy),
		Forward("plc", "192.168.5.2:2122", "203.0.113.7", forward.TrackingKernel),
		with(Forward("camera", "192.168.5.2:2123", "203.0.113.8", forward.TrackingNone), ports(50000, 50100)),
		with(Forward("all", ":2124", "203.0.113.21", forward.TrackingKernel), server6("2001:db8:113::21")),
		lan,
	}
}

// Bans returns ranges that are banned without end: "ADDR" or "FIRST-LAST", in their order.
func Bans(texts ...string) (all ban.Ranges) {
	for _, text := range texts {
		first, last, isRange := strings.Cut(text, "-")
		if !isRange {
			last = first
		}
		all = append(all, ban.Range{First: netip.MustParseAddr(first), Last: netip.MustParseAddr(last)})
	}
	return all
}

// proxied returns a forward with tracking proxy. Its table has at most the maps of pinholes.
func proxied(path forward.DataPath) forward.Resolved {
	f := Forward("main", "192.168.5.2:2121", "203.0.113.21:21", forward.TrackingProxy)
	f.Data = path
	return with(f, clients("192.168.5.0/24"))
}

// passing returns a forward whose encrypted sessions pass through.
func passing(path forward.DataPath, name string, first, last uint16) forward.Resolved {
	f := with(proxied(path), ports(first, last))
	f.Name = name
	return f
}

// everyKind returns forwards with every kind of listen address, both trackings and both versions of IP.
func everyKind() []forward.Resolved {
	var all []forward.Resolved
	port := uint16(2000)
	for _, tracking := range []forward.Tracking{forward.TrackingKernel, forward.TrackingNone} {
		for _, host := range []string{"192.0.2.1", "2001:db8::1", ""} {
			for _, on := range []string{"", "lan0", "eth0.100"} {
				for _, from := range [][]string{nil,
					{"192.168.5.0/24", "2001:db8:5::/64", "192.168.6.7/32"}} {
					port++
					f := Forward("", ":1", "203.0.113.21", tracking)
					f.Name = "kind-" + host + "-" + on + "-" + tracking.String()
					f.Listen.Port = port
					if host != "" {
						f.Listen.Addr = netip.MustParseAddr(host)
					}
					f.Listen.Interface = on
					f = with(f, server6("2001:db8:113::21"), clients(from...))
					if tracking == forward.TrackingNone {
						f = with(f, ports(port*10, port*10+9))
					}
					all = append(all, f)
				}
			}
		}
	}
	return all
}

// Forward parses a forward. It panics on errors.
func Forward(name, listen, server string, tracking forward.Tracking) forward.Resolved {
	l, err := forward.ParseListen(listen)
	if err != nil {
		panic(err)
	}
	s, err := forward.ParseServer(server)
	if err != nil {
		panic(err)
	}
	f := forward.Resolved{Forward: forward.Forward{Name: name, Listen: l, Server: s, Tracking: tracking}}
	if addr, ok := s.Addr(); ok && addr.Is4() {
		f.Server4 = addr
	} else if ok {
		f.Server6 = addr
	}
	return f
}

func with(f forward.Resolved, change ...func(*forward.Resolved)) forward.Resolved {
	for _, c := range change {
		c(&f)
	}
	return f
}

func ports(first, last uint16) func(*forward.Resolved) {
	return func(f *forward.Resolved) { f.ServerPorts = forward.PortRange{First: first, Last: last} }
}

func server6(addr string) func(*forward.Resolved) {
	return func(f *forward.Resolved) { f.Server6 = netip.MustParseAddr(addr) }
}

func clients(prefixes ...string) func(*forward.Resolved) {
	return func(f *forward.Resolved) {
		for _, p := range prefixes {
			f.Clients = append(f.Clients, netip.MustParsePrefix(p))
		}
	}
}

// Many returns n forwards with kernel tracking. Their addresses differ.
func Many(n int) []forward.Resolved {
	forwards := make([]forward.Resolved, n)
	listen, server := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.128.0.1")
	for i := range forwards {
		forwards[i] = forward.Resolved{Forward: forward.Forward{
			Name:     "many-" + listen.String(),
			Listen:   forward.Listen{Addr: listen, Port: 2121},
			Server:   forward.Server{Host: server.String(), Port: 21},
			Tracking: forward.TrackingKernel,
		}, Server4: server}
		listen, server = listen.Next(), server.Next()
	}
	return forwards
}
