package ruleset

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"ftpgate/internal/core/forward"
)

// Build returns the table that publishes the forwards. They must be sound (forward.Check). A forward whose
// server has no address of a family is not published for that family. The table has maps for pinholes if the
// kernel may carry the data connections of a forward with tracking proxy, and maps for passthrough ranges if
// encrypted sessions may pass through. inUse are passthrough ranges that must stay even if no forward has
// them any more: sessions outlive a change of their forward.
func Build(name string, all []forward.Resolved, inUse ...forward.PortRange) Table {
	b := builder{sets: map[string]*Set{}}
	forwards := withoutProxy(all)
	pinholes, hides := slices.ContainsFunc(all, mayCarryData), slices.ContainsFunc(all, hidesGateway)
	ranges := passthroughRanges(all, inUse)
	for _, v := range versions {
		if pinholes {
			b.addPinholes(v)
		}
		b.addPassthroughs(v, ranges)
		if hides {
			b.addOwnSources(v)
			b.addRedirects(v, all)
		}
		for _, k := range kinds {
			b.addKind(v, k, forwards)
		}
		b.addHelperResets(v, forwards)
		b.addMasquerade(v, forwards)
	}
	t := Table{Name: name, Helper: len(b.helper) > 0}
	t.Sets = b.sorted()
	if t.Helper {
		t.Chains = append(t.Chains,
			Chain{"helper", "filter", "prerouting", Mangle, slices.Concat(b.resets, b.helper)})
	}
	if pinholes || len(ranges) > 0 || len(forwards) > 0 {
		rules := slices.Concat(logFirst(name, all), b.pinholes, b.control, b.ports, b.redirects)
		t.Chains = append(t.Chains, Chain{"prerouting", "nat", "prerouting", DstNAT, rules})
		if pinholes || t.Helper {
			t.Chains = append(t.Chains, Chain{logChain, "filter", "forward", Security, []Rule{logEnds(name)}})
		}
		if hides { // another table that masquerades must not come first
			t.Chains = append(t.Chains, Chain{"sources", "nat", "postrouting", BeforeSrcNAT, b.sources})
			b.sources = nil
		}
		t.Chains = append(t.Chains,
			Chain{"postrouting", "nat", "postrouting", SrcNAT, slices.Concat(b.sources, b.masquerade)})
	}
	return t
}

// builder collects the parts of a table. Rules with one purpose stand together, so that control ports take
// precedence over passive ports for every kind of listen address.
type builder struct {
	sets                     map[string]*Set
	helper, resets           []Rule // chain helper
	pinholes, control, ports []Rule // chain prerouting
	redirects                []Rule // chain prerouting
	sources, masquerade      []Rule // chain postrouting
}

// add adds an element to a set, which add creates with its first element.
func (b *builder) add(empty Set, e Element) {
	s, ok := b.sets[empty.Name]
	if !ok {
		s = &empty
		b.sets[s.Name] = s
	}
	s.Elements = append(s.Elements, e)
}

// kind is a kind of listen address. Each kind in use has sets and rules of its own, because a key cannot have
// wild cards.
type kind struct{ address, onInterface, clients bool }

var kinds = []kind{
	{true, false, false}, {true, false, true}, {true, true, false}, {true, true, true},
	{false, false, false}, {false, false, true}, {false, true, false}, {false, true, true},
}

func kindOf(f forward.Forward) kind {
	return kind{f.Listen.Addr.IsValid(), f.Listen.Interface != "", len(f.Clients) > 0}
}

// name returns the name of the kind's set for a purpose, such as "control4" or "helper6_any_from".
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

// key returns the columns of the kind's sets for single ports. With clients, they are interval sets: the
// kernel compares one column after the other, and continues with all elements that match so far
// (net/netfilter/nft_set_pipapo.c). So the column in which forwards differ most comes first, and the one that
// many share comes last.
func (k kind) key() []Column {
	var host []Column
	if k.address {
		host = append(host, ColumnListen)
	}
	if !k.clients {
		return slices.Concat(k.interfaceColumn(), host, []Column{ColumnPort})
	}
	return slices.Concat([]Column{ColumnPort}, host, k.interfaceColumn(), []Column{ColumnClient})
}

// rangeKey is key for port ranges, which forwards share more often than addresses.
func (k kind) rangeKey() []Column {
	var key []Column
	if k.address {
		key = append(key, ColumnListen)
	}
	key = slices.Concat(key, []Column{ColumnPort}, k.interfaceColumn())
	if k.clients ||
		len(key) == 1 { // an interval set of one column works differently: add a column for clients
		key = append(key, ColumnClient)
	}
	return key
}

// interfaceColumn returns the column for the interface, if the kind has one.
func (k kind) interfaceColumn() []Column {
	if k.onInterface {
		return []Column{ColumnInterface}
	}
	return nil
}

