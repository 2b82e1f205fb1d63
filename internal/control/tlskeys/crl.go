package tlskeys

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

// maxCRL is how large a file of revocation lists may be, in bytes: a list has some 50 for each certificate.
const maxCRL = 16 << 20

// keyCRL names the file of revocation lists.
const keyCRL = "tls.client_crl"

// crl is a file of revocation lists.
type crl struct {
	*watched[revocations]
	forwards []string // that use it
}

// revocations are the revocation lists (RFC 5280 section 5) of a file, one or more for each authority.
type revocations struct {
	lists []revocationList

	mu     sync.Mutex // never held while a signature is checked
	newest map[authorityKey]*revocationList
}

// authorityKey is what the signature of a list depends on.
type authorityKey struct{ subject, publicKey string }

type revocationList struct {
	*x509.RevocationList
	revoked map[string]bool // by the bytes of the serial number
}

// readCRL reads the revocation lists of a file.
func readCRL(path string) (*revocations, *finding.Finding) {
	text, fault := readFile(keyCRL, path, maxCRL)
	if fault != nil {
		return nil, fault
	}
	r := &revocations{}
	what, remedy := noPEM(text, "openssl crl -inform der -in FILE -out NEWFILE")
	for block := range blocks(text) {
		if block.Type != "X509 CRL" {
			what, remedy = fmt.Sprintf("holds %q and no revocation list", block.Type),
				"name a file with BEGIN X509 CRL in it"
			continue
		}
		list, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, newFault(keyCRL, fmt.Sprintf("%s: revocation list %d of the file is damaged: %v",
				path, len(r.lists)+1, err), "take the list from the certificate authority again")
		}
		if isPart(list) {
			return nil, newFault(keyCRL, fmt.Sprintf("%s: revocation list %d of the file is not complete",
				path, len(r.lists)+1),
				"take the whole list of the authority, neither a delta nor one of a distribution point")
		}
		r.lists = append(r.lists, newRevocationList(list))
	}
	if len(r.lists) == 0 {
		return nil, newFault(keyCRL, path+" "+what, remedy)
	}
	return r, nil
}

// isPart reports whether a list has a critical extension, which limits it to some certificates (RFC 5280
// sections 5.2.4 and 5.2.5).
func isPart(list *x509.RevocationList) bool {
	return slices.ContainsFunc(list.Extensions, func(e pkix.Extension) bool { return e.Critical })
}

func newRevocationList(list *x509.RevocationList) revocationList {
	l := revocationList{list, make(map[string]bool, len(list.RevokedCertificateEntries))}
	for _, entry := range list.RevokedCertificateEntries {
		l.revoked[string(entry.SerialNumber.Bytes())] = true
	}
	return l
}

// of returns the newest list that an authority has signed; nil: there is none. It checks the signatures once
// for each authority: every handshake asks, and a list may have millions of bytes to hash. The authorities
// are those of verified chains, which bounds the map.
func (r *revocations) of(authority *x509.Certificate) *revocationList {
	key := authorityKey{string(authority.RawSubject), string(authority.RawSubjectPublicKeyInfo)}
	r.mu.Lock()
	list, known := r.newest[key]
	r.mu.Unlock()
	if known {
		return list
	}
	list = r.find(authority)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.newest == nil {
		r.newest = make(map[authorityKey]*revocationList)
	}
	r.newest[key] = list
	return list
}

func (r *revocations) find(authority *x509.Certificate) *revocationList {
	var newest *revocationList
	for i := range r.lists {
		l := &r.lists[i]
		if string(l.RawIssuer) == string(authority.RawSubject) && l.CheckSignatureFrom(authority) == nil &&
			(newest == nil || l.ThisUpdate.After(newest.ThisUpdate)) {
			newest = l
		}
	}
	return newest
}

