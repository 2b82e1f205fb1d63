package servercheck

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

// remedyOfAddress is how servers are told what to name in a 227.
const remedyOfAddress = "have the server name %s (pasv_address, MasqueradeAddress, ForcePassiveIP)"

// pasvAddress judges the address in a 227: whether clients are told it depends on the tracking.
func (j *judge) pasvAddress(v *visit) {
	if v.pasv == nil || !v.pasv.agreed() {
		return
	}
	named, own, at := v.pasv.named.Addr(), j.at.Addr(), j.forward.Listen.Addr
	what := fmt.Sprintf("the 227 names %s%s", named, kind(named, own))
	switch {
	case j.opaque() && named == at:
		j.say(CodePasvAddress, finding.OK, what+", the gateway's address, to which clients connect", "")
	case j.forward.Tracking == forward.TrackingNone:
		j.say(CodePasvAddress, finding.Warning, what+", and clients will get it as it is",
			fmt.Sprintf(remedyOfAddress, "the gateway's address")+`, have clients use EPSV, or set tracking = "proxy"`)
	case j.forward.PassesThrough():
		j.say(CodePasvAddress, finding.Info, what+", and clients that encrypt will get it as it is; the others get the gateway's address",
			"have clients that encrypt use EPSV, or "+fmt.Sprintf(remedyOfAddress, "the gateway's address"))
	case j.forward.Tracking == forward.TrackingKernel && named == own:
		j.say(CodePasvAddress, finding.OK, what+", in the place of which the kernel's helper puts the gateway's", "")
	case j.forward.Tracking == forward.TrackingKernel:
		j.say(CodePasvAddress, finding.Fault, what+": the kernel's helper leaves that alone, and clients will be told to connect there",
			fmt.Sprintf(remedyOfAddress, own.String())+`, or set tracking = "proxy"`)
	case named == own:
		j.say(CodePasvAddress, finding.OK, "clients will get the 227 with the gateway's address; the server names its own, "+named.String(), "")
	default:
		j.say(CodePasvAddress, finding.Info, fmt.Sprintf("clients will get the 227 with the gateway's address; the one that the server names, %s%s, is not used", named, kind(named, own)), "")
	}
}

// kind says what is remarkable about an address that a server names.
func kind(named, own netip.Addr) string {
	switch {
	case named == own:
		return ""
	case named.IsUnspecified():
		return " (no address at all)"
	case named.IsLoopback():
		return " (its own loopback)"
	case isInner(named) && isInner(own):
		return " (another private address)"
	case isInner(named):
		return " (a private address)"
	}
	return " (another public address)"
}

// isInner tells whether an address means something in its own network only: private (RFC 1918), of a
// provider (RFC 6598) or link-local.
func isInner(addr netip.Addr) bool {
	shared := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, 0}), 10)
	return addr.IsPrivate() || addr.IsLinkLocalUnicast() || addr.IsLoopback() || shared.Contains(addr)
}

// passive judges the listings over PASV and EPSV: one that works makes the fault of the other one that not
// all clients meet.
func (j *judge) passive(v *visit) {
	level := finding.Fault
	if v.passive(func(t *transfer) bool { return t.worked() }) != nil {
		level = finding.Warning
	}
	for _, t := range []*transfer{v.pasv, v.epsv} {
		if t == nil {
			continue
		}
		code := map[string]string{"PASV": CodePasv, "EPSV": CodeEpsv}[t.verb]
		if !j.agreed(code, level, v, t) {
			continue
		}
		if t.dial == nil {
			j.listing(code, level, t, fmt.Sprintf("over %s from port %d", t.verb, t.at.Port()))
			continue
		}
		text, _ := unreached(t.at, t.dial, t.took)
		if isTimeout(t.dial) { // the host is up: it has just answered
			text = fmt.Sprintf("no answer from %s within %s: a firewall drops the packets", t.at, rounded(t.took))
		}
		remedy := "have a firewall between this host and the server let the server's passive ports through; " +
			"if they are translated, the server must be set to the range that is (pasv_min_port, PassivePorts)"
		if errors.Is(t.dial, syscall.ECONNREFUSED) {
			remedy = "look whether a firewall rejects the server's passive ports, and whether the server listens for data at the address at which it is dialled"
		}
		if named := t.named.Addr(); t.verb == "PASV" && named != j.at.Addr() && !named.IsUnspecified() {
			text += fmt.Sprintf("; the server may take data at %s only, which its 227 names, and where the gateway does not go", named)
		}
		j.say(code, level, fmt.Sprintf("the passive port that %s gave cannot be connected to: %s", t.verb, text), remedy)
	}
}

