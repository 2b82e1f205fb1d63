package servercheck

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/ftpclient"
)

// remedyAddress says how to make servers name an address in the 227.
const remedyAddress = "have the server name %s (pasv_address, MasqueradeAddress, ForcePassiveIP)"

// pasvAddress judges the address in a 227. Whether clients see it depends on the tracking.
func (j *judge) pasvAddress(try *attempt) {
	if try.pasv == nil || !try.pasv.negotiated() {
		return
	}
	named, own, at := try.pasv.place.Addr(), j.at.Addr(), j.forward.Listen.Addr
	what := fmt.Sprintf("the 227 names %s%s", named, addressKind(named, own))
	switch {
	case j.passesTLS() && named == at:
		j.note(CodePasvAddress, finding.OK, "%s, the gateway's address, to which clients connect", what)
	case j.forward.Tracking == forward.TrackingNone:
		j.add(CodePasvAddress, finding.Warning, what+", and clients will get it as it is",
			fmt.Sprintf(remedyAddress,
				"the gateway's address")+`, have clients use EPSV, or set tracking = "proxy"`)
	case j.forward.PassesThrough():
		j.add(CodePasvAddress, finding.Info,
			what+", and clients that encrypt will get it as it is; the others get the gateway's address",
			"have clients that encrypt use EPSV, or "+fmt.Sprintf(remedyAddress, "the gateway's address"))
	case j.forward.Tracking == forward.TrackingKernel && named == own:
		j.note(CodePasvAddress, finding.OK, "%s, which the kernel's helper replaces with the gateway's", what)
	case j.forward.Tracking == forward.TrackingKernel:
		j.add(CodePasvAddress, finding.Fault,
			what+": the kernel's helper does not change that, and clients will be told to connect there",
			fmt.Sprintf(remedyAddress, own.String())+`, or set tracking = "proxy"`)
	case named == own:
		j.note(CodePasvAddress, finding.OK, "clients will get the 227 with the gateway's address; the "+
			"server names its own, %s", named.String())
	default:
		j.note(CodePasvAddress, finding.Info, "clients will get the 227 with the gateway's address; the "+
			"one that the server names, %s%s, is not used", named, addressKind(named, own))
	}
}

// addressKind describes an address that a server names, if it is not the server's own.
func addressKind(named, own netip.Addr) string {
	switch {
	case named == own:
		return ""
	case named.IsUnspecified():
		return " (no address at all)"
	case named.IsLoopback():
		return " (its own loopback)"
	case isPrivate(named) && isPrivate(own):
		return " (another private address)"
	case isPrivate(named):
		return " (a private address)"
	}
	return " (another public address)"
}

// isPrivate reports whether an address is valid only in its own network: private (RFC 1918), a provider's
// (RFC 6598) or link-local.
func isPrivate(addr netip.Addr) bool {
	shared := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, 0}), 10)
	return addr.IsPrivate() || addr.IsLinkLocalUnicast() || addr.IsLoopback() || shared.Contains(addr)
}

// passive judges the listings over PASV and EPSV. If one works, a fault of the other is a warning: not all
// clients use it.
func (j *judge) passive(try *attempt) {
	level := finding.Fault
	if try.firstPassive(func(t *transfer) bool { return t.worked() }) != nil {
		level = finding.Warning
	}
	for _, t := range []*transfer{try.pasv, try.epsv} {
		if t == nil {
			continue
		}
		code := map[ftpclient.Mode]string{"PASV": CodePasv, "EPSV": CodeEpsv}[t.mode]
		if !j.negotiated(code, level, try, t) {
			continue
		}
		if t.dialErr == nil {
			j.listing(code, level, t, fmt.Sprintf("over %s from port %d", t.mode, t.at.Port()))
			continue
		}
		text, _ := dialFailure(t.at, t.dialErr, t.dialTook)
		if isTimeout(t.dialErr) { // the host is up: it has just answered
			text = fmt.Sprintf("no answer from %s within %s: a firewall drops the packets", t.at,
				rounded(t.dialTook))
		}
		remedy := "have a firewall between this host and the server let the server's passive ports " +
			"through; " +
			"if they are translated, the server must be set to the range that is (pasv_min_port, " +
			"PassivePorts)"
		if errors.Is(t.dialErr, syscall.ECONNREFUSED) {
			remedy = "check whether a firewall rejects the server's passive ports, and whether the server " +
				"listens for data at the address that the gateway connects to"
		}
		if named := t.place.Addr(); t.mode == "PASV" && named != j.at.Addr() && !named.IsUnspecified() {
			text += fmt.Sprintf("; the server may accept data at %s only, which its 227 names and the "+
				"gateway never uses", named)
		}
		j.add(code, level, fmt.Sprintf("the passive port that %s gave cannot be connected to: %s", t.mode,
			text), remedy)
	}
}