// matches returns the matches before a lookup with the kind's key. If the key has no listen address, they
// restrict the rule to a family and to the gateway's own addresses.
func (k kind) matches(v Version) Rule {
	if k.address {
		return nil
	}
	return Rule{FamilyIs{v}, ToGateway{}}
}

// addKind adds the sets and rules of one kind of listen address in one family.
func (b *builder) addKind(v Version, k kind, forwards []forward.Resolved) {
	key := k.key()
	control := Set{Name: k.name("control", v), Version: v,
		Key: key, Value: []Column{ColumnTo, ColumnToPort}, Interval: k.clients}
	helper := Set{Name: k.name("helper", v), Version: v, Key: key, Interval: k.clients}
	ports := Set{Name: k.name("ports", v), Version: v,
		Key: k.rangeKey(), Value: []Column{ColumnTo}, Interval: true}
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
					passive.Client = v.allAddresses()
				}
				b.add(ports, passive)
			}
			e.ToPort = f.Server.Port
			b.add(control, e)
		}
	}
	matches := k.matches(v)
	if b.sets[helper.Name] != nil {
		b.helper = append(b.helper,
			slices.Concat(Rule{StateIs{"new"}}, matches, Rule{In{v, key, helper.Name}, AttachHelper{}}))
	}
	if b.sets[control.Name] != nil {
		b.control = append(b.control, slices.Concat(matches, Rule{Translate{v, key, control.Name, true}}))
	}
	if b.sets[ports.Name] != nil {
		b.ports = append(b.ports, slices.Concat(matches, Rule{Translate{v, ports.Key, ports.Name, false}}))
	}
}

// clientsOf returns the prefixes of one family that may use a forward. It leaves out prefixes that another
// one covers, because an interval set refuses overlaps. A forward for all clients has one invalid prefix.
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

// addHelperResets adds rules that protect the gateway's own services from the kernel's helper: they refuse
// data connections to ports below 1024 that the helper expects (RFC 2577 section 3). Without them a server
// that sends "227 (...,0,22)" would redirect its client's next connection to the gateway's port 22 to itself,
// and a client could do the same with PORT.
func (b *builder) addHelperResets(v Version, forwards []forward.Resolved) {
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
		b.resets = append(b.resets, slices.Concat(data, Rule{In{v, listeners.Key, listeners.Name}, Reset{}}))
	}
	if everywhere {
		b.resets = append(b.resets, slices.Concat(data, Rule{FamilyIs{v}, ToGateway{}, Reset{}}))
	}
	if b.sets[servers.Name] != nil {
		b.resets = append(b.resets, slices.Concat(data, Rule{In{v, servers.Key, servers.Name}, Reset{}}))
	}
}

// addMasquerade adds rules that give translated connections the gateway's address as their source, so that
// the server's answers return to it. Data connections of kernel tracking need none: the helper gives them the
// addresses of their master (nf_nat_follow_master).
func (b *builder) addMasquerade(v Version, forwards []forward.Resolved) {
	exact := Set{Name: "masquerade" + v.digit(), Version: v,
		Key: []Column{ColumnDialled, ColumnServer, ColumnPort}}
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
		e := Element{Listen: f.Listen.Addr, Server: server,
			Ports: forward.PortRange{First: f.Server.Port, Last: f.Server.Port}}
		b.add(control, e)
		if !f.ServerPorts.IsEmpty() {
			e.Ports = f.ServerPorts
			b.add(ports, e)
		}
	}
	for _, s := range []Set{exact, exactPorts, every, everyPorts} {
		if used := b.sets[s.Name]; used != nil {
			if s.Interval {
				used.Elements = mergePorts(used.Elements)
			}
			b.masquerade = append(b.masquerade, Rule{Translated{}, In{v, s.Key, s.Name}, Masquerade{}})
		}
	}
}

// mergePorts joins elements whose port ranges overlap and that are equal otherwise. Forwards on two
// interfaces may have the same server, and an interval set refuses overlaps.
func mergePorts(elements []Element) []Element {
	slices.SortFunc(elements, Element.Compare)
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

// sorted returns the sets and their elements in order.
func (b *builder) sorted() (sets []Set) {
	for _, s := range b.sets {
		sortElements(s)
		sets = append(sets, *s)
	}
	sortSets(sets)
	return sets
}

func sortSets(sets []Set) {
	slices.SortFunc(sets, func(x, y Set) int { return cmp.Compare(x.Name, y.Name) })
}

func sortElements(s *Set) {
	slices.SortFunc(s.Elements, Element.Compare)
	s.Elements = slices.Clip(slices.Compact(s.Elements))
}

// Compare orders the elements of a set.
func (x Element) Compare(y Element) int {
	return cmp.Or(
		strings.Compare(x.Interface, y.Interface),
		x.Banned.First.Compare(y.Banned.First),
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