// agreed judges what goes wrong before there is a data connection, and tells whether nothing did.
func (j *judge) agreed(code string, level finding.Severity, v *visit, t *transfer) bool {
	text, remedy := j.unwilling(t.verb, t.asked)
	v6 := j.at.Addr().Is6()
	switch {
	case t.shut:
		j.say(code, finding.Info, t.verb+" was not tried: the server did not let in again after what was tried before", "try again later")
	case text != "":
		j.say(code, level, text, remedy)
	case t.unread != nil:
		j.say(code, level, fmt.Sprintf("the answer to %s makes no sense: %s", t.verb, j.said(t.asked)), "bring the server up to date; a gateway in between may have changed the reply")
	case t.asked.positive() && t.passive() && t.named.Port() < forward.LowestDataPort:
		j.say(code, level, fmt.Sprintf("the server offers port %d for data, and clients will get 425: ports below %d are those of services", t.named.Port(), forward.LowestDataPort),
			fmt.Sprintf("have the server use passive ports from %d on", forward.LowestDataPort))
	case t.asked.positive():
		return true
	case t.passive() && !v6 && t.asked.Code/100 == 5 && level == finding.Warning && j.forward.Tracking == forward.TrackingProxy:
		other := map[string]string{"EPSV": "PASV", "PASV": "EPSV"}[t.verb]
		j.say(code, finding.OK, fmt.Sprintf("the server refuses %s, and the gateway asks it with %s in its place: clients will not notice (%s)", t.verb, other, j.said(t.asked)), "")
	case t.verb == "EPSV" && !v6 && t.asked.unknown() && level == finding.Warning:
		j.say(code, finding.Info, "the server does not know EPSV: clients must use PASV: "+j.said(t.asked), "")
	case t.passive():
		j.say(code, level, fmt.Sprintf("the server refuses %s: %s", t.verb, j.said(t.asked)), "switch passive mode on in the server, and look whether its passive ports are all taken: its log says")
	case t.verb == "EPRT" && !v6 && t.asked.unknown() && v.port != nil && v.port.asked.positive():
		j.say(code, finding.OK, "the server does not know EPRT, and PORT does the same over IPv4: "+j.said(t.asked), "")
	default:
		j.say(code, level, fmt.Sprintf("the server refuses %s to %s, and clients in active mode get that refusal: %s", t.verb, t.at, j.said(t.asked)), `allow active mode in the server, or `+toPassive)
	}
	return false
}

// toPassive is the remedy where a server cannot connect to the gateway.
const toPassive = `set server_mode = "passive" (tracking "proxy"): the gateway then asks for passive connections, whatever clients do`

// active judges the listings over PORT and EPRT.
func (j *judge) active(v *visit) {
	level, unused := finding.Warning, ""
	if j.forward.ServerMode == forward.ServerModePassive {
		level, unused = finding.Info, ` (not used: server_mode = "passive")`
	}
	switch {
	case v.notActive:
		j.say(CodePort, finding.Info, "active mode was not tried: the forward lets only passive data connections through", "")
		return
	case v.activeFamily:
		j.say(CodePort, finding.Info, fmt.Sprintf("active mode was not tried: the address for it is not of %s's family", j.at.Addr()), "")
		return
	case !j.terms.active && unused == "" && j.forward.Tracking != forward.TrackingNone:
		j.say(CodePort, finding.Info, "active mode was not tried, as it was not asked for", "try it with --active, where the server may connect to this host")
		return
	}
	for _, t := range []*transfer{v.port, v.eprt} {
		if t == nil {
			continue
		}
		code := map[string]string{"PORT": CodePort, "EPRT": CodeEprt}[t.verb]
		if t.listen != nil {
			j.say(code, finding.Info, t.verb+" was not tried: this host cannot listen for the server: "+quote(t.listen.Error()), "give an address of this host")
			continue
		}
		if j.agreed(code, level, v, t) {
			j.cameBack(code, level, t, unused)
		}
	}
}

