// Package servercheck tries the server of a forward as its clients do, and says what they will meet.
//
// It changes nothing on the server: its only transfers are listings of the directory in which the login ends.
// It connects to the server's own addresses alone, whatever addresses stand in replies; it resolves no name,
// runs no command and writes no log. What the server says appears in a finding only quoted, short and without
// control characters, and not at all if it contains the password.
//
// It has two halves. The prober (prober.go, control.go, transfer.go) talks with the server, over the control
// and data connections of package ftpclient: not over its Client, which stops at the first thing that is
// wrong, while the prober goes on and notes everything. What it notes is the report (report.go). The judge
// (judge*.go) makes findings of reports and does no I/O; most of it is sentences.
package servercheck

import (
	"cmp"
	"context"
	"crypto/tls"
	"net/netip"
	"time"

	"ftpgate/internal/control/tlskeys"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

// The codes of findings. They are part of the interface.
const (
	CodeAddress     = "server_address"     // there is nothing to connect to
	CodeConnect     = "server_connect"     // the control connection
	CodeGreeting    = "server_greeting"    // the first reply
	CodeFeatures    = "server_features"    // FEAT
	CodeAuth        = "server_auth_tls"    // AUTH TLS, and servers that accept nothing in clear
	CodeTLS         = "server_tls"         // the handshake
	CodeVersions    = "server_tls_version" // TLS 1.2 and 1.3
	CodeCertificate = "server_certificate"
	CodeProtection  = "server_protection"    // PBSZ and PROT
	CodeLogin       = "server_login"         // USER and PASS
	CodePasvAddress = "server_pasv_address"  // what the 227 names
	CodePasv        = "server_pasv"          // a listing over PASV
	CodeEpsv        = "server_epsv"          // a listing over EPSV
	CodePorts       = "server_passive_ports" // the range from which the server draws them
	CodePort        = "server_active_port"   // a listing over PORT
	CodeEprt        = "server_active_eprt"   // a listing over EPRT
	// data connections that resume the TLS session of the control connection
	CodeReuse       = "server_session_reuse"
	CodeCloseNotify = "server_close_notify" // how data in TLS ends
	CodeUnfinished  = "server_unfinished"   // the check ended before everything had been tried
)

// Options say how to try a server. Run does not change or keep them.
type Options struct {
	User, Password string // empty: anonymous. Password goes only to the server, with PASS

	// TLS says what the certificate must name (ServerName; empty: as the forward says) and the client
	// certificate to present to the server. Run caches sessions by itself. Nil: as the forward says.
	TLS *tls.Config
	// Trust is whom to trust for the server's certificate; nil: this host's authorities. If the certificate
	// is not trusted, Password is not sent.
	Trust *tlskeys.Trust

	// Active says to try PORT and EPRT, too, with this host's address of the control connection: the only one
	// that a careful server accepts.
	Active bool

	Timeouts Timeouts // each of them set
}

// Timeouts bound a Run.
type Timeouts struct {
	Dial  time.Duration // for each connection
	Reply time.Duration // for each reply, and for each TLS handshake of a control connection
	Data  time.Duration // for each data connection, from its start to its end
	Whole time.Duration // for everything; each address gets an equal share of what is left
}

// DefaultTimeouts returns the defaults, each with its reason.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		Dial:  10 * time.Second, // three SYNs: as the gateway's own dials
		Reply: 20 * time.Second, // a server may look up its client's name, and wait for that in vain
		Data:  10 * time.Second, // a listing is small: what takes longer is stuck
		Whole: 3 * time.Minute,  // all modes stuck at one address, one after the other
	}
}

// maxAddresses is how many addresses of a server are tried. More are replicas of one service.
const maxAddresses = 6

// Run tries the server of a forward at each of its addresses. It returns when everything is tried,
// Timeouts.Whole is over, or ctx is done, and leaves no connection and no goroutine behind. There is always a
// finding.
func Run(ctx context.Context, forward forward.Resolved, o Options) []finding.Finding {
	if o.TLS == nil {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if o.Trust == nil {
		o.Trust = &tlskeys.Trust{}
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeouts.Whole)
	defer cancel()
	addrs := forward.ServerAddrs()
	addrs = addrs[:min(len(addrs), maxAddresses)]
	reports := make([]report, 0, len(addrs))
	for i, addr := range addrs {
		deadline, _ := ctx.Deadline()
		share, done := context.WithTimeout(ctx, time.Until(deadline)/time.Duration(len(addrs)-i))
		reports = append(reports, probe(share, forward.Forward, o,
			netip.AddrPortFrom(addr, forward.Server.Port)))
		done()
	}
	return judgeAll(setting{
		forward: forward.Forward, user: o.User, password: o.Password, active: o.Active,
		limits: o.Timeouts, name: certificateName(forward.Forward, o), now: time.Now(),
	}, reports)
}

// certificateName returns what the server's certificate must name.
func certificateName(f forward.Forward, o Options) string {
	return cmp.Or(o.TLS.ServerName, f.TLS.ServerName, f.Server.Host)
}
