// Package ruleset turns forwards into the nftables table that they ask for.
//
// It is pure: a Table is a value, and its text is what nft(8) would load. The package never
// talks to the kernel; internal/nft installs the same value through netlink.
//
// The table is small and does not grow with the forwards: chains hold one rule for each kind of
// listen address in use, and forwards are elements of sets and maps.
//
//	hook         priority        chain        what it does
//	prerouting   mangle (-150)   helper       attaches the ftp helper to control connections; it must
//	                                          come after conntrack (-200) and before NAT (-100), or the
//	                                          kernel ignores it without a word (net/netfilter/nft_ct.c)
//	prerouting   dstnat (-100)   prerouting   pinholes of tracking proxy, each for one connection;
//	                                          passages, each for a client's encrypted sessions;
//	                                          listen address to server;
//	                                          logs who comes to a passive port and is led nowhere
//	forward      security (50)   forward      logs where a connection is taken and where it ends, behind all
//	                                          filters: internal/conntrack counts with that
//	postrouting  srcnat (100)    postrouting  gives what came through a pinhole or a passage the address
//	                                          that its far end knows; masquerades the rest of what
//	                                          prerouting translated, nothing else
//
// A forward with tracking proxy has no element: its control connections end in ftpgate, and its data
// connections come through pinholes and passages, which internal/nft puts in and takes out while the
// table stands. Passages have a rule for each range of server_ports, and their own maps.
package ruleset

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"ftpgate/internal/core/forward"
)

// Family is the family of every table: one table serves IPv4 and IPv6.
const Family = "inet"

// HelperName is the name of the kernel's FTP helper and of the table's object for it.
const HelperName = "ftp"

// Table is a desired nftables table.
type Table struct {
	Name   string
	Helper bool // declare the ct helper object HelperName
	Sets   []Set
	Chains []Chain
}

// Set is a named set, or a map where Value is not empty. Elements are sorted and distinct.
type Set struct {
	Name     string
	Version  Version // of every address in it
	Key      []Column
	Value    []Column
	Interval bool // keys hold prefixes or port ranges
	Timeout  bool // elements come and go while the table stands, and expire: Elements has none
	Once     bool // an element matches one packet, and never again: in a chain for NAT, one connection
	Size     int  // how many elements the kernel takes; 0: any number
	Elements []Element
}

// Element is a row of a set. Only the columns that the set names are filled in. It is comparable,
// so that two versions of a set can be told apart.
type Element struct {
	Interface string            // ColumnInterface
	Client    netip.Prefix      // ColumnClient
	Listen    netip.Addr        // ColumnListen, ColumnDialled
	Server    netip.Addr        // ColumnServer, ColumnSource
	Ports     forward.PortRange // ColumnPort; First and Last are equal where the set is not an interval
	To        netip.Addr        // ColumnTo
	ToPort    uint16            // ColumnToPort
}

// Column is a part of a set's key or value, with the packet's field that it is compared with.
type Column uint8

// The columns, in the order in which keys name them.
const (
	ColumnInterface Column = iota // iifname
	ColumnClient                  // ip saddr, a prefix
	ColumnListen                  // ip daddr before translation
	ColumnDialled                 // ct original ip daddr: what the client dialled, seen after translation
	ColumnServer                  // ip daddr after translation
	ColumnSource                  // ip saddr, one address
	ColumnPort                    // tcp dport
	ColumnTo                      // value: address to translate to
	ColumnToPort                  // value: port to translate to
)

// Chain is a base chain with policy accept.
type Chain struct {
	Name     string
	Type     string // "filter" or "nat"
	Hook     string // "prerouting", "forward" or "postrouting"
	Priority Priority
	Rules    []Rule
}

// Priority is a hook priority by nft's name for it.
type Priority struct {
	Name  string
	Value int32 // include/uapi/linux/netfilter_ipv4.h, enum nf_ip_hook_priorities
}

// The priorities that the table hooks in with.
var (
	Mangle   = Priority{"mangle", -150}
	DstNAT   = Priority{"dstnat", -100}
	Security = Priority{"security", 50}
	SrcNAT   = Priority{"srcnat", 100}
)

// Rule is a list of statements: matches, then what to do.
type Rule []Statement

// Elements returns how many elements the table's sets hold in all.
func (t Table) Elements() int {
	n := 0
	for _, s := range t.Sets {
		n += len(s.Elements)
	}
	return n
}

