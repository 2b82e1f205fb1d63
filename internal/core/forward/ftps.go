package forward

import (
	"fmt"
)

// FTPS returns how the forward handles an encrypted session, and why, in words for an operator. The mode is
// "passed through", "terminated", "originated", "re-encrypted", "refused" or "fails".
func (f Forward) FTPS() (mode, why string) {
	t := f.TLS
	switch {
	case f.Tracking == TrackingKernel:
		return "fails", "it is not refused, and the kernel's helper cannot read it; " +
			"tracking proxy can carry it"
	case f.Tracking == TrackingNone:
		return "passed through", fmt.Sprintf("with tracking none server_ports %s are open to every client"+
			" at any time, for passive mode only", f.ServerPorts)
	case t.Client != ClientTLSOff && t.Server != ServerTLSOff:
		return "re-encrypted", t.clientLeg() + ", " + t.serverLeg()
	case t.Client != ClientTLSOff:
		return "terminated", t.clientLeg() + ", the server gets plain FTP"
	case t.Server != ServerTLSOff:
		return "originated", "clients speak plain FTP and AUTH is answered with 534, " + t.serverLeg()
	case f.PassesThrough():
		return "passed through", fmt.Sprintf("server_ports %s are open to a client while it has"+
			" an encrypted session, for passive mode only", f.ServerPorts)
	}
	return "refused", "AUTH gets 534; set server_ports or [" + f.kind() + ".tls] to allow FTPS"
}

// FTPSRisk returns what another client could do to an encrypted session, and the remedy; empty: nothing.
func (f Forward) FTPSRisk() (risk, remedy string) {
	if f.Tracking != TrackingNone && !f.PassesThrough() {
		return "", ""
	}
	return "a client can take the files of another unless the server requires TLS session reuse on data " +
			"connections: it sees the gateway's address for both",
		"require it in the server (vsftpd: require_ssl_reuse=YES); ftpgate doctor tries whether it does"
}

// clientLeg describes the clients' leg in words.
func (t TLS) clientLeg() string {
	s := "clients may ask for TLS"
	switch {
	case t.Implicit:
		s = "clients must begin with TLS (implicit)"
	case t.Client == ClientTLSRequired:
		s = "clients must ask for TLS"
	}
	switch {
	case t.ClientAuthOptional:
		s += " and may present a certificate"
	case t.ClientCA != "":
		s += " and present a certificate"
	}
	return s + t.ClientMinVersion.warning()
}

// warning says that a version is not safe; "": it is.
func (v TLSVersion) warning() string {
	if !v.IsObsolete() {
		return ""
	}
	return fmt.Sprintf(" (TLS %s will do, which is not safe)", v)
}

// serverLeg describes the server's leg in words.
func (t TLS) serverLeg() string {
	s := "the server gets TLS"
	if t.Server == ServerTLSImplicit {
		s += " (implicit)"
	}
	s += t.ServerMinVersion.warning()
	if t.ServerDataClear {
		s += " and data in clear"
	}
	if t.Insecure {
		s += ", its certificate is not verified"
	}
	return s
}
