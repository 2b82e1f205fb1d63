package forward

import (
	"fmt"
	"net/netip"
)

// givenKey is a key of a forward, and whether what it says of it is more than the default.
type givenKey struct {
	name  string
	given bool
}

// clientKeys are the keys that say how TLS is spoken with clients.
func (t TLS) clientKeys() []givenKey {
	return []givenKey{
		{"tls.implicit", t.Implicit},
		{"tls.cert", t.Cert != ""},
		{"tls.key", t.Key != ""},
		{"tls.session_reuse", t.SessionReuseOptional},
		{"tls.ccc", t.CCC},
		{"tls.client_close_notify", t.ClientCloseNotifyOptional},
	}
}

// serverKeys are the keys that say how TLS is spoken with the server.
func (t TLS) serverKeys() []givenKey {
	return []givenKey{
		{"tls.server_data", t.ServerDataClear},
		{"tls.ca", t.CA != ""},
		{"tls.server_name", t.ServerName != ""},
		{"tls.client_cert", t.ClientCert != ""},
		{"tls.client_key", t.ClientKey != ""},
		{"tls.verify", t.Insecure},
		{"tls.server_close_notify", t.ServerCloseNotifyOptional},
	}
}

// checkTLS finds the faults of what a proxy does about FTPS.
func checkTLS(f Forward, fault func(key, format string, args ...any)) {
	t := f.TLS
	if t.Client == ClientTLSOff {
		checkIdle(t.clientKeys(), "tls.client", fault)
	} else {
		checkClientTLS(t, fault)
	}
	if t.Server == ServerTLSOff {
		checkIdle(t.serverKeys(), "tls.server", fault)
	} else {
		checkServerTLS(t, fault)
	}
	if key, value, seals := f.encryptsItself(); seals && f.Data == DataKernel {
		fault("data", "%s %s has transfers encrypted by ftpgate itself: data kernel cannot carry them, data auto can", key, value)
	}
}

// encryptsItself tells whether ftpgate itself may have to encrypt data, and which key asks for it.
func (f Forward) encryptsItself() (key, value string, seals bool) {
	switch t := f.TLS; {
	case t.Client != ClientTLSOff:
		return "tls.client", t.Client.String(), true
	case t.Server != ServerTLSOff && !t.ServerDataClear:
		return "tls.server", t.Server.String(), true
	}
	return "", "", false
}

// checkIdle refuses what would change nothing, because a side speaks no TLS.
func checkIdle(keys []givenKey, side string, fault func(key, format string, args ...any)) {
	for _, k := range keys {
		if k.given {
			fault(k.name, "%s means nothing while %s is off: want %s = \"required\", or leave %s out", k.name, side, side, k.name)
		}
	}
}

// checkClientTLS finds the faults of TLS with clients.
func checkClientTLS(t TLS, fault func(key, format string, args ...any)) {
	if t.Implicit && t.Client != ClientTLSRequired {
		fault("tls.implicit", "tls.implicit begins with TLS and never has plain text: want tls.client = \"required\", not %s", t.Client)
	}
	switch {
	case t.Cert == "":
		fault("tls.cert", "tls.client %s needs a certificate: tls.cert names its file; for trying things out, tls.cert = %q has one made",
			t.Client, SelfSigned)
	case t.Cert == SelfSigned && t.Key != "":
		fault("tls.key", "tls.cert = %q has ftpgate make the key, too: leave tls.key out", SelfSigned)
	}
}

// checkServerTLS finds the faults of TLS with the server.
func checkServerTLS(t TLS, fault func(key, format string, args ...any)) {
	if t.ClientKey != "" && t.ClientCert == "" {
		fault("tls.client_key", "tls.client_key belongs to a certificate: name its file with tls.client_cert, or leave tls.client_key out")
	}
	if t.Insecure && t.CA != "" {
		fault("tls.ca", "tls.ca says whom to trust, and tls.verify = \"insecure\" trusts everybody: leave one of them out")
	}
	if t.Insecure && t.ServerName != "" {
		fault("tls.server_name", "tls.server_name says whose certificate is good, and with tls.verify = \"insecure\" every one is: leave one of them out")
	}
}