// cameBack judges whether the server connected, from where, and what came.
func (j *judge) cameBack(code string, level finding.Severity, t *transfer, unused string) {
	switch {
	case t.from.IsValid():
		j.listing(code, level, t, "over "+t.verb+" from "+t.from.String()+unused)
	case t.stranger.IsValid():
		j.say(code, level, fmt.Sprintf("after %s a connection comes from %s, not from the server's %s: the gateway lets no such connection in", t.verb, t.stranger.Addr(), j.at.Addr()),
			"have the server's data leave from the address at which it is dialled (listen address, source address, its own NAT), or "+toPassive)
	case t.listed.err == nil && t.listed.Code != 425 && t.listed.Code != 426 && !t.listed.positive(), t.listed.err != nil && !isTimeout(t.listed.err):
		j.listing(code, level, t, "")
	default:
		said := "it did not answer LIST"
		if t.listed.err == nil {
			said = "it answered LIST with " + j.said(t.listed)
		}
		j.say(code, level, fmt.Sprintf("the server took %s and did not connect to %s within %s: %s", t.verb, t.at, rounded(j.limits.Data), said),
			"let the server connect to this host (from its port 20, or any), or "+toPassive)
	}
}

// listing judges what came after the connection.
func (j *judge) listing(code string, level finding.Severity, t *transfer, how string) {
	tls := ""
	switch {
	case t.resumed:
		tls = ", in TLS with the session of the control connection"
	case t.handed:
		tls = ", in TLS with a session of its own"
	}
	text, remedy := j.unwilling(fmt.Sprintf("LIST (over %s)", t.verb), t.listed)
	switch {
	case t.worked() && t.cut:
		j.say(code, finding.OK, fmt.Sprintf("a listing came %s, and was given up after %d MiB%s", how, maxListing>>20, tls), "")
	case t.worked():
		j.say(code, finding.OK, fmt.Sprintf("a listing of %d bytes came %s%s", t.bytes, how, tls), "")
	case t.other:
		j.say(code, level, "the data connection has another certificate than the control connection: it may lead to another server",
			"look what answers at the server's passive ports: several servers behind one address need one certificate")
	case t.unresumed():
		said := "it closed it in the TLS handshake"
		if t.listed.err == nil {
			said = "it said " + j.said(t.listed)
		}
		j.say(code, level, "the server refuses the data connection in TLS, most often for not resuming the control connection's session: "+said, reuseRemedy)
	case t.shake != nil && !t.refused(): // else the handshake was given up for the refusal
		text, remedy := handshakeFault(t.shake, true, j.limits.Data)
		j.say(code, level, "on the data connection "+text, remedy)
	case isTimeout(t.read) && (t.listed.positive() || t.listed.Code == 426 || isTimeout(t.listed.err)):
		j.say(code, level, fmt.Sprintf("the data connection of %s stood, and did not end within %s: %d bytes came", t.verb, rounded(j.limits.Data), t.bytes),
			"look for a firewall in between that holds data up, and at the MTU on the way (ping -M do -s 1472)")
	case t.open && t.read == nil && isTimeout(t.listed.err):
		j.say(code, level, fmt.Sprintf("%d bytes came over %s, and the server never said that they are all", t.bytes, t.verb), remedy)
	case text != "":
		j.say(code, level, text, remedy)
	case t.refused():
		j.unlisted(code, level, t)
	case t.read != nil:
		j.say(code, level, fmt.Sprintf("the data connection of %s broke after %d bytes: %s", t.verb, t.bytes, quote(t.read.Error())), atLog)
	default:
		j.say(code, level, "the server said "+j.said(t.listed)+", and no data connection came about", atLog)
	}
}

