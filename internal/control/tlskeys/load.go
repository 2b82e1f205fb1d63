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

type loading struct {
	keys         *Keys
	addrs        []netip.Addr
	now          time.Time
	next         *state
	warned       []string // certificate files with a finding about their expiry
	findings     []finding.Finding
	rootsChecked bool // the host's root certificates were checked
}

func (l *loading) forward(f forward.Forward) {
	if f.Tracking != forward.TrackingProxy {
		return
	}
	n := &tlsFiles{}
	l.next.forwards[f.Name] = n
	if f.TLS.Client != forward.ClientTLSOff {
		n.cert = l.certificate(f)
		if f.TLS.ClientCA != "" {
			n.clientCA = l.clientAuthorities(f)
			n.clientCRL = l.crl(f, n.clientCA)
		}
		l.clientPolicy(f, n.cert)
	}
	if f.TLS.Server != forward.ServerTLSOff {
		if f.TLS.ClientCert != "" {
			n.clientCert = l.pair(f.Name, certFiles{"tls.client_cert", f.TLS.ClientCert, "tls.client_key",
				f.TLS.ClientKey})
		}
		n.ca = l.serverAuthorities(f)
		l.serverPolicy(f)
	}
}

// report adds a finding about a forward; nil: there is none.
func (l *loading) report(forward string, f *finding.Finding) {
	if f != nil {
		f.Forward = forward
		l.findings = append(l.findings, *f)
	}
}

func (l *loading) warn(f forward.Forward, key, text, remedy string) {
	l.report(f.Name, newWarning(key, text, remedy))
}

// certificate reads the certificate for clients.
func (l *loading) certificate(f forward.Forward) *pair {
	switch f.TLS.Cert {
	case "":
		l.report(f.Name, newFault("tls.cert", "clients are offered TLS, and there is no certificate",
			fmt.Sprintf("name the files of the certificate and its key, or set cert = %q",
				forward.SelfSigned)))
		return nil
	case forward.SelfSigned:
		return l.selfSigned(f)
	}
	return l.pair(f.Name, certFiles{"tls.cert", f.TLS.Cert, "tls.key", f.TLS.Key})
}

// pair reads a certificate and its key, once for all forwards that use them.
func (l *loading) pair(forward string, w certFiles) *pair {
	id := [2]string{w.certFile, w.keyFile}
	if p, known := l.next.certs[id]; known {
		p.forwards = append(p.forwards, forward)
		return p
	}
	p := &pair{forwards: []string{forward},
		watched: &watched[tls.Certificate]{paths: w.files(), read: w.read, log: l.keys.log}}
	l.next.certs[id] = p
	if fault := p.load(l.now); fault != nil {
		l.report(forward, fault)
		return p
	}
	if fault := expiryWarning(p.value.Load().Leaf, l.now); fault != nil {
		fault.Key, fault.Text = w.certKey, "the certificate in "+w.certFile+" "+fault.Text
		l.report(forward, fault)
		l.warned = append(l.warned, w.certFile)
	}
	keyKey := w.certKey
	if w.keyFile != "" {
		keyKey = w.keyKey
	}
	l.report(forward, worldReadable(keyKey, cmp.Or(w.keyFile, w.certFile)))
	return p
}

// selfSigned makes the certificate that the gateway signs itself, or uses the one that is stored.
func (l *loading) selfSigned(f forward.Forward) *pair {
	if l.keys.noDir {
		l.warn(f, "tls.cert", "the certificate is self-signed: clients cannot verify it unless you give "+
			"it to them", finding.RemedySelfCert)
		return nil
	}
	o, fault := newSelfSigned(l.keys.dir, f, l.addrs)
	if fault != nil {
		l.report(f.Name, fault)
		return nil
	}
	w := certFiles{certKey: "tls.cert", certFile: o.file}
	p := &pair{forwards: []string{f.Name}, selfSigned: true,
		watched: &watched[tls.Certificate]{paths: w.files(), make: o.renewIfEnding, read: w.read,
			log: l.keys.log}}
	l.next.certs[[2]string{o.file, ""}] = p
	if fault := o.prepare(l.now); fault != nil {
		l.report(f.Name, fault)
		return nil
	}
	if fault := p.load(l.now); fault != nil {
		l.report(f.Name, fault)
		return nil
	}
	l.warn(f, "tls.cert", "the certificate is self-signed: clients cannot verify it unless you give them "+
		o.publicFile(),
		finding.RemedySelfCert)
	return p
}

// serverAuthorities reads the authorities that the forward trusts for its server; nil: the host's.
func (l *loading) serverAuthorities(f forward.Forward) *pool {
	switch {
	case f.TLS.Insecure:
		return nil
	case f.TLS.CA == "":
		l.roots(f)
		return nil
	}
	return l.pool(f.Name, "tls.ca", f.TLS.CA)
}

// clientAuthorities reads the authorities of a forward's clients.
func (l *loading) clientAuthorities(f forward.Forward) *pool {
	p := l.pool(f.Name, keyClientCA, f.TLS.ClientCA)
	p.clientsOf = append(p.clientsOf, f.Name)
	if trust := p.value.Load(); trust != nil {
		if fault := trust.warning(l.now); fault != nil {
			l.report(f.Name, fault)
			l.warned = append(l.warned, f.TLS.ClientCA)
		}
	}
	return p
}

// pool reads a file of authorities, once for all forwards that use it under one key.
func (l *loading) pool(forward, key, file string) *pool {
	id := [2]string{key, file}
	if p, known := l.next.pools[id]; known {
		return p
	}
	p := &pool{watched: &watched[Trust]{paths: []string{file}, log: l.keys.log,
		read: func() (*Trust, *finding.Finding) { return readTrust(key, file) }}}
	l.next.pools[id] = p
	l.report(forward, p.load(l.now))
	return p
}

// roots checks once that the host trusts any authority: a container may have none.
func (l *loading) roots(f forward.Forward) {
	if l.rootsChecked {
		return
	}
	l.rootsChecked = true
	if roots, err := l.keys.system(); err != nil || roots.Equal(x509.NewCertPool()) {
		l.report(f.Name, newFault("tls.ca",
			"this host has no certificates of authorities: no server can be verified",
			"install the package ca-certificates and restart ftpgate, or name the server's authority"))
	}
}

// serverPolicy warns of settings that make the server's leg less safe.
func (l *loading) serverPolicy(f forward.Forward) {
	if f.TLS.ServerMinVersion.IsObsolete() {
		l.warn(f, "tls.server_min_version", "the server may use TLS "+f.TLS.ServerMinVersion.String()+
			" and ciphers that are not safe: an attacker on the path can read passwords and files",
			"leave server_min_version out as soon as the server is updated")
	}
	if f.TLS.Insecure {
		l.warn(f, "tls.verify",
			"the server's certificate is not verified: anyone on the path can read passwords and files",
			"name the server's own certificate, or that of its authority, as ca")
	}
	if f.TLS.ServerCloseNotifyOptional {
		l.warn(f, "tls.server_close_notify", "a transfer that was cut short looks complete",
			"leave server_close_notify out, unless the server does not send it")
	}
}
