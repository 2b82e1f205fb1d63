// Package tlskeys manages the certificates and keys of forwards: it reads and renews them, knows which
// authorities to trust, and which TLS sessions may be resumed (RFC 4217, RFC 8446, RFC 9325).
//
// It reads the files that forwards name, stores the certificates that it signs itself in one directory, and
// returns a tls.Config for each connection. It opens no connection, never verifies less than a forward asks
// for, and writes keys only to that directory.
//
// Locks: Keys.mu, held while files are read again, then watched.mu. No handshake waits for either. Those of
// the session tickets and of the revocation lists are leaves, which handshakes take for a moment.
package tlskeys

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

const (
	// WarnBefore is how long before a certificate expires the warnings begin: a renewal by hand takes a
	// month.
	WarnBefore = 30 * 24 * time.Hour
	// warnInterval is how often the log repeats them.
	warnInterval = 24 * time.Hour
)

// Keys are the certificates and keys of a gateway's forwards. Several goroutines may use it at once.
type Keys struct {
	dir    string
	noDir  bool // self-signed certificates are neither made nor read
	log    *slog.Logger
	now    func() time.Time
	system func() (*x509.CertPool, error) // returns the roots of the host

	state atomic.Pointer[state] // never nil

	tickets clientTickets

	mu sync.Mutex // one Load or Refresh at a time
	// time of the last expiry warning, by certificate file; guarded by mu
	warned map[string]time.Time
}

// state is the result of one Load. It does not change afterwards, but the contents of its files may.
type state struct {
	forwards map[string]*tlsFiles // by name
	certs    map[[2]string]*pair
	pools    map[[2]string]*pool // by key and file
	crls     map[string]*crl     // by file
}

// tlsFiles are the files of one forward's TLS; nil: a leg needs none.
type tlsFiles struct {
	cert       *pair // presented to clients
	clientCert *pair // the client certificate to present to the server
	ca         *pool // the authorities to trust for the server; nil: the host's
	clientCA   *pool // the authorities of clients; nil: clients need no certificate
	clientCRL  *crl  // which of their certificates are revoked; nil: none
}

// pair is a certificate with its key.
type pair struct {
	*watched[tls.Certificate]
	forwards   []string // that use it
	selfSigned bool     // renewed by ftpgate itself: no expiry warning
}

// pool is a file's trusted authorities.
type pool struct {
	*watched[Trust]
	clientsOf []string // the forwards whose clients it verifies
}

// New returns keys without forwards. dir is for self-signed certificates, and is created with the first one.
// The log gets changes of files between two Loads.
func New(dir string, log *slog.Logger) *Keys {
	k := &Keys{dir: dir, log: log, now: time.Now, system: x509.SystemCertPool,
		tickets: clientTickets{living: map[string]*ClientTLS{}}, warned: map[string]time.Time{}}
	k.state.Store(&state{})
	return k
}

// NewReadOnly returns keys for looking at what forwards name: they write no file, and read no self-signed
// certificate, since this process may be another user's than the daemon.
func NewReadOnly(log *slog.Logger) *Keys {
	k := New("", log)
	k.noDir = true
	return k
}

// StateDir returns the directory for what outlives this process: the one that systemd made for it
// (StateDirectory= in systemd.exec(5)), /var/lib/ftpgate for root, else one below the user's state directory
// (XDG base directory specification). It is "" if there is none.
func StateDir() string {
	if first, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); filepath.IsAbs(first) {
		return first
	}
	if os.Geteuid() == 0 {
		return "/var/lib/ftpgate"
	}
	if state := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "ftpgate")
	}
	if home := os.Getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "ftpgate")
	}
	return ""
}

// Load reads every file that the forwards' TLS names, makes the self-signed certificates, and returns all
// findings. If none is a fault, new sessions use the new files; else nothing changes. addrs are the gateway's
// own addresses, for the self-signed certificate of a forward that listens on all of them.
func (k *Keys) Load(forwards []forward.Forward, addrs []netip.Addr) []finding.Finding {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := loading{keys: k, addrs: addrs, now: k.now(), next: &state{
		forwards: make(map[string]*tlsFiles, len(forwards)), certs: map[[2]string]*pair{},
		pools: map[[2]string]*pool{}, crls: map[string]*crl{},
	}}
	for _, f := range forwards {
		l.forward(f)
	}
	if slices.ContainsFunc(l.findings, finding.Finding.IsFault) {
		return l.findings
	}
	for _, file := range l.warned {
		k.warned[file] = l.now
	}
	k.state.Store(l.next)
	return l.findings
}

