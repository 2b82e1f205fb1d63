package ruleset

import (
	"fmt"
	"slices"

	"ftpgate/internal/core/forward"
)

// MaxOwnSources bounds how many connections of the gateway's own at once may begin with another's address as
// their source. Each has its element only until it is established.
const MaxOwnSources = 65535

// OwnSourceMap returns the map from both ends of a connection that the gateway itself makes to the address
// that the far end sees in place of the gateway's own. An element stands while the connection is made: from
// then on conntrack knows it, and translates the answers back.
func OwnSourceMap(v Version) Set {
	return Set{Name: "ownsource" + v.digit(), Version: v,
		Key:   []Column{ColumnSource, ColumnSourcePort, ColumnServer, ColumnPort},
		Value: []Column{ColumnTo}, Timeout: true, Size: MaxOwnSources}
}

// addOwnSources adds the map and the rule for the gateway's own connections.
func (b *builder) addOwnSources(v Version) {
	own := OwnSourceMap(v)
	b.sets[own.Name] = &own
	b.sources = append(b.sources, Rule{TranslateSource{v, own.Key, own.Name}})
}

// addRedirects adds the sets and rules that lead the clients of outbounds to ftpgate, one for each port that
// it listens at. They redirect connections to other hosts only: those to the gateway's own addresses belong
// to its services and to forwards. The gateway's own connections never pass prerouting, so there is no loop.
func (b *builder) addRedirects(v Version, all []forward.Resolved) {
	var ports []uint16
	for _, f := range all {
		if !f.Transparent() {
			continue
		}
		clients := Set{Name: fmt.Sprintf("outbound%s_%d", v.digit(), f.Listen.Port), Version: v,
			Key: []Column{ColumnPort, ColumnInterface, ColumnClient}, Interval: true}
		for _, client := range clientsOf(f.Forward, v) {
			if !client.IsValid() {
				client = v.allAddresses()
			}
			for _, port := range f.OutboundPorts() {
				b.add(clients, Element{Interface: f.Listen.Interface, Client: client,
					Ports: forward.PortRange{First: port, Last: port}})
			}
		}
		if b.sets[clients.Name] != nil && !slices.Contains(ports, f.Listen.Port) {
			ports = append(ports, f.Listen.Port)
			b.redirects = append(b.redirects, Rule{In{v, clients.Key, clients.Name}, ToOtherHost{},
				Redirect{f.Listen.Port}})
		}
	}
}

// hidesGateway reports whether a forward shows one end's address to the other.
func hidesGateway(f forward.Resolved) bool { return f.HidesGateway() }
