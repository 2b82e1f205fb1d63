// Package rulesettest holds forwards of every kind for tests: those of ruleset compare their text
// with golden files, those of nft compare what the kernel has after each of two ways to load them.
package rulesettest

import (
	"net/netip"

	"ftpgate/internal/dnat"
)

// Case is a list of forwards that go together.
type Case struct {
	Name     string
	Forwards []dnat.Resolved
}

// Cases returns the cases; together they have every set and every rule that a table can have.
func Cases() []Case {
	return []Case{
		{"empty", nil},
		{"kernel", []dnat.Resolved{
			Forward("main", "192.168.5.2:2121", "203.0.113.21:21", dnat.TrackingKernel),
		}},
		{"kernel6", []dnat.Resolved{
			Forward("main", "[2001:db8:5::2]:2121", "[2001:db8:113::21]:21", dnat.TrackingKernel),
		}},
		{"none", []dnat.Resolved{
			with(Forward("main", "192.168.5.2:2121", "203.0.113.21:21", dnat.TrackingNone), ports(50000, 50100)),
		}},
		{"none-all", []dnat.Resolved{
			with(Forward("main", "192.168.5.2:2121", "203.0.113.21:21", dnat.TrackingNone), ports(1, 65535),
				clients("192.168.5.0/24", "192.168.5.7/32", "10.0.0.0/8")),
		}},
		{"wildcard", []dnat.Resolved{
			with(Forward("main", ":2121", "203.0.113.21:21", dnat.TrackingKernel), server6("2001:db8:113::21")),
		}},
		{"every-kind", everyKind()},
		{"proxy", []dnat.Resolved{proxied(dnat.DataAuto)}},
		{"proxy-kernel-none", []dnat.Resolved{
			proxied(dnat.DataKernel),
			Forward("plc", "192.168.5.2:2122", "203.0.113.7", dnat.TrackingKernel),
			with(Forward("camera", "192.168.5.2:2123", "203.0.113.8", dnat.TrackingNone), ports(50000, 50100)),
		}},
		{"proxy-passage", []dnat.Resolved{passing(dnat.DataAuto, "main", 50000, 50100)}},
		{"proxy-passages", []dnat.Resolved{ // beside what has the same ports without a proxy
			passing(dnat.DataKernel, "main", 50000, 50100),
			passing(dnat.DataAuto, "like it", 50000, 50100),
			passing(dnat.DataAuto, "all", 1024, 65535),
			passing(dnat.DataAuto, "one", 60000, 60000),
			passing(dnat.DataRelay, "relayed", 50200, 50300),
			with(passing(dnat.DataAuto, "terminated", 50400, 50500), func(f *dnat.Resolved) { f.TLS.Client = dnat.ClientTLSRequired }),
			with(Forward("camera", "192.168.5.2:2123", "203.0.113.8", dnat.TrackingNone), ports(50000, 50100)),
		}},
		{"relay", []dnat.Resolved{proxied(dnat.DataRelay)}},
		{"relay-kernel", []dnat.Resolved{
			proxied(dnat.DataRelay),
			Forward("plc", "192.168.5.2:2122", "203.0.113.7", dnat.TrackingKernel),
		}},
	}
}

// proxied returns a forward with tracking proxy, of which the table may hold nothing but pinholes.
func proxied(path dnat.DataPath) dnat.Resolved {
	f := Forward("main", "192.168.5.2:2121", "203.0.113.21:21", dnat.TrackingProxy)
	f.Data = path
	return with(f, clients("192.168.5.0/24"))
}

// passing returns a forward whose encrypted sessions pass through.
func passing(path dnat.DataPath, name string, first, last uint16) dnat.Resolved {
	f := with(proxied(path), ports(first, last))
	f.Name = name
	return f
}

// everyKind has each form of listen address, with both trackings and both versions of IP.
func everyKind() []dnat.Resolved {
	var all []dnat.Resolved
	port := uint16(2000)
	for _, tracking := range []dnat.Tracking{dnat.TrackingKernel, dnat.TrackingNone} {
		for _, host := range []string{"192.0.2.1", "2001:db8::1", ""} {
			for _, on := range []string{"", "lan0", "eth0.100"} {
				for _, from := range [][]string{nil, {"192.168.5.0/24", "2001:db8:5::/64", "192.168.6.7/32"}} {
					port++
					f := Forward("", ":1", "203.0.113.21", tracking)
					f.Name = "kind-" + host + "-" + on + "-" + tracking.String()
					f.Listen.Port = port
					if host != "" {
						f.Listen.Addr = netip.MustParseAddr(host)
					}
					f.Listen.Interface = on
					f = with(f, server6("2001:db8:113::21"), clients(from...))
					if tracking == dnat.TrackingNone {
						f = with(f, ports(port*10, port*10+9))
					}
					all = append(all, f)
				}
			}
		}
	}
	return all
}

// Forward makes a forward from texts; it panics where they are unsound.
func Forward(name, listen, server string, tracking dnat.Tracking) dnat.Resolved {
	l, err := dnat.ParseListen(listen)
	if err != nil {
		panic(err)
	}
	s, err := dnat.ParseServer(server)
	if err != nil {
		panic(err)
	}
	f := dnat.Resolved{Forward: dnat.Forward{Name: name, Listen: l, Server: s, Tracking: tracking}}
	if addr, ok := s.Addr(); ok && addr.Is4() {
		f.Server4 = addr
	} else if ok {
		f.Server6 = addr
	}
	return f
}

func with(f dnat.Resolved, change ...func(*dnat.Resolved)) dnat.Resolved {
	for _, c := range change {
		c(&f)
	}
	return f
}

func ports(first, last uint16) func(*dnat.Resolved) {
	return func(f *dnat.Resolved) { f.ServerPorts = dnat.PortRange{First: first, Last: last} }
}

func server6(addr string) func(*dnat.Resolved) {
	return func(f *dnat.Resolved) { f.Server6 = netip.MustParseAddr(addr) }
}

func clients(prefixes ...string) func(*dnat.Resolved) {
	return func(f *dnat.Resolved) {
		for _, p := range prefixes {
			f.Clients = append(f.Clients, netip.MustParsePrefix(p))
		}
	}
}

// Many returns n forwards with kernel tracking, each with addresses of its own.
func Many(n int) []dnat.Resolved {
	forwards := make([]dnat.Resolved, n)
	listen, server := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.128.0.1")
	for i := range forwards {
		forwards[i] = dnat.Resolved{Forward: dnat.Forward{
			Name:     "many-" + listen.String(),
			Listen:   dnat.Listen{Addr: listen, Port: 2121},
			Server:   dnat.Server{Host: server.String(), Port: 21},
			Tracking: dnat.TrackingKernel,
		}, Server4: server}
		listen, server = listen.Next(), server.Next()
	}
	return forwards
}