// unlisted judges a refusal of the listing itself.
func (j *judge) unlisted(code string, level finding.Severity, t *transfer) {
	said := j.said(t.listed)
	switch {
	case slices.Contains([]int{550, 450, 530, 553}, t.listed.Code) && !t.listed.wantsTLS():
		text := fmt.Sprintf("after %s the server refuses the listing, so that no data came: %s", t.verb, said)
		if t.passive() {
			text = fmt.Sprintf("the port %d of %s was connected to, and the server refuses the listing: %s", t.at.Port(), t.verb, said)
		}
		j.say(code, finding.Info, text, "try with a user who may read the directory in which the login ends")
	case (t.listed.Code == 521 || t.listed.wantsTLS()) && j.forward.TLS.Server == forward.ServerTLSOff:
		j.say(code, level, "the server sends no data in clear: "+said, `set tls.server = "required" with server_data = "private"`)
	case t.listed.Code == 521 || t.listed.wantsTLS():
		j.say(code, level, "the server wants data protected in another way (PROT): "+said, `set server_data to the other one of "private" and "clear"`)
	case t.listed.Code == 425:
		j.say(code, level, "the server found no data connection: "+said,
			"look at the server's log, and for a firewall in between; some servers want data from the very address of the control connection")
	default:
		j.say(code, level, fmt.Sprintf("the listing broke off after %d bytes: %s", t.bytes, said), atLog)
	}
}

// refused tells whether the server has said no to the listing.
func (t *transfer) refused() bool { return t.listed.err == nil && !t.listed.positive() }

// unresumed tells whether the server did not take the data connection in TLS, which it does without a word of
// TLS, with 522 (vsftpd) or 425 (proftpd) on the control connection.
func (t *transfer) unresumed() bool {
	text := strings.ToUpper(t.listed.Text())
	switch {
	case t.refused() && t.listed.Code == 522:
		return true
	case t.shake == nil:
		return false
	case t.refused() && (strings.Contains(text, "REUSE") || strings.Contains(text, "RESUM") || strings.Contains(text, "SESSION")):
		return true
	}
	return isEnd(t.shake) && (!t.refused() || t.listed.Code == 425 || t.listed.Code == 426)
}

// reuseRemedy is for data connections in TLS that a server does not take although they ask to resume.
const reuseRemedy = "look at the server's log and its setting for session reuse (require_ssl_reuse, TLSOptions NoSessionReuseRequired): " +
	"the data connection asks to resume wherever the server has given out a ticket for it"

// ports judges the passive ports that were seen.
func (j *judge) ports(v *visit) {
	if len(v.ports) == 0 {
		return
	}
	seen := forward.PortRange{First: slices.Min(v.ports), Last: slices.Max(v.ports)}
	want := j.forward.ServerPorts
	i := slices.IndexFunc(v.ports, func(p uint16) bool { return !want.Contains(p) })
	text := fmt.Sprintf("the %d passive ports that were seen lie within %s", len(v.ports), seen)
	switch {
	case !j.opaque():
		j.say(CodePorts, finding.OK, text, "")
	case i < 0:
		j.say(CodePorts, finding.OK, fmt.Sprintf("%s, and so within server_ports (%s)", text, want), "")
	default:
		level, whose := finding.Fault, "clients"
		if j.forward.PassesThrough() {
			level, whose = finding.Warning, "clients that encrypt"
		}
		j.say(CodePorts, level, fmt.Sprintf("the server gave port %d, which is not within server_ports (%s): %s cannot connect to it", v.ports[i], want, whose),
			"set server_ports, and the server's own range (pasv_min_port, PassivePorts), to the same")
	}
}
