// Package trial drives the server of a forward as clients do, and says what clients of the forward will meet.
//
// It changes nothing on the server: its only transfers are listings of the directory in which the login ends.
// It connects to the server's own addresses alone, whatever addresses stand in replies; it resolves no name,
// runs no command and writes no log. What the server says stands in a finding only quoted, short and without
// control characters, and not at all where the password is in it.
//
// What talks with the server (visit.go, control.go, data.go) only notes what it has seen (seen.go); what is to
// be said of that is judged apart from it, and does no I/O (judge*.go). Most of the package's length is the
// sentences.
package servercheck

import (
	"cmp"
	"context"
	"crypto/tls"
	"net/netip"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

// The codes of findings. They are part of the interface.
const (
	CodeAddress     = "server_address"     // there is nothing to connect to
	CodeConnect     = "server_connect"     // the control connection
	CodeGreeting    = "server_greeting"    // the first reply
	CodeFeatures    = "server_features"    // FEAT
	CodeAuth        = "server_auth_tls"    // AUTH TLS, and servers that have nothing in clear
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
	CodeReuse       = "server_session_reuse" // data connections that resume the TLS session of the control connection
	CodeCloseNotify = "server_close_notify"  // how data in TLS ends
	CodeUnfinished  = "server_unfinished"    // the trial ended before everything had been tried
)

// Options are how a trial is made. They are not changed, and nothing of them is kept.
type Options struct {
	User, Password string // empty: anonymous. Password goes nowhere but to the server, with PASS

	// TLS says whom to trust (RootCAs), what the certificate must name (ServerName; empty: as the forward says)
	// and what to show; whether any certificate will do is the forward's to say. Nil: the system's roots. The
	// trial has a cache of sessions and a check of certificates of its own. Where the certificate is not
	// trusted, Password is not sent.
	TLS *tls.Config

	// Active is the gateway's address on which PORT and EPRT have the server connect. Not valid: they are not
	// tried. 0.0.0.0 or :: for that of the control connection, the only one that a careful server accepts.
	Active netip.Addr

	Timeouts Timeouts
}

// Timeouts bound a trial. A zero stands for its default.
type Timeouts struct {
	Dial  time.Duration // until a connection stands
	Reply time.Duration // for each reply, and for each TLS handshake of a control connection
	Data  time.Duration // for each data connection, from its beginning to its end
	Whole time.Duration // for everything; each address gets an equal share of what is left
}

// DefaultTimeouts returns what holds where nothing is given, each with its reason.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		Dial:  10 * time.Second, // three SYNs: as the gateway's own dials
		Reply: 20 * time.Second, // a server may look up the name of who comes, and wait for that in vain
		Data:  10 * time.Second, // a listing is small: what takes longer is stuck
		Whole: 3 * time.Minute,  // all modes stuck at one address, one after the other
	}
}

func (t Timeouts) orDefault() Timeouts {
	d := DefaultTimeouts()
	return Timeouts{
		Dial:  cmp.Or(t.Dial, d.Dial),
		Reply: cmp.Or(t.Reply, d.Reply),
		Data:  cmp.Or(t.Data, d.Data),
		Whole: cmp.Or(t.Whole, d.Whole),
	}
}

// maxAddresses is how many addresses of a server are tried: more are one service behind many.
const maxAddresses = 6

// Run tries the server of a forward at each of its addresses, and returns when all is tried, Timeouts.Whole is
// over, or ctx is done. It leaves no connection and no goroutine behind. There is always a finding.
func Run(ctx context.Context, forward forward.Resolved, o Options) []finding.Finding {
	o.Timeouts = o.Timeouts.orDefault()
	if o.TLS == nil {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeouts.Whole)
	defer cancel()
	addrs := addresses(forward)
	reports := make([]report, 0, len(addrs))
	for i, addr := range addrs {
		deadline, _ := ctx.Deadline()
		share, done := context.WithTimeout(ctx, time.Until(deadline)/time.Duration(len(addrs)-i))
		reports = append(reports, probe(share, forward.Forward, o, netip.AddrPortFrom(addr, forward.Server.Port)))
		done()
	}
	return judgeAll(setting{
		forward: forward.Forward, user: o.User, password: o.Password, active: o.Active.IsValid(),
		limits: o.Timeouts, name: certificateName(forward.Forward, o), now: time.Now(),
	}, reports)
}

// addresses returns where the gateway may dial the server, in its order.
func addresses(f forward.Resolved) []netip.Addr {
	all := f.Servers
	if len(all) == 0 {
		for _, addr := range []netip.Addr{f.Server4, f.Server6} {
			if addr.IsValid() {
				all = append(all, addr)
			}
		}
	}
	return all[:min(len(all), maxAddresses)]
}

// certificateName returns what the server's certificate must name.
func certificateName(f forward.Forward, o Options) string {
	return cmp.Or(o.TLS.ServerName, f.TLS.ServerName, f.Server.Host)
}
