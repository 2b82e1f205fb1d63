package tlskeys

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

// loading is one Load.
type loading struct {
	keys   *Keys
	addrs  []netip.Addr
	at     time.Time
	next   *state
	ending []string // the files whose end is among the faults
	faults []finding.Finding
	rooted bool // the host's roots have been looked for
}

// forward reads what one forward names.
func (l *loading) forward(f forward.Forward) {
	if f.Tracking != forward.TrackingProxy {
		return
	}
	n := &legs{}
	l.next.forwards[f.Name] = n
	if f.TLS.Client != forward.ClientTLSOff {
		n.cert = l.certificate(f)
		l.clientPolicy(f)
	}
	if f.TLS.Server != forward.ServerTLSOff {
		if f.TLS.ClientCert != "" {
			n.shown = l.pair(f.Name, wanted{"tls.client_cert", f.TLS.ClientCert, "tls.client_key", f.TLS.ClientKey})
		}
		n.ca = l.pool(f)
		l.serverPolicy(f)
	}
}

// report adds a fault of a forward.
func (l *loading) report(forward string, fault *finding.Finding) {
	if fault != nil {
		fault.Forward = forward
		l.faults = append(l.faults, *fault)
	}
}

// warn adds a warning of a forward.
func (l *loading) warn(f forward.Forward, key, text, remedy string) {
	l.report(f.Name, &finding.Finding{Key: key, Text: text, Remedy: remedy, Severity: finding.Warning})
}

// certificate reads what the forward shows to clients.
func (l *loading) certificate(f forward.Forward) *pair {
	switch f.TLS.Cert {
	case "":
		l.report(f.Name, &finding.Finding{Key: "tls.cert", Text: "clients are offered TLS, and there is no certificate",
			Remedy: fmt.Sprintf("name the files of the certificate and its key, or say cert = %q", forward.SelfSigned)})
		return nil
	case forward.SelfSigned:
		return l.own(f)
	}
	return l.pair(f.Name, wanted{"tls.cert", f.TLS.Cert, "tls.key", f.TLS.Key})
}

// pair reads a certificate and its key, once for all forwards that name them.
func (l *loading) pair(forward string, w wanted) *pair {
	id := [2]string{w.certFile, w.keyFile}
	if p, known := l.next.pairs[id]; known {
		p.forwards = append(p.forwards, forward)
		return p
	}
	p := &pair{forwards: []string{forward},
		watched: &watched[tls.Certificate]{files: w.files(), read: w.read, log: l.keys.log}}
	l.next.pairs[id] = p
	if fault := p.first(l.at); fault != nil {
		l.report(forward, fault)
		return p
	}
	if fault := ends(p.value.Load().Leaf, l.at); fault != nil {
		fault.Key, fault.Text = w.certKey, "the certificate in "+w.certFile+" "+fault.Text
		l.report(forward, fault)
		l.ending = append(l.ending, w.certFile)
	}
	keyKey := w.certKey
	if w.keyFile != "" {
		keyKey = w.keyKey
	}
	l.report(forward, open(keyKey, cmp.Or(w.keyFile, w.certFile)))
	return p
}

// own makes or keeps the certificate that the gateway signs itself.
func (l *loading) own(f forward.Forward) *pair {
	o, fault := newOwn(l.keys.dir, f, l.addrs)
	if fault != nil {
		l.report(f.Name, fault)
		return nil
	}
	w := wanted{certKey: "tls.cert", certFile: o.file}
	p := &pair{forwards: []string{f.Name}, own: true,
		watched: &watched[tls.Certificate]{files: w.files(), make: o.keep, read: w.read, log: l.keys.log}}
	l.next.pairs[[2]string{o.file, ""}] = p
	if fault := o.prepare(l.at); fault != nil {
		l.report(f.Name, fault)
		return nil
	}
	if fault := p.first(l.at); fault != nil {
		l.report(f.Name, fault)
		return nil
	}
	l.warn(f, "tls.cert", "the certificate is self-signed: clients cannot verify it unless they are given "+o.public(),
		"for more than trying things out, have an authority sign one, and name it and its key")
	return p
}

// pool reads whom the forward trusts; nil is the host's roots.
func (l *loading) pool(f forward.Forward) *pool {
	switch {
	case f.TLS.Insecure:
		return nil
	case f.TLS.CA == "":
		l.roots(f)
		return nil
	}
	if p, known := l.next.pools[f.TLS.CA]; known {
		return p
	}
	file := f.TLS.CA
	p := &pool{&watched[x509.CertPool]{files: []string{file}, log: l.keys.log,
		read: func() (*x509.CertPool, *finding.Finding) { return readPool(file) }}}
	l.next.pools[file] = p
	l.report(f.Name, p.first(l.at))
	return p
}

// roots looks once whether the host trusts anybody: in a container it may not.
func (l *loading) roots(f forward.Forward) {
	if l.rooted {
		return
	}
	l.rooted = true
	if roots, err := l.keys.system(); err != nil || roots.Equal(x509.NewCertPool()) {
		l.report(f.Name, &finding.Finding{Key: "tls.ca", Text: "this host has no certificates of authorities: no server can be verified",
			Remedy: "install the package ca-certificates and start anew, or name the server's authority"})
	}
}

// clientPolicy warns of what makes the client's leg less safe than it could be.
func (l *loading) clientPolicy(f forward.Forward) {
	if f.TLS.SessionReuseOptional {
		l.warn(f, "tls.session_reuse", "data connections need not resume the session of the control connection: who is faster than the client gets its data",
			"leave session_reuse out, unless a client cannot do it")
	}
	if f.TLS.ClientCloseNotifyOptional {
		l.warn(f, "tls.client_close_notify", "an upload that was cut short looks complete",
			"leave client_close_notify out, unless a client does not send it")
	}
}

// serverPolicy warns of what makes the server's leg less safe than it could be.
func (l *loading) serverPolicy(f forward.Forward) {
	if f.TLS.Insecure {
		l.warn(f, "tls.verify", "the server's certificate is not verified: whoever stands in between reads passwords and files",
			"name the server's own certificate, or that of its authority, as ca")
	}
	if f.TLS.ServerCloseNotifyOptional {
		l.warn(f, "tls.server_close_notify", "a transfer that was cut short looks complete",
			"leave server_close_notify out, unless the server does not send it")
	}
}