// negotiated judges failures before the data connection, and reports whether there were none.
func (j *judge) negotiated(code string, level finding.Severity, try *attempt, t *transfer) bool {
	text, remedy := j.commandFailure(string(t.mode), t.reply)
	v6 := j.at.Addr().Is6()
	switch {
	case t.skipped:
		j.add(code, finding.Info,
			string(t.mode)+" was not tried: the server did not accept this host again after the step before",
			"try again later")
	case text != "":
		j.add(code, level, text, remedy)
	case t.replyErr != nil:
		j.add(code, level, fmt.Sprintf("cannot parse the reply to %s: %s", t.mode, j.quoteReply(t.reply)),
			"bring the server up to date; a gateway in between may have changed the reply")
	case t.reply.positive() && t.passive() && t.place.Port() < forward.LowestDataPort:
		j.add(code, level,
			fmt.Sprintf("the server offers port %d for data, and clients will get 425: ports below %d "+
				"belong to services", t.place.Port(), forward.LowestDataPort),
			fmt.Sprintf("have the server use passive ports from %d on", forward.LowestDataPort))
	case t.reply.positive():
		return true
	case t.passive() && !v6 && t.reply.Code/100 == 5 && level == finding.Warning &&
		j.forward.Tracking == forward.TrackingProxy:
		other := map[ftpclient.Mode]ftpclient.Mode{"EPSV": "PASV", "PASV": "EPSV"}[t.mode]
		j.note(code, finding.OK, "the server refuses %s, and the gateway sends it %s instead: clients "+
			"will not notice (%s)", t.mode, other, j.quoteReply(t.reply))
	case t.mode == "EPSV" && !v6 && t.reply.unknown() && level == finding.Warning:
		j.note(code, finding.Info, "the server does not know EPSV: clients must use PASV: %s",
			j.quoteReply(t.reply))
	case t.passive():
		j.add(code, level, fmt.Sprintf("the server refuses %s: %s", t.mode, j.quoteReply(t.reply)),
			"switch passive mode on in the server, and check whether its passive ports are all in use: its "+
				"log says")
	case t.mode == "EPRT" && !v6 && t.reply.unknown() && try.port != nil && try.port.reply.positive():
		j.note(code, finding.OK, "the server does not know EPRT, and PORT does the same over IPv4: %s",
			j.quoteReply(t.reply))
	default:
		j.add(code, level,
			fmt.Sprintf("the server refuses %s to %s, and clients in active mode get that refusal: %s",
				t.mode, t.at, j.quoteReply(t.reply)), `allow active mode in the server, or `+remedyPassive)
	}
	return false
}

// remedyPassive is for servers that cannot connect to the gateway.
const remedyPassive = `set server_mode = "passive" (tracking "proxy"): ` +
	"the gateway then asks for passive connections, whatever clients do"

