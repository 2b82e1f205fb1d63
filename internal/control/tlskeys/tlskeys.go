// Package secure makes the TLS of forwards: certificates and their renewal, whom to trust, and which
// sessions may be resumed (RFC 4217, RFC 8446, RFC 9325).
//
// It reads the files that forwards name, keeps the certificates that it signs itself in one directory,
// and hands out a tls.Config for each connection. It opens no connection, never verifies less than a
// forward asks for, and never writes a key anywhere but into that directory.
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
	// WarnBefore is how long before its end a certificate is warned of: a month is what a renewal
	// that nobody has automated takes.
	WarnBefore = 30 * 24 * time.Hour
	// warnAgain is how often the log says so.
	warnAgain = 24 * time.Hour
)

// Keys is what the forwards of a gateway need for TLS. It may be used by several goroutines at once.
type Keys struct {
	dir    string
	log    *slog.Logger
	now    func() time.Time
	system func() (*x509.CertPool, error) // the roots of the host

	state atomic.Pointer[state] // never nil

	mu     sync.Mutex           // one Load or Look at a time
	warned map[string]time.Time // when the end of a certificate was last warned of, by its file; guarded by mu
}

// state is what one Load has read. It is not changed afterwards; what its files hold is.
type state struct {
	forwards map[string]*legs // by name
	pairs    map[[2]string]*pair
	pools    map[string]*pool
}

// legs is the TLS of one forward; nil where a leg needs nothing of the kind.
type legs struct {
	cert  *pair // shown to clients
	shown *pair // shown to the server, if it asks
	ca    *pool // whom to trust; nil: the host's roots
}

// pair is a certificate with its key.
type pair struct {
	*watched[tls.Certificate]
	forwards []string // that use it
	own      bool     // signed by ourselves: its end is nothing to warn of
}

// pool is the certificates of authorities.
type pool struct{ *watched[x509.CertPool] }

// New returns keys without forwards. dir is where certificates that the gateway signs itself are kept; it
// is made when the first one is. The log gets what happens to files between two Loads.
func New(dir string, log *slog.Logger) *Keys {
	k := &Keys{dir: dir, log: log, now: time.Now, system: x509.SystemCertPool, warned: map[string]time.Time{}}
	k.state.Store(&state{})
	return k
}

// StateDir returns where a process of this user keeps what outlives it: the directory that systemd made
// for it (StateDirectory= in systemd.exec(5)), /var/lib/ftpgate for root, else below the user's own state
// directory (XDG base directory specification). It is "" where there is no such place.
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

// Load reads every file that the TLS of the forwards names, makes the certificates that are to be
// self-signed, and returns all that is wrong at once. Where that is nothing but warnings, sessions that
// begin from now on use what was read; else nothing changes. addrs are the gateway's own addresses, for
// the certificate of a forward that listens on all of them.
func (k *Keys) Load(forwards []forward.Forward, addrs []netip.Addr) []finding.Finding {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := loading{keys: k, addrs: addrs, at: k.now(), next: &state{
		forwards: make(map[string]*legs, len(forwards)), pairs: map[[2]string]*pair{}, pools: map[string]*pool{},
	}}
	for _, f := range forwards {
		l.forward(f)
	}
	if slices.ContainsFunc(l.faults, finding.Finding.IsFault) {
		return l.faults
	}
	for _, file := range l.ending {
		k.warned[file] = l.at
	}
	k.state.Store(l.next)
	return l.faults
}

// Look reads again what has changed on disk since it was last read, and warns of certificates that end
// soon. What cannot be used leaves in place what is in use, and is logged once. To be called every
// half a minute or so; connections that are up are not touched.
func (k *Keys) Look(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.state.Load()
	for _, p := range s.pairs {
		// Our own are made anew by reading them, which nothing on disk asks for.
		p.check(now, p.own && ends(p.value.Load().Leaf, now) != nil)
		k.warn(p, now)
	}
	for _, p := range s.pools {
		p.check(now, false)
	}
}

// warn says in the log, once a day, that a certificate ends soon or has ended.
func (k *Keys) warn(p *pair, now time.Time) {
	file := p.files[0]
	fault := ends(p.value.Load().Leaf, now)
	if fault == nil {
		delete(k.warned, file)
		return
	}
	if last, told := k.warned[file]; told && now.Sub(last) < warnAgain {
		return
	}
	k.warned[file] = now
	k.log.Warn("the certificate "+fault.Text, "file", file, "forwards", strings.Join(p.forwards, " "), "remedy", fault.Remedy)
}

// Expiry is until when a certificate is good.
type Expiry struct {
	Forwards []string // the forwards that use it, by name
	File     string
	NotAfter time.Time
}

// Expiries returns the end of every certificate in use, the nearest first. The caller must not change the
// slices of names.
func (k *Keys) Expiries() []Expiry {
	var all []Expiry
	for _, p := range k.state.Load().pairs {
		all = append(all, Expiry{Forwards: p.forwards, File: p.files[0], NotAfter: p.value.Load().Leaf.NotAfter})
	}
	slices.SortFunc(all, func(a, b Expiry) int {
		return cmp.Or(a.NotAfter.Compare(b.NotAfter), cmp.Compare(a.File, b.File))
	})
	return all
}
