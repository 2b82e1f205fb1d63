package config

import (
	"fmt"
	"net/netip"
	"strings"

	"ftpgate/internal/core/forward"
)

// check finds what only the whole text shows: what is missing, and what does not go together.
func (d *document) check(file string) {
	whole := d.forwards
	if d.broken && len(whole) > 0 { // the last one may go on below: do not judge it
		whole = whole[:len(whole)-1]
	}
	if len(d.forwards) == 0 && !d.mentioned && !d.broken {
		d.report(0, topKeys[topForward], "no [[forward]] in %s: an example: [[forward]], on a line below it listen = %s, and on another server = %s",
			file, forwardKeys[keyListen].want, forwardKeys[keyServer].want)
	}
	for _, f := range whole {
		f.checkMissing(d)
		f.checkClients(d)
	}
	giveNames(whole)
	d.checkTogether(whole)
	if !d.broken { // what is missing may stand below
		d.checkSections(whole)
	}
}

func (f *forwardSection) checkMissing(d *document) {
	for i := range forwardKeys {
		if k := &forwardKeys[i]; k.missing != "" && !f.slots[i].given {
			f.slots[i].bad = true
			f.report(d, f.header, k.name, "%s is missing: %s, like %s = %s", k.name, k.missing, k.name, k.want)
		}
	}
}

// checkClients finds clients that another one of the same forward makes superfluous. It asks
// for every length of prefix, not for every pair.
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
	key := forwardKeys[keyClients].name
	for i, c := range f.clients {
		if first[c.Prefix] != i {
			f.report(d, c.at, key, "client %q is listed twice", c.text)
			continue
		}
		for bits := range c.Bits() {
			if !lengths[bits] {
				continue
			}
			wider, _ := c.Addr().Prefix(bits) // cannot fail: bits are fewer than the client's
			if j, listed := first[wider]; listed {
				f.report(d, c.at, key, "client %q is covered by %q", c.text, f.clients[j].text)
				break
			}
		}
	}
}

// giveNames gives names to the forwards that have none. Where that would be a name given twice
// because of another fault (the same listen address, or none that can be read), it is the number.
func giveNames(forwards []*forwardSection) {
	taken := map[forward.Listen]bool{}
	for _, f := range forwards {
		if s := f.slots[keyName]; s.given && !s.bad {
			continue
		}
		if f.slots[keyName].bad || f.badListen() || taken[f.Listen] {
			f.Name = fmt.Sprintf("number %d", f.number)
			continue
		}
		taken[f.Listen] = true
		f.Name = f.Listen.String()
	}
}

// checkTogether reports what dnat.Check finds, at the places of the keys.
func (d *document) checkTogether(forwards []*forwardSection) {
	values := make([]forward.Forward, len(forwards))
	for i, f := range forwards {
		values[i] = f.standIn()
	}
	report := func(f *forwardSection, fault forward.Fault) {
		at, i := f.header, forwardKeyIndex(fault.Key)
		switch {
		case i >= 0 && f.slots[i].given:
			at = f.slots[i].at
		case strings.HasPrefix(fault.Key, tlsPrefix) && f.tls.given:
			at = f.tls.at
		}
		f.report(d, at, fault.Key, "%s", fault.Text)
	}
	for _, fault := range forward.Check(values) {
		if f := forwards[fault.Forward]; !f.excused(fault.Key) {
			report(f, fault)
		}
	}
	for i, f := range forwards { // those whose ports standIn has withheld from the others
		if !f.badListen() {
			continue
		}
		values[i].ServerPorts = f.ServerPorts
		if values[i].Tracking == f.Tracking {
			values[i].PassivePorts = f.PassivePorts
		}
		for _, fault := range forward.Check(values[i : i+1]) {
			if k := forwardKeyIndex(fault.Key); k == keyServerPorts && !f.ServerPorts.IsEmpty() || k == keyPassivePorts {
				report(f, fault)
			}
		}
	}
}

// badListen tells whether it is unknown where the forward listens.
func (f *forwardSection) badListen() bool {
	return f.slots[keyListen].bad || f.slots[keyInterface].bad
}

// standIn is the forward as dnat.Check shall see it: what could not be read is replaced by what
// claims nothing and contradicts nothing, so that one mistake is one fault.
func (f *forwardSection) standIn() forward.Forward {
	v := f.Forward
	v.TLS = f.standInTLS()
	if f.badListen() {
		v.Listen, v.ServerPorts, v.PassivePorts = forward.Listen{}, forward.PortRange{}, forward.PortRange{}
	}
	if f.slots[keyServer].bad {
		v.Server = forward.Server{Port: v.Listen.Port}
	}
	if f.slots[keyTracking].bad && !f.ServerPorts.IsEmpty() {
		v = forward.Forward{Name: v.Name, Listen: v.Listen, Server: v.Server, Tracking: forward.TrackingNone,
			Clients: v.Clients, ServerPorts: v.ServerPorts} // without what is for a proxy
	}
	if f.slots[keyClients].bad && len(v.Clients) == 0 {
		v.Clients = []netip.Prefix{netip.PrefixFrom(v.Listen.Addr, v.Listen.Addr.BitLen())}
	}
	return v
}

// excused tells whether a fault at the key is only an echo of one that is reported already.
func (f *forwardSection) excused(key string) bool {
	i := forwardKeyIndex(key)
	switch i {
	case keyListen:
		return f.badListen()
	case keyServer: // on loopback it may be where listen is, too
		server, _ := f.Server.Addr()
		return f.badListen() && f.Tracking == forward.TrackingProxy && server.IsLoopback()
	case keyServerPorts:
		return f.slots[i].bad || f.badListen() && !f.ServerPorts.IsEmpty()
	case keyName:
		return f.slots[i].bad
	}
	return false
}