// checkPassthrough finds the faults of a proxy's server_ports: the ports that a client reaches one to one
// while it has an encrypted session.
func checkPassthrough(f Forward, fault func(key, format string, args ...any)) {
	switch ports, t := f.ServerPorts, f.TLS; {
	case t.Client != ClientTLSOff:
		fault("server_ports", "server_ports has encrypted sessions pass through, and tls.client %s ends them here: leave one of them out", t.Client)
	case t.Server != ServerTLSOff:
		fault("server_ports", "server_ports has encrypted sessions pass through, and tls.server %s begins them here: leave one of them out", t.Server)
	case ports.First < LowestDataPort:
		fault("server_ports", "server_ports %s: the ports below %d are those of services: want the server's passive ports, within \"%s\"",
			ports, LowestDataPort, PortRange{LowestDataPort, 60999})
	case ports.Contains(f.Listen.Port):
		fault("server_ports", "listen port %d lies within server_ports %s: a client with an encrypted session could not begin another one",
			f.Listen.Port, ports)
	case f.whyRelayOnly() != "" && int(ports.Last-ports.First) >= MaxRelayedPorts:
		fault("server_ports", "server_ports %s are %d ports, and %s at most %d can be opened: name the server's passive ports, and no more",
			ports, ports.Last-ports.First+1, f.whyRelayOnly(), MaxRelayedPorts)
	case f.PassivePorts.IsEmpty() && ports.First <= DefaultPassivePorts.First && ports.Last == DefaultPassivePorts.Last:
		fault("server_ports", "server_ports %s leave no port for data in clear: give the forward passive_ports outside of them, or leave out some ports above %d",
			ports, DefaultPassivePorts.First)
	case ports.Overlaps(f.PassivePorts) && f.PassivePorts.First >= LowestDataPort: // else that is the fault
		fault("passive_ports", "passive_ports %s overlap server_ports %s of the same forward: the first are for data in clear, the others for encrypted sessions",
			f.PassivePorts, ports)
	}
}

// whyRelayOnly says why the kernel can carry no data connection of the forward, and "" where it may.
func (f Forward) whyRelayOnly() string {
	server, literal := f.Server.Addr()
	switch {
	case f.Data == DataRelay:
		return "with data relay"
	case literal && f.Listen.Addr.IsValid() && !f.Listen.AcceptsFamily(server):
		return "between IPv4 and IPv6"
	case f.Listen.Addr.IsLoopback():
		return "on loopback"
	}
	return ""
}

// reservedPorts returns the ports at the listen address that lead, or may lead for some client, to the
// server. What is a fault by itself is left out: it is told once.
func (f Forward) reservedPorts() PortRange {
	if f.Tracking == TrackingNone || f.PassesThrough() && f.ServerPorts != AllPorts {
		return f.ServerPorts
	}
	return PortRange{}
}

// CheckServerName tells what is wrong with a name that a server's certificate shall have: it is a host
// name (RFC 6125 section 6.4) or an address.
func CheckServerName(name string) error {
	if addr, err := netip.ParseAddr(name); err == nil && addr.Zone() == "" {
		return nil
	}
	if !isHostName(name) {
		return fmt.Errorf("tls.server_name %q is neither an IP address nor a host name", name)
	}
	return nil
}

// FTPS says which way an encrypted session takes through the forward, and why, in words for an
// operator: "passed through", "terminated", "originated", "re-encrypted", "refused", or "fails".
func (f Forward) FTPS() (way, why string) {
	t := f.TLS
	switch {
	case f.Tracking == TrackingKernel:
		return "fails", "nobody refuses it, and the kernel's helper cannot read it; tracking proxy can carry it"
	case f.Tracking == TrackingNone:
		return "passed through", fmt.Sprintf("with tracking none server_ports %s are open to every client at any time, for passive mode only", f.ServerPorts)
	case t.Client != ClientTLSOff && t.Server != ServerTLSOff:
		return "re-encrypted", t.clientLeg() + ", " + t.serverLeg()
	case t.Client != ClientTLSOff:
		return "terminated", t.clientLeg() + ", the server gets plain FTP"
	case t.Server != ServerTLSOff:
		return "originated", "clients speak plain FTP and AUTH is answered with 534, " + t.serverLeg()
	case f.PassesThrough():
		return "passed through", fmt.Sprintf("server_ports %s are open to a client while it has an encrypted session, for passive mode only", f.ServerPorts)
	}
	return "refused", "neither server_ports nor [forward.tls] says how: AUTH is answered with 534"
}

// clientLeg says what is spoken with clients.
func (t TLS) clientLeg() string {
	switch {
	case t.Implicit:
		return "clients must begin with TLS (implicit)"
	case t.Client == ClientTLSRequired:
		return "clients must ask for TLS"
	}
	return "clients may ask for TLS"
}

// serverLeg says what is spoken with the server.
func (t TLS) serverLeg() string {
	s := "the server gets TLS"
	if t.Server == ServerTLSImplicit {
		s += " (implicit)"
	}
	if t.ServerDataClear {
		s += " and data in clear"
	}
	if t.Insecure {
		s += ", its certificate is not verified"
	}
	return s
}
