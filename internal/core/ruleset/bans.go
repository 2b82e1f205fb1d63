package ruleset

import (
	"slices"

	"ftpgate/internal/core/ban"
	"ftpgate/internal/core/forward"
)

// bansChain is the name of the chain that refuses banned clients.
const bansChain = "bans"

// Banning returns the table that also refuses the clients of bans: their new connections to the forwards, and
// the packets of those that run. Only a table that publishes forwards does, and only while there are bans: it
// costs every packet that the host receives a lookup. Without bans, and for an empty table, it is t.
//
// The chain comes after conntrack (-200), which knows the connections of the helper, and before every other
// chain of the table.
func (t Table) Banning(bans ban.Ranges, all []forward.Resolved) Table {
	if len(bans) == 0 || t.Empty() {
		return t
	}
	b := builder{sets: map[string]*Set{}}
	b.addBanned(bans)
	var rules []Rule
	for _, v := range versions {
		if banned := b.sets["banned"+v.digit()]; banned != nil {
			rules = append(rules, b.refusals(v, Rule{In{v, banned.Key, banned.Name}}, all)...)
		}
	}
	t.Sets = append(slices.Clone(t.Sets), b.sorted()...)
	sortSets(t.Sets)
	t.Chains = append([]Chain{{bansChain, "filter", "prerouting", BeforeMangle, rules}}, t.Chains...)
	return t
}

// addBanned adds the sets of banned clients. Bans are sorted, IPv4 first.
func (b *builder) addBanned(bans ban.Ranges) {
	elements := make([]Element, len(bans)) // at once: there may be fifty thousand
	of4 := 0
	for i, r := range bans {
		elements[i].Banned = r
		if r.First.Is4() {
			of4++
		}
	}
	for v, of := range map[Version][]Element{IPv4: elements[:of4:of4], IPv6: elements[of4:]} {
		if len(of) > 0 {
			s := Set{Name: "banned" + v.digit(), Version: v, Key: []Column{ColumnBanned}, Interval: true,
				Expires: true, Elements: of}
			b.sets[s.Name] = &s
		}
	}
}

// manyBanned is how many banned ranges the kernel installs without a noticeable pause.
const manyBanned = 1000

// ServesFirst returns the part of a table with many banned clients that can be installed at once: it serves
// the forwards with tracking proxy, where ftpgate itself refuses banned clients, too. It has no elements of
// banned clients and none of forwards with trackings kernel and none, which are closed: else banned clients
// would reach their servers. It returns false for a table without many banned clients.
func (t Table) ServesFirst() (part Table, many bool) {
	part = t
	part.Sets = slices.Clone(t.Sets)
	for i := range part.Sets {
		s := &part.Sets[i]
		many = many || s.Expires && len(s.Elements) > manyBanned
		if s.Expires || s.IsMap() {
			s.Elements = nil
		}
	}
	return part, many
}

// refusals adds the sets of the gateway's addresses and ports that forwards use, and returns the rules that
// refuse banned clients there. They leave answers alone that a banned host sends to others behind the
// gateway, which may come to the same ports.
func (b *builder) refusals(v Version, banned Rule, all []forward.Resolved) (rules []Rule) {
	for _, k := range kinds {
		if k.clients {
			continue
		}
		published := Set{Name: k.name("published", v), Version: v, Key: k.rangeKey(), Interval: true}
		for _, f := range all {
			if of := kindOf(f.Forward); of.address != k.address || of.onInterface != k.onInterface ||
				!f.Listen.AcceptsFamily(v.unspecified()) {
				continue
			}
			for _, ports := range clientPorts(f.Forward) {
				e := Element{Interface: f.Listen.Interface, Listen: f.Listen.Addr, Ports: ports}
				if slices.Contains(published.Key, ColumnClient) {
					e.Client = v.allAddresses()
				}
				b.add(published, e)
			}
		}
		if used := b.sets[published.Name]; used != nil {
			used.Elements = mergePorts(used.Elements)
			rules = append(rules,
				slices.Concat(banned, Rule{FromClient{}}, k.matches(v), Rule{In{v, published.Key,
					published.Name}, Reset{}}))
		}
	}
	return append(rules, b.helperRefusals(v, banned, all)...)
}

// clientPorts returns the gateway's ports that a forward's clients connect to, but for those that only the
// kernel's helper knows.
func clientPorts(f forward.Forward) []forward.PortRange {
	ports := []forward.PortRange{{First: f.Listen.Port, Last: f.Listen.Port}}
	if f.Tracking == forward.TrackingProxy {
		ports = append(ports, f.DataPorts())
	}
	if !f.ServerPorts.IsEmpty() {
		ports = append(ports, f.ServerPorts)
	}
	return ports
}

// helperRefusals returns the rules for data connections that the kernel's helper expects.
func (b *builder) helperRefusals(v Version, banned Rule, all []forward.Resolved) (rules []Rule) {
	addresses := Set{Name: "bannedat" + v.digit(), Version: v, Key: []Column{ColumnListen}}
	everywhere := false
	for _, f := range all {
		switch {
		case f.Tracking != forward.TrackingKernel || !v.server(f).IsValid():
		case f.Listen.Addr.IsValid():
			b.add(addresses, Element{Listen: f.Listen.Addr})
		default:
			everywhere = true
		}
	}
	data := slices.Concat(Rule{TCP{}}, banned, Rule{HelperIs{}})
	if b.sets[addresses.Name] != nil {
		rules = append(rules, slices.Concat(data, Rule{In{v, addresses.Key, addresses.Name}, Reset{}}))
	}
	if everywhere {
		rules = append(rules, slices.Concat(data, Rule{FamilyIs{v}, ToGateway{}, Reset{}}))
	}
	return rules
}