// active judges the listings over PORT and EPRT.
func (j *judge) active(try *attempt) {
	level, unused := finding.Warning, ""
	if j.forward.ServerMode == forward.ServerModePassive {
		level, unused = finding.Info, ` (not used: server_mode = "passive")`
	}
	switch {
	case try.activeUnused:
		j.note(CodePort, finding.Info, "active mode not tested: the forward lets only passive data "+
			"connections through")
		return
	case !j.setting.active && unused == "" && j.forward.Tracking != forward.TrackingNone:
		j.add(CodePort, finding.Info, "active mode not tested; use --active",
			"try it with --active if the server may connect to this host")
		return
	}
	for _, t := range []*transfer{try.port, try.eprt} {
		if t == nil {
			continue
		}
		code := map[ftpclient.Mode]string{"PORT": CodePort, "EPRT": CodeEprt}[t.mode]
		if t.listenErr != nil {
			j.add(code, finding.Info,
				string(t.mode)+" not tested: this host cannot listen for the server: "+
					quote(t.listenErr.Error()), "give an address of this host")
			continue
		}
		if j.negotiated(code, level, try, t) {
			j.serverConnected(code, level, t, unused)
		}
	}
}

// serverConnected judges whether the server connected, from where, and what it sent.
func (j *judge) serverConnected(code string, level finding.Severity, t *transfer, unused string) {
	switch {
	case t.from.IsValid():
		j.listing(code, level, t, fmt.Sprintf("over %s from %s%s", t.mode, t.from, unused))
	case t.unexpectedPeer.IsValid():
		j.add(code, level,
			fmt.Sprintf("after %s a connection comes from %s instead of %s: the gateway accepts no "+
				"such connection", t.mode, t.unexpectedPeer.Addr(), j.at.Addr()),
			"have the server send data from the address that the gateway connects to (listen address, "+
				"source address, its own NAT), or "+remedyPassive)
	case t.listReply.err == nil && t.listReply.Code != 425 && t.listReply.Code != 426 &&
		!t.listReply.positive(), t.listReply.err != nil && !isTimeout(t.listReply.err):
		j.listing(code, level, t, "")
	default:
		said := "it did not answer LIST"
		if t.listReply.err == nil {
			said = "it answered LIST with " + j.quoteReply(t.listReply)
		}
		j.add(code, level, fmt.Sprintf("the server accepted %s and did not connect to %s within %s: %s",
			t.mode, t.at, rounded(j.limits.Data), said),
			"let the server connect to this host (from its port 20, or any), or "+remedyPassive)
	}
}

// listing judges the data of the data connection.
func (j *judge) listing(code string, level finding.Severity, t *transfer, how string) {
	tls := ""
	switch {
	case t.resumed:
		tls = ", in TLS with the session of the control connection"
	case t.encrypted:
		tls = ", in TLS with a session of its own"
	}
	text, remedy := j.commandFailure(fmt.Sprintf("LIST (over %s)", t.mode), t.listReply)
	switch {
	case t.worked() && t.tooLong:
		j.note(code, finding.OK, "a listing came %s, and was cut off after %d MiB%s", how, maxListing>>20,
			tls)
	case t.worked():
		j.note(code, finding.OK, "a listing of %d bytes came %s%s", t.bytes, how, tls)
	case t.otherCert:
		j.add(code, level,
			"the data connection has another certificate than the control connection: it may lead to "+
				"another server",
			"check what answers at the server's passive ports: several servers behind one address need one "+
				"certificate")
	case t.resumptionRefused():
		said := "it closed it in the TLS handshake"
		if t.listReply.err == nil {
			said = "it said " + j.quoteReply(t.listReply)
		}
		j.add(code, level,
			"the server refuses the data connection in TLS, most often because it does not resume the "+
				"control connection's session: "+said, remedyReuse)
	case t.tlsErr != nil && !t.refused(): // else the handshake ended because of the refusal
		text, remedy := handshakeFault(t.tlsErr, true, j.limits.Data)
		j.add(code, level, "on the data connection "+text, remedy)
	case isTimeout(t.readErr) && (t.listReply.positive() || t.listReply.Code == 426 ||
		isTimeout(t.listReply.err)):
		j.add(code, level,
			fmt.Sprintf("the data connection of %s opened, and did not end within %s: %d bytes came", t.mode,
				rounded(j.limits.Data), t.bytes),
			"look for a firewall in between that holds data up, and at the MTU on the way (ping -M do -s "+
				"1472)")
	case t.connected && t.readErr == nil && isTimeout(t.listReply.err):
		j.add(code, level, fmt.Sprintf("%d bytes came over %s, and the server never said that this was all",
			t.bytes, t.mode), remedy)
	case text != "":
		j.add(code, level, text, remedy)
	case t.refused():
		j.listingRefused(code, level, t)
	case t.readErr != nil:
		j.add(code, level, fmt.Sprintf("the data connection of %s broke after %d bytes: %s", t.mode, t.bytes,
			quote(t.readErr.Error())), remedyLog)
	default:
		j.add(code, level, "the server said "+j.quoteReply(t.listReply)+", and there was no data connection",
			remedyLog)
	}
}