// Empty tells whether the table does nothing: none of its forwards needs the kernel.
func (t Table) Empty() bool { return len(t.Chains) == 0 }

// Version is one of the two versions of IP.
type Version uint8

// The versions, and the order in which their rules stand.
const (
	IPv4 Version = 4
	IPv6 Version = 6
)

var versions = []Version{IPv4, IPv6}

// is tells whether a is an address of the version.
func (v Version) is(a netip.Addr) bool { return a.IsValid() && a.Is4() == (v == IPv4) }

func (v Version) unspecified() netip.Addr {
	if v == IPv4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// server returns the address of the version that a forward leads to. It is not valid where there
// is none, or where the listen address is of the other version.
func (v Version) server(f forward.Resolved) netip.Addr {
	server := f.Server4
	if v == IPv6 {
		server = f.Server6
	}
	if !v.is(server) || !f.Listen.AcceptsFamily(server) {
		return netip.Addr{}
	}
	return server
}

// Build returns the table that publishes the forwards. They must be sound (dnat.Check); a forward
// without a server address of a family is not published for that family. Of forwards with tracking
// proxy only those count whose data connections the kernel may carry: it has pinholes for them, and
// passages where encrypted sessions pass through. held are the ranges of passages that have to stay
// though no forward may ask for them any more: sessions outlive a change of their forward.
func Build(name string, all []forward.Resolved, held ...forward.PortRange) Table {
	b := builder{sets: map[string]*Set{}}
	forwards := withoutProxy(all)
	pinholes := slices.ContainsFunc(all, carried)
	ranges := passageRanges(all, held)
	for _, v := range versions {
		if pinholes {
			b.addPinholes(v)
		}
		b.addPassages(v, ranges)
		for _, k := range kinds {
			b.addKind(v, k, forwards)
		}
		b.addGuard(v, forwards)
		b.addMasquerade(v, forwards)
	}
	t := Table{Name: name, Helper: len(b.helper) > 0}
	for _, s := range b.sets {
		sortElements(s)
		t.Sets = append(t.Sets, *s)
	}
	slices.SortFunc(t.Sets, func(x, y Set) int { return cmp.Compare(x.Name, y.Name) })
	if t.Helper {
		t.Chains = append(t.Chains, Chain{"helper", "filter", "prerouting", Mangle, slices.Concat(b.guard, b.helper)})
	}
	if pinholes || len(ranges) > 0 || len(forwards) > 0 {
		t.Chains = append(t.Chains, Chain{"prerouting", "nat", "prerouting", DstNAT, slices.Concat(b.pinholes, b.control, b.ports, logStrays(name, all))})
		if pinholes || t.Helper {
			t.Chains = append(t.Chains, Chain{logChain, "filter", "forward", Security, []Rule{logEnds(name)}})
		}
		t.Chains = append(t.Chains,
			Chain{"postrouting", "nat", "postrouting", SrcNAT, slices.Concat(b.sources, b.masquerade)})
	}
	return t
}

// builder collects the parts of a table; rules of one sort stand together, so that control ports
// win over passive ports whatever the kind of the listen address.
type builder struct {
	sets                     map[string]*Set
	helper, guard            []Rule // chain helper
	pinholes, control, ports []Rule // chain prerouting
	sources, masquerade      []Rule // chain postrouting
}

// add puts an element into a set, which is made with the first one.
func (b *builder) add(proto Set, e Element) {
	s, ok := b.sets[proto.Name]
	if !ok {
		s = &proto
		b.sets[s.Name] = s
	}
	s.Elements = append(s.Elements, e)
}

// kind is a form of listen address. Each form in use has sets and rules of its own, because
// a key has no wild cards.
type kind struct{ address, onInterface, clients bool }

var kinds = []kind{
	{true, false, false}, {true, false, true}, {true, true, false}, {true, true, true},
	{false, false, false}, {false, false, true}, {false, true, false}, {false, true, true},
}

func kindOf(f forward.Forward) kind {
	return kind{f.Listen.Addr.IsValid(), f.Listen.Interface != "", len(f.Clients) > 0}
}

// name returns the name of the kind's set for a purpose: "control4", "helper6_any_from", ...
func (k kind) name(purpose string, v Version) string {
	name := purpose + v.digit()
	if !k.address {
		name += "_any"
	}
	if k.onInterface {
		name += "_on"
	}
	if k.clients {
		name += "_from"
	}
	return name
}

// key returns the columns of the kind's sets for single ports. Where clients are named the sets are
// interval sets, which look at one column after the other and carry on with all rows that match so
// far (net/netfilter/nft_set_pipapo.c): what tells forwards apart comes first, what many share last.
func (k kind) key() []Column {
	var host []Column
	if k.address {
		host = append(host, ColumnListen)
	}
	if !k.clients {
		return slices.Concat(k.through(), host, []Column{ColumnPort})
	}
	return slices.Concat([]Column{ColumnPort}, host, k.through(), []Column{ColumnClient})
}

// rangeKey is key for port ranges, which are alike more often than addresses are.
func (k kind) rangeKey() []Column {
	var key []Column
	if k.address {
		key = append(key, ColumnListen)
	}
	key = slices.Concat(key, []Column{ColumnPort}, k.through())
	if k.clients || len(key) == 1 { // an interval set of one column works differently: name all clients
		key = append(key, ColumnClient)
	}
	return key
}

// through is the column for the interface, if the kind has one.
func (k kind) through() []Column {
	if k.onInterface {
		return []Column{ColumnInterface}
	}
	return nil
}

// guards returns the matches that stand before a lookup with the kind's key: the family where the
// key does not imply it, and "one of our addresses" where it names none.
func (k kind) guards(v Version) Rule {
	if k.address {
		return nil
	}
	return Rule{FamilyIs{v}, ToGateway{}}
}

// addKind adds the sets and rules of one kind of listen address in one family.
func (b *builder) addKind(v Version, k kind, forwards []forward.Resolved) {
	key := k.key()
	control := Set{Name: k.name("control", v), Version: v, Key: key, Value: []Column{ColumnTo, ColumnToPort}, Interval: k.clients}
	helper := Set{Name: k.name("helper", v), Version: v, Key: key, Interval: k.clients}
	ports := Set{Name: k.name("ports", v), Version: v, Key: k.rangeKey(), Value: []Column{ColumnTo}, Interval: true}
	for _, f := range forwards {
		server := v.server(f)
		if kindOf(f.Forward) != k || !server.IsValid() {
			continue
		}
		for _, client := range clientsOf(f.Forward, v) {
			e := Element{Interface: f.Listen.Interface, Client: client, Listen: f.Listen.Addr,
				Ports: forward.PortRange{First: f.Listen.Port, Last: f.Listen.Port}}
			if f.Tracking == forward.TrackingKernel {
				b.add(helper, e)
			}
			e.To = server
			if !f.ServerPorts.IsEmpty() {
				passive := e
				passive.Ports = f.ServerPorts
				if !client.IsValid() && slices.Contains(ports.Key, ColumnClient) {
					passive.Client = netip.PrefixFrom(v.unspecified(), 0)
				}
				b.add(ports, passive)
			}
			e.ToPort = f.Server.Port
			b.add(control, e)
		}
	}
	guards := k.guards(v)
	if b.sets[helper.Name] != nil {
		b.helper = append(b.helper, slices.Concat(Rule{StateIs{"new"}}, guards, Rule{In{v, key, helper.Name}, AttachHelper{}}))
	}
	if b.sets[control.Name] != nil {
		b.control = append(b.control, slices.Concat(guards, Rule{Translate{v, key, control.Name, true}}))
	}
	if b.sets[ports.Name] != nil {
		b.ports = append(b.ports, slices.Concat(guards, Rule{Translate{v, ports.Key, ports.Name, false}}))
	}
}

// clientsOf returns the prefixes of one family that may use a forward, without those that another
// covers (an interval set refuses overlaps). A forward for everybody has one prefix, not valid.
func clientsOf(f forward.Forward, v Version) []netip.Prefix {
	if len(f.Clients) == 0 {
		return []netip.Prefix{{}}
	}
	var clients []netip.Prefix
	for _, c := range f.Clients {
		covered := slices.ContainsFunc(f.Clients, func(o netip.Prefix) bool {
			return o != c && o.Bits() < c.Bits() && o.Contains(c.Addr())
		})
		if v.is(c.Addr()) && !covered && !slices.Contains(clients, c) {
			clients = append(clients, c)
		}
	}
	return clients
}

// addGuard adds what keeps the kernel's helper from opening the gateway's own services: a data
// connection that it expects at a port below 1024 is refused (RFC 2577 section 3). Without it
// a server that sends "227 (...,0,22)" steers its client's next connection to the gateway's
// port 22 to itself, and a client does the same with PORT.
func (b *builder) addGuard(v Version, forwards []forward.Resolved) {
	listeners := Set{Name: "listeners" + v.digit(), Version: v, Key: []Column{ColumnListen}}
	servers := Set{Name: "servers" + v.digit(), Version: v, Key: []Column{ColumnSource}}
	everywhere := false
	for _, f := range forwards {
		server := v.server(f)
		if f.Tracking != forward.TrackingKernel || !server.IsValid() {
			continue
		}
		b.add(servers, Element{Server: server})
		if f.Listen.Addr.IsValid() {
			b.add(listeners, Element{Listen: f.Listen.Addr})
		} else {
			everywhere = true
		}
	}
	data := Rule{StateIs{"related"}, HelperIs{}, PortBelow{1024}}
	if b.sets[listeners.Name] != nil {
		b.guard = append(b.guard, slices.Concat(data, Rule{In{v, listeners.Key, listeners.Name}, Reset{}}))
	}
	if everywhere {
		b.guard = append(b.guard, slices.Concat(data, Rule{FamilyIs{v}, ToGateway{}, Reset{}}))
	}
	if b.sets[servers.Name] != nil {
		b.guard = append(b.guard, slices.Concat(data, Rule{In{v, servers.Key, servers.Name}, Reset{}}))
	}
}

// addMasquerade adds what gives translated connections the gateway's address as their source,
// so that the server's answers come back. Data connections of kernel tracking need nothing: the
// helper gives them their master's addresses (nf_nat_follow_master).
func (b *builder) addMasquerade(v Version, forwards []forward.Resolved) {
	exact := Set{Name: "masquerade" + v.digit(), Version: v, Key: []Column{ColumnDialled, ColumnServer, ColumnPort}}
	every := Set{Name: exact.Name + "_any", Version: v, Key: []Column{ColumnServer, ColumnPort}}
	exactPorts := Set{Name: exact.Name + "_ports", Version: v, Key: exact.Key, Interval: true}
	everyPorts := Set{Name: every.Name + "_ports", Version: v, Key: every.Key, Interval: true}
	for _, f := range forwards {
		server := v.server(f)
		if !server.IsValid() {
			continue
		}
		control, ports := exact, exactPorts
		if !f.Listen.Addr.IsValid() {
			control, ports = every, everyPorts
		}
		e := Element{Listen: f.Listen.Addr, Server: server, Ports: forward.PortRange{First: f.Server.Port, Last: f.Server.Port}}
		b.add(control, e)
		if !f.ServerPorts.IsEmpty() {
			e.Ports = f.ServerPorts
			b.add(ports, e)
		}
	}
	for _, s := range []Set{exact, exactPorts, every, everyPorts} {
		if made := b.sets[s.Name]; made != nil {
			if s.Interval {
				made.Elements = mergePorts(made.Elements)
			}
			b.masquerade = append(b.masquerade, Rule{Translated{}, In{v, s.Key, s.Name}, Masquerade{}})
		}
	}
}

// mergePorts joins port ranges that overlap and differ in nothing else: forwards on two interfaces
// may lead to the same server, and an interval set refuses overlaps.
func mergePorts(elements []Element) []Element {
	slices.SortFunc(elements, compareElements)
	merged := elements[:0]
	for _, e := range elements {
		if n := len(merged); n > 0 {
			last := &merged[n-1]
			alike := *last
			alike.Ports = e.Ports
			if alike == e && int(e.Ports.First) <= int(last.Ports.Last)+1 {
				last.Ports.Last = max(last.Ports.Last, e.Ports.Last)
				continue
			}
		}
		merged = append(merged, e)
	}
	return merged
}

func sortElements(s *Set) {
	slices.SortFunc(s.Elements, compareElements)
	s.Elements = slices.Clip(slices.Compact(s.Elements))
}

func compareElements(x, y Element) int {
	return cmp.Or(
		strings.Compare(x.Interface, y.Interface),
		x.Client.Addr().Compare(y.Client.Addr()),
		cmp.Compare(x.Client.Bits(), y.Client.Bits()),
		x.Listen.Compare(y.Listen),
		x.Server.Compare(y.Server),
		cmp.Compare(x.Ports.First, y.Ports.First),
		cmp.Compare(x.Ports.Last, y.Ports.Last),
		x.To.Compare(y.To),
		cmp.Compare(x.ToPort, y.ToPort),
	)
}