// Refresh reads files that have changed, and warns of certificates that expire soon. A file that cannot be
// used is logged once, and its previous content stays in use. Call it every half minute or so; existing
// connections are not affected.
func (k *Keys) Refresh(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.state.Load()
	for _, p := range s.certs {
		// Reading a self-signed one renews it, although nothing on disk has changed.
		p.check(now, p.selfSigned && expiryWarning(p.value.Load().Leaf, now) != nil)
		if fault := expiryWarning(p.value.Load().Leaf, now); k.warnsNow(fault, p.paths[0], now) {
			k.log.Warn("the certificate "+fault.Text, "file", p.paths[0],
				"forwards", strings.Join(p.forwards, " "), "remedy", fault.Remedy)
		}
	}
	for _, p := range s.pools {
		p.check(now, false)
		if len(p.clientsOf) > 0 {
			k.warnOfClients(p.value.Load().warning(now), p.paths[0], p.clientsOf, now)
		}
	}
	for _, c := range s.crls {
		c.check(now, false)
		k.warnOfClients(c.value.Load().warning(now), c.paths[0], c.forwards, now)
	}
}

// warnOfClients logs a warning about a file by which clients are verified; nil: there is none.
func (k *Keys) warnOfClients(fault *finding.Finding, file string, forwards []string, now time.Time) {
	if k.warnsNow(fault, file, now) {
		k.log.Warn("clients with a certificate are refused, or will be", "file", file,
			"forwards", strings.Join(forwards, " "), "error", fault.Text, "remedy", fault.Remedy)
	}
}

// warnsNow reports whether the log has a warning about a file now: once a day. nil: there is none.
func (k *Keys) warnsNow(fault *finding.Finding, file string, now time.Time) bool {
	if fault == nil {
		delete(k.warned, file)
		return false
	}
	if last, logged := k.warned[file]; logged && now.Sub(last) < warnInterval {
		return false
	}
	k.warned[file] = now
	return true
}

// Expiry is when a certificate expires.
type Expiry struct {
	Forwards []string // the forwards that use it, by name
	File     string
	Subject  string // of the certificate (RFC 2253); may be empty
	NotAfter time.Time
}

// Expiries returns the expiry of every certificate in use, the nearest first. The caller must not change the
// slices of names.
func (k *Keys) Expiries() []Expiry {
	var all []Expiry
	for _, p := range k.state.Load().certs {
		leaf := p.value.Load().Leaf
		all = append(all, Expiry{Forwards: p.forwards, File: p.paths[0], Subject: leaf.Subject.String(),
			NotAfter: leaf.NotAfter})
	}
	slices.SortFunc(all, func(a, b Expiry) int {
		return cmp.Or(a.NotAfter.Compare(b.NotAfter), cmp.Compare(a.File, b.File))
	})
	return all
}

// FileExpiry is when a file of a forward expires: the first of its certificates.
type FileExpiry struct {
	Forward  string // its name
	Key      string // of the configuration: tls.cert, tls.client_cert, tls.ca or tls.client_ca
	NotAfter time.Time
}

// FileExpiries returns the end of every file of certificates in use, those of authorities too, in no order.
func (k *Keys) FileExpiries() (all []FileExpiry) {
	for name, files := range k.state.Load().forwards {
		if files.cert != nil {
			all = append(all, FileExpiry{name, "tls.cert", files.cert.value.Load().Leaf.NotAfter})
		}
		if files.clientCert != nil {
			end := files.clientCert.value.Load().Leaf.NotAfter
			all = append(all, FileExpiry{name, "tls.client_cert", end})
		}
		for _, authorities := range []struct {
			key string
			*pool
		}{{"tls.ca", files.ca}, {keyClientCA, files.clientCA}} {
			if authorities.pool == nil {
				continue
			}
			all = append(all, FileExpiry{name, authorities.key,
				authorities.value.Load().firstToEnd().NotAfter})
		}
	}
	return all
}
