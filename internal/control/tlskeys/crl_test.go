package tlskeys

import (
	"crypto/x509"
	"os"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/try/testca"
)

// intermediate makes an authority that another one has signed.
func intermediate(t *testing.T, by signed) signed {
	t.Helper()
	return sign(t, by, func(c *x509.Certificate) { testca.ForSigning(c); c.ExtKeyUsage = nil })
}

// list makes an authority's revocation list.
func list(t *testing.T, by signed, next time.Time, revoked ...signed) []byte {
	t.Helper()
	var certs []*x509.Certificate
	for _, s := range revoked {
		certs = append(certs, s.cert)
	}
	text, err := by.asPair().Revoke(next, certs...)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestRevocation: which certificates the lists let in. Without a list that says so, none.
func TestRevocation(t *testing.T) {
	m := newMutual(t)
	good, bad := device(t, m.clients, nil), device(t, m.clients, nil)
	between := intermediate(t, m.clients)
	below := device(t, between, nil)
	stranger := authority(t)
	week, past := time.Now().Add(7*24*time.Hour), time.Now().Add(-time.Hour)
	for name, test := range map[string]struct {
		own     signed
		through *signed // the intermediate certificate that the client sends
		lists   [][]byte
		reason  string
	}{
		"good":       {own: good, lists: [][]byte{list(t, m.clients, week, bad)}},
		"empty list": {own: good, lists: [][]byte{list(t, m.clients, week)}},
		"revoked": {own: bad, lists: [][]byte{list(t, m.clients, week, good, bad)},
			reason: "the client's certificate is revoked"},
		"the newest counts": {own: bad, lists: [][]byte{list(t, m.clients, past), list(t, m.clients, week,
			bad), list(t, m.clients, past)}, reason: "the client's certificate is revoked"},
		"expired": {own: good, lists: [][]byte{list(t, m.clients, past)},
			reason: "it is not known whether the client's certificate is revoked: the revocation list of " +
				"its authority has expired"},
		"expired, revoked": {own: bad, lists: [][]byte{list(t, m.clients, past, bad)},
			reason: "the client's certificate is revoked"},
		"another authority": {own: good, lists: [][]byte{list(t, stranger, week)},
			reason: "it is not known whether the client's certificate is revoked: there is no revocation " +
				"list of its authority"},
		"both authorities": {own: below, through: &between, lists: [][]byte{list(t, m.clients, week, bad),
			list(t, between, week)}},
		"one authority": {own: below, through: &between, lists: [][]byte{list(t, m.clients, week)},
			reason: "it is not known whether the client's certificate is revoked: there is no revocation " +
				"list of its authority"},
		"the intermediate": {own: below, through: &between, lists: [][]byte{list(t, m.clients, week,
			between), list(t, between, week)}, reason: "the client's certificate is revoked"},
	} {
		t.Run(name, func(t *testing.T) {
			f := m.Forward
			f.TLS.ClientCRL = put(t, "crl.pem", test.lists...)
			k, _, _ := keys(t, f)
			client := m.client(0, test.own)
			if test.through != nil {
				chain := &client.Certificates[0].Certificate
				*chain = append(*chain, test.through.cert.Raw)
			}
			s, subject, atClient, err := control(t, k, f, client)
			if atClient != nil || subject != "CN=scanner 7,O=Example" {
				t.Errorf("got %q, the client %v; want TLS, in which the refusal is said", subject, atClient)
			}
			if test.reason == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantClientRefused(t, s, err, test.reason)
		})
	}
}

// TestRevocationChanges: a list that changes counts for the next session. If the file cannot be read, the
// list before it counts until it expires, and no client is accepted then.
func TestRevocationChanges(t *testing.T) {
	m := newMutual(t)
	one := device(t, m.clients, nil)
	week := time.Now().Add(7 * 24 * time.Hour)
	sound := list(t, m.clients, week)
	file := put(t, "crl.pem", sound)
	m.TLS.ClientCRL = file
	k, at, log := keys(t, m.Forward)
	try := func(want string) {
		t.Helper()
		s, _, _, err := control(t, k, m.Forward, m.client(0, one))
		_, reason, _ := s.Explain(err)
		if reason = strings.TrimPrefix(reason,
			"it is not known whether the client's certificate is revoked: "); err == nil {
			reason = ""
		}
		if reason != want {
			t.Errorf("got %q, error %v; want %q", reason, err, want)
		}
	}
	try("")
	renew(t, file, list(t, m.clients, week, one))
	k.Refresh(at.pass(time.Second))
	log.wantLog(t, "level=INFO", file)
	try("the client's certificate is revoked")
	renew(t, file, sound)
	k.Refresh(at.pass(time.Second))
	log.wantLog(t, "level=INFO", file)

	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	k.Refresh(at.pass(time.Second))
	log.wantLog(t)
	try("") // it may be on its way
	k.Refresh(at.pass(unusableTime))
	log.wantLog(t, "level=ERROR", "does not exist", "its previous content stays in use", "remedy=")
	try("") // the list has not expired

	k.Refresh(at.pass(6*24*time.Hour + time.Hour))
	log.wantLog(t, "level=WARN", "expires in 23h", "forwards=archive", "remedy=")
	try("")
	k.Refresh(at.pass(24 * time.Hour))
	log.wantLog(t, "level=WARN", "has expired on", "its clients are refused")
	try("the revocation list of its authority has expired")
}

// TestRevocationFaults: what is wrong with a file of lists is said when it is loaded.
func TestRevocationFaults(t *testing.T) {
	m := newMutual(t)
	week := time.Now().Add(7 * 24 * time.Hour)
	sound := list(t, m.clients, week)
	var der []byte
	for block := range blocks(sound) {
		der = block.Bytes
	}
	for name, test := range map[string]struct {
		text, want string
		warning    bool
	}{
		"empty":       {"", "is empty", false},
		"DER":         {string(der), "is in DER, not in PEM: remedy openssl crl -inform der", false},
		"certificate": {string(m.clients.certPEM()), `holds "CERTIFICATE" and no revocation list`, false},
		"damaged": {string(encode("X509 CRL", der[:40])), "revocation list 1 of the file is damaged",
			false},
		"expired": {string(list(t, m.clients, time.Now().Add(-time.Hour))), "has expired on", true},
		"another authority": {string(list(t, authority(t), week)),
			`holds no revocation list that "CN=test authority" has signed`, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := m.Forward
			f.TLS.ClientCRL = put(t, "crl.pem", []byte(test.text))
			k := New(t.TempDir(), nil)
			findings := k.Load([]forward.Forward{f}, nil)
			if len(findings) != 1 || findings[0].Key != "tls.client_crl" ||
				findings[0].IsFault() == test.warning {
				t.Fatalf("got %v; want one about the list", texts(findings))
			}
			if got := findings[0].Text + ": remedy " + findings[0].Remedy; !strings.Contains(got, test.want) {
				t.Errorf("got %q; want %q in it", got, test.want)
			}
		})
	}
}
