// Package servercheck tries the server of a forward as its clients do, and reports what does not work.
//
// It changes nothing on the server: its only transfers are listings of the directory in which the login ends.
// It connects only to the server's own addresses, whatever addresses replies name; it resolves no name, runs
// no command and writes no log. A finding quotes the server's text, short and without control characters, and
// omits it if it contains the password.
//
// It has two halves. The prober (prober.go, control.go, transfer.go) talks with the server, over the control
// and data connections of package ftpclient: not over its Client, which stops at the first failure, while the
// prober continues and records everything in the report (report.go). The judge (judge*.go) makes findings of
// reports and does no I/O; most of it is sentences.
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
	CodeAddress     = "server_address"     // the server has no address
	CodeConnect     = "server_connect"     // the control connection
	CodeGreeting    = "server_greeting"    // the first reply
	CodeFeatures    = "server_features"    // FEAT
	CodeAuth        = "server_auth_tls"    // AUTH TLS, and servers that accept nothing in clear
	CodeTLS         = "server_tls"         // the handshake
	CodeVersions    = "server_tls_version" // TLS 1.2 and 1.3
	CodeCertificate = "server_certificate"
	CodeProtection  = "server_protection"    // PBSZ and PROT
	CodeLogin       = "server_login"         // USER and PASS
	CodePasvAddress = "server_pasv_address"  // the address in the 227
	CodePasv        = "server_pasv"          // a listing over PASV
	CodeEpsv        = "server_epsv"          // a listing over EPSV
	CodePorts       = "server_passive_ports" // the range from which the server draws them
	CodePort        = "server_active_port"   // a listing over PORT
	CodeEprt        = "server_active_eprt"   // a listing over EPRT
	// data connections that resume the TLS session of the control connection
	CodeReuse       = "server_session_reuse"
	CodeCloseNotify = "server_close_notify" // how data in TLS ends
	// the check was interrupted or timed out; not everything was tested
	CodeUnfinished = "server_unfinished"
)

// Options say how to try a server. Run does not change or keep them.
type Options struct {
	User, Password string // empty: anonymous. Password goes only to the server, with PASS

	// TLS has the name that the certificate must have (ServerName; empty: the forward's) and the client
	// certificate to present to the server. Run caches sessions by itself. Nil: as in the forward.
	TLS *tls.Config
	// Trust verifies the server's certificate; nil: with this host's authorities. If the certificate is not
	// trusted, Password is not sent.
	Trust *tlskeys.Trust

	// Active makes Run also try PORT and EPRT, with this host's address of the control connection: a careful
	// server accepts no other.
	Active bool

	Timeouts Timeouts // all of them must be set
}

// Timeouts bound a Run.
type Timeouts struct {
	Dial  time.Duration // for each connection
	Reply time.Duration // for each reply, and for each TLS handshake of a control connection
	Data  time.Duration // for each data connection, from its start to its end
	Whole time.Duration // for everything; each address gets an equal share of the rest
}

// DefaultTimeouts returns the defaults, each with its reason.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		Dial:  10 * time.Second, // three SYNs: as the gateway's own dials
		Reply: 20 * time.Second, // a server may wait in vain for a lookup of its client's name
		Data:  10 * time.Second, // a listing is small: a longer one is stuck
		Whole: 3 * time.Minute,  // all modes stuck at one address, one after the other
	}
}

// maxAddresses is how many addresses of a server are tried. More are replicas of one service.
const maxAddresses = 6

// Run tries the server of a forward at each of its addresses. It returns when everything is tried,
// Timeouts.Whole is over, or ctx is done, and leaves no connection and no goroutine behind. It returns at
// least one finding.
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

// certificateName returns the name that the server's certificate must have.
func certificateName(f forward.Forward, o Options) string {
	return cmp.Or(o.TLS.ServerName, f.TLS.ServerName, f.Server.Host)
}