// check refuses a client with a revoked certificate in one of its chains, and one whose chains all have a
// certificate that no valid list covers. The authority at the end of a chain needs no list. nil: the client
// is admitted.
func (r *revocations) check(chains [][]*x509.Certificate, now time.Time) *PolicyError {
	const unknown = "it is not known whether the client's certificate is revoked: "
	checked := false
	var why *PolicyError
	for _, chain := range chains {
		gap := false
		for i, cert := range chain[:len(chain)-1] {
			list := r.of(chain[i+1])
			switch {
			case list == nil:
				gap, why = true, certificateError(explanation{
					reason: unknown + "there is no revocation list of its authority",
					remedy: fmt.Sprintf("add the list that %q has signed to the file of tls.client_crl",
						subjectOf(chain[i+1]))})
			case list.revoked[string(cert.SerialNumber.Bytes())]:
				return certificateError(explanation{reason: "the client's certificate is revoked",
					remedy: "give the client a new certificate if it is to connect again"})
			case list.expired(now):
				gap, why = true, certificateError(explanation{
					reason: unknown + "the revocation list of its authority has expired", remedy: remedyCRL})
			case now.Before(list.ThisUpdate):
				gap, why = true, certificateError(explanation{
					reason: unknown + "the revocation list of its authority is not valid yet",
					remedy: "check the clock of this host"})
			}
		}
		checked = checked || !gap
	}
	if checked {
		return nil
	}
	return why
}

// remedyCRL is the remedy for a list that expires.
const remedyCRL = "put the authority's current list into the file of tls.client_crl, which is taken up " +
	"without a restart; have a timer do it"

// expired reports whether a newer list is due. A list need not have a date for that.
func (l revocationList) expired(now time.Time) bool {
	return !l.NextUpdate.IsZero() && now.After(l.NextUpdate)
}

// warning warns of a list that has expired, or is in the last quarter of its time, at most a day before.
func (r *revocations) warning(now time.Time) *finding.Finding {
	for _, l := range r.lists {
		left := l.NextUpdate.Sub(now)
		switch {
		case l.NextUpdate.IsZero():
		case l.expired(now):
			return newWarning(keyCRL, fmt.Sprintf("the revocation list of %q has expired on %s: "+
				"its clients are refused", l.Issuer, l.NextUpdate.UTC().Format(time.DateTime)), remedyCRL)
		case left < min(24*time.Hour, l.NextUpdate.Sub(l.ThisUpdate)/4):
			return newWarning(keyCRL, fmt.Sprintf("the revocation list of %q expires in %s: "+
				"its clients are refused from then on", l.Issuer, left.Round(time.Minute)), remedyCRL)
		}
	}
	return nil
}

// uncovered warns of authorities without a list.
func (r *revocations) uncovered(file string, trust *Trust) *finding.Finding {
	var names []string
	for _, cert := range trust.certs {
		if cert.IsCA && r.of(cert) == nil {
			names = append(names, fmt.Sprintf("%q", subjectOf(cert)))
		}
	}
	if len(names) == 0 {
		return nil
	}
	return newWarning(keyCRL, fmt.Sprintf("%s holds no revocation list that %s has signed: "+
		"clients with a certificate of that authority are refused", file, strings.Join(names, ", ")),
		"add its list to the file, or take the authority out of the file of tls.client_ca")
}

// crl reads the revocation lists for the clients of a forward, once for all forwards that use them.
func (l *loading) crl(f forward.Forward, authorities *pool) *crl {
	file := f.TLS.ClientCRL
	if file == "" {
		return nil
	}
	c, known := l.next.crls[file]
	if !known {
		c = &crl{watched: &watched[revocations]{paths: []string{file}, log: l.keys.log,
			read: func() (*revocations, *finding.Finding) { return readCRL(file) }}}
		l.next.crls[file] = c
		l.report(f.Name, c.load(l.now))
	}
	c.forwards = append(c.forwards, f.Name)
	lists := c.value.Load()
	if lists == nil {
		return c
	}
	if fault := lists.warning(l.now); fault != nil {
		l.report(f.Name, fault)
		l.warned = append(l.warned, file)
	}
	if trust := authorities.value.Load(); trust != nil {
		l.report(f.Name, lists.uncovered(file, trust))
	}
	return c
}
