package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

// check finds the faults of the whole text: missing keys, and contradictions.
func (d *document) check(file string) {
	whole := d.forwards
	if d.broken && len(whole) > 0 { // the last one may continue after the fault: do not check it
		whole = whole[:len(whole)-1]
	}
	if len(d.forwards) == 0 && !d.mentioned && !d.broken {
		d.report(nil, 0, forwardTable.name(), "no [[forward]] in %s: an example: [[forward]], "+
			"on a line below it listen = %s, and on another server = %s",
			file, keys[keyIndex["listen"]].Example, keys[keyIndex["server"]].Example)
	}
	for _, f := range whole {
		if f.Transparent() {
			f.Listen.Port = uint16(cmp.Or(f.Outbound.RedirectPort, forward.DefaultRedirectPort))
		}
		f.checkMissing(d)
		f.checkClients(d)
		f.checkNeeds(d)
	}
	giveNames(whole)
	d.checkTogether(whole)
	if !d.broken { // missing keys may follow the fault
		d.checkAdmin(whole)
	}
}

func (f *forwardSection) checkMissing(d *document) {
	if f.Transparent() && !f.state("interface").given {
		f.state("interface").bad = true
		d.report(f, f.header, "interface", "interface is missing: say on which interface the clients are, "+
			"like interface = %s", keys[keyIndex["interface"]].Example)
	}
	for i := range keys[:forwardKeyCount] {
		if k := &keys[i]; k.missing != "" && f.table == forwardTable && !f.states[i].given {
			f.states[i].bad = true
			d.report(f, f.header, k.Name, "%s is missing: %s, like %s = %s",
				k.Name, k.missing, k.Name, k.Example)
		}
	}
}

// checkClients finds clients that another one of the same forward covers. It tries every prefix length, not
// every pair.
func (f *forwardSection) checkClients(d *document) {
	if len(f.clients) < 2 {
		return
	}
	first := map[netip.Prefix]int{}
	var lengths [129]bool // of the prefixes; 128 bits are the longest
	for i, c := range f.clients {
		if _, again := first[c.Prefix]; !again {
			first[c.Prefix] = i
		}
		lengths[c.Bits()] = true
	}
	const key = "clients"
	for i, c := range f.clients {
		if first[c.Prefix] != i {
			d.report(f, c.at, key, "client %q is listed twice", c.text)
			continue
		}
		for bits := range c.Bits() {
			if !lengths[bits] {
				continue
			}
			wider, _ := c.Addr().Prefix(bits) // cannot fail: bits are fewer than the client's
			if j, listed := first[wider]; listed {
				d.report(f, c.at, key, "client %q is covered by %q", c.text, f.clients[j].text)
				break
			}
		}
	}
}

// checkNeeds finds keys without effect: those of a proxy with another tracking, and those of a side without
// TLS.
func (f *forwardSection) checkNeeds(d *document) {
	v := f.standIn()
	if v.Tracking == f.Tracking {
		v.PassivePorts = f.PassivePorts // they stand alone here, wherever the forward listens
	}
	set := values{Forward: &v}
	for i := range keys[:forwardKeyCount] {
		k := &keys[i]
		if k.Needs == "" || !k.isSet(set) {
			continue
		}
		switch {
		case v.Tracking != forward.TrackingProxy:
			d.report(f, f.placeOf(k.Name), k.Name,
				"%s is for tracking proxy; tracking %s leaves the dialogue as it is", k.Name, v.Tracking)
		case k.Needs == NeedClientTLS && v.TLS.Client == forward.ClientTLSOff,
			k.Needs == NeedServerTLS && v.TLS.Server == forward.ServerTLSOff:
			d.report(f, f.placeOf(k.Name), k.Name,
				"%s has no effect while %s is off: set %[2]s = \"required\", or leave %[1]s out",
				k.Name, k.Needs)
		}
	}
}

// giveNames names the forwards that have no name after their listen address. If another fault gives two of
// them one address, or none that can be read, the name is the forward's number.
func giveNames(forwards []*forwardSection) {
	taken := map[forward.Listen]bool{}
	for _, f := range forwards {
		s := f.state("name")
		switch {
		case s.given && !s.bad:
		case s.bad || f.badListen() || taken[f.Listen]:
			f.Name = fmt.Sprintf("number %d", f.number)
		default:
			taken[f.Listen] = true
			f.Name = f.Listen.String()
			if f.Transparent() {
				f.Name = "outbound on " + f.Listen.Interface
				if f.Outbound.RedirectPort != 0 {
					f.Name = fmt.Sprintf("%s port %d", f.Name, f.Listen.Port)
				}
			}
		}
	}
}

// checkTogether reports the faults of forward.Check, at the places of the keys.
func (d *document) checkTogether(forwards []*forwardSection) {
	checked := make([]forward.Forward, len(forwards))
	for i, f := range forwards {
		checked[i] = f.standIn()
	}
	report := func(f *forwardSection, fault finding.Finding) {
		d.report(f, f.placeOf(fault.Key), fault.Key, "%s", fault.Text)
	}
	for i, faults := range forward.Check(checked) {
		for _, fault := range faults {
			if f := forwards[i]; !f.isEcho(fault.Key) {
				report(f, fault)
			}
		}
	}
	for i, f := range forwards { // the ports that standIn has kept from the others, by themselves
		if !f.badListen() {
			continue
		}
		checked[i].ServerPorts = f.ServerPorts
		if checked[i].Tracking == f.Tracking {
			checked[i].PassivePorts = f.PassivePorts
		}
		for _, fault := range slices.Concat(forward.Check(checked[i : i+1])...) {
			if fault.Key == "server_ports" && !f.ServerPorts.IsEmpty() || fault.Key == "passive_ports" {
				report(f, fault)
			}
		}
	}
}