// listingRefused judges the refusal of a listing.
func (j *judge) listingRefused(code string, level finding.Severity, t *transfer) {
	said := j.quoteReply(t.listReply)
	switch {
	case slices.Contains([]int{550, 450, 530, 553}, t.listReply.Code) && !t.listReply.wantsTLS():
		text := fmt.Sprintf("after %s the server refuses the listing, and sends no data: %s", t.mode, said)
		if t.passive() {
			text = fmt.Sprintf("the port %d of %s was connected to, and the server refuses the listing: %s",
				t.at.Port(), t.mode, said)
		}
		j.add(code, finding.Info, text, "try with a user who may read the directory in which the login ends")
	case (t.listReply.Code == 521 || t.listReply.wantsTLS()) && j.forward.TLS.Server == forward.ServerTLSOff:
		j.add(code, level, "the server sends no data in clear: "+said,
			`set tls.server = "required" with server_data = "private"`)
	case t.listReply.Code == 521 || t.listReply.wantsTLS():
		j.add(code, level, "the server wants data protected in another way (PROT): "+said,
			`set server_data to the other one of "private" and "clear"`)
	case t.listReply.Code == 425:
		j.add(code, level, "the server found no data connection: "+said,
			"check the server's log, and for a firewall in between; some servers want data from the very "+
				"address of the control connection")
	default:
		j.add(code, level, fmt.Sprintf("the listing broke off after %d bytes: %s", t.bytes, said), remedyLog)
	}
}

// remedyReuse is for data connections in TLS that a server refuses although they ask to resume.
const remedyReuse = "check the server's log and its setting for session reuse (require_ssl_reuse, " +
	"TLSOptions NoSessionReuseRequired): " +
	"the data connection asks to resume if the server has given out a ticket for it"

// ports judges the passive ports that were seen.
func (j *judge) ports(try *attempt) {
	if len(try.ports) == 0 {
		return
	}
	seen := forward.PortRange{First: slices.Min(try.ports), Last: slices.Max(try.ports)}
	want := j.forward.ServerPorts
	i := slices.IndexFunc(try.ports, func(p uint16) bool { return !want.Contains(p) })
	text := fmt.Sprintf("the %d passive ports that were seen lie within %s", len(try.ports), seen)
	switch {
	case !j.passesTLS():
		j.note(CodePorts, finding.OK, "%s", text)
	case i < 0:
		j.note(CodePorts, finding.OK, "%s, and so within server_ports (%s)", text, want)
	default:
		level, whose := finding.Fault, "clients"
		if j.forward.PassesThrough() {
			level, whose = finding.Warning, "clients that encrypt"
		}
		j.add(CodePorts, level,
			fmt.Sprintf("the server gave port %d, which is outside server_ports (%s): %s cannot connect to "+
				"it", try.ports[i], want, whose),
			"set server_ports, and the server's own range (pasv_min_port, PassivePorts), to the same")
	}
}
