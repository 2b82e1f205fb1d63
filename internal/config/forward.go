package config

import (
	"fmt"
	"net/netip"

	"ftpgate/internal/core/forward"
)

// forwardSection is a [[forward]] or [[outbound]] table: the forward, and where each key of it stands.
type forwardSection struct {
	forward.Forward
	table   table      // forwardTable or outboundTable
	number  int        // from 1, among those of its table
	header  int        // offset
	inline  bool       // an element of forward = [...]
	states  []keyState // by the index in keys
	tls     tableState
	clients []client
}

// client is one of Forward.Clients, as written and where.
type client struct {
	netip.Prefix
	text string
	at   int
}

func (f *forwardSection) state(name string) *keyState { return &f.states[keyIndex[name]] }

// label is how messages call the forward: by a name only if the file gives one.
func (f *forwardSection) label() string {
	if s := f.state("name"); s.given && !s.bad {
		return fmt.Sprintf("%s %d (%q)", f.table.name(), f.number, f.Name)
	}
	return fmt.Sprintf("%s %d", f.table.name(), f.number)
}

// badListen reports whether it is unknown where the forward listens.
func (f *forwardSection) badListen() bool { return f.state("listen").bad || f.state("interface").bad }

// standIn is the forward for forward.Check: what could not be read is replaced by what claims nothing and
// contradicts nothing, so that one mistake is one fault.
func (f *forwardSection) standIn() forward.Forward {
	v := f.Forward
	v.TLS = f.standInTLS()
	if f.badListen() {
		v.Listen, v.ServerPorts, v.PassivePorts = forward.Listen{}, forward.PortRange{}, forward.PortRange{}
	}
	if f.state("server").bad {
		v.Server = forward.Server{Port: v.Listen.Port}
	}
	if f.state("tracking").bad && !f.ServerPorts.IsEmpty() {
		v = forward.Forward{Name: v.Name, Listen: v.Listen, Server: v.Server, Tracking: forward.TrackingNone,
			Clients: v.Clients, ServerPorts: v.ServerPorts} // without what is for a proxy
	}
	if f.state("clients").bad && len(v.Clients) == 0 {
		v.Clients = []netip.Prefix{netip.PrefixFrom(v.Listen.Addr, v.Listen.Addr.BitLen())}
	}
	return v
}

// standInTLS is the TLS of standIn: a side whose main key could not be read asks for nothing, and what
// belongs to an unreadable key is left out with it.
func (f *forwardSection) standInTLS() forward.TLS {
	t := f.TLS
	if f.state("tls.client").bad {
		t = t.ServerSide()
	}
	if f.state("tls.cert").bad && t.Client != forward.ClientTLSOff {
		t.Cert = "unknown"
	}
	if f.state("tls.server").bad {
		t = t.ClientSide()
	}
	if f.state("tls.client_cert").bad {
		t.ClientKey = ""
	}
	if f.state("tls.client_ca").bad || f.state("tls.client_auth").bad {
		t.ClientCA, t.ClientAuthOptional, t.ClientCRL = "", false, ""
	}
	return t
}

// isEcho reports whether a fault at the key only repeats one that is reported already.
func (f *forwardSection) isEcho(key string) bool {
	switch key {
	case "listen", "interface":
		return f.badListen()
	case "server": // on loopback it may be where listen is, too
		server, _ := f.Server.Addr()
		return f.badListen() && f.Tracking == forward.TrackingProxy && server.IsLoopback()
	case "server_ports":
		return f.state(key).bad || f.badListen() && !f.ServerPorts.IsEmpty()
	case "name":
		return f.state(key).bad
	}
	return false
}

// placeOf returns where a fault at the key stands: at its value, or else at the table tls, or the header.
func (f *forwardSection) placeOf(key string) int {
	i, known := keyIndex[key]
	switch {
	case known && f.states[i].given:
		return f.states[i].at
	case known && keys[i].table == tlsTable && f.tls.given:
		return f.tls.at
	}
	return f.header
}
