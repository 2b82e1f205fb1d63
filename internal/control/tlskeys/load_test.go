package tlskeys

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
)

// material is files that forwards may name.
type material struct {
	dir        string
	ca         signed
	cert, next signed
}

func newMaterial(t *testing.T) *material {
	t.Helper()
	ca := authority(t)
	m := &material{dir: t.TempDir(), ca: ca, cert: sign(t, ca, nil), next: sign(t, ca, nil)}
	late := sign(t, ca, expired)
	soon := sign(t, ca, func(c *x509.Certificate) {
		c.NotAfter = time.Now().Add(7*24*time.Hour +
			time.Minute)
	})
	early := sign(t, ca, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(48 * time.Hour) })
	cert, key := m.cert.certPEM(), m.cert.keyPEM()
	old := &pem.Block{Type: "EC PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"},
		Bytes: []byte("x")}
	for name, text := range map[string][]byte{
		"cert": cert, "key": key, "both": slices.Concat(cert, key), "ca": ca.certPEM(),
		"chain": slices.Concat(cert, ca.certPEM()), "reversed": slices.Concat(ca.certPEM(), cert),
		"other-key": m.next.keyPEM(), "empty": {}, "text": []byte("certificate\n"), "der": m.cert.cert.Raw,
		"request":       encode("CERTIFICATE REQUEST", []byte("x")),
		"trusted":       encode("TRUSTED CERTIFICATE", []byte("x")),
		"public-key":    encode("PUBLIC KEY", []byte("x")),
		"encrypted":     encode("ENCRYPTED PRIVATE KEY", []byte("x")),
		"encrypted-old": pem.EncodeToMemory(old), "ssh": encode("OPENSSH PRIVATE KEY", []byte("x")),
		"damaged": encode("CERTIFICATE", []byte("x")), "damaged-key": encode("PRIVATE KEY", []byte("x")),
		"large":   bytes.Repeat([]byte("x"), maxFile+1),
		"expired": slices.Concat(late.certPEM(), late.keyPEM()),
		"soon":    slices.Concat(soon.certPEM(), soon.keyPEM()),
		"early":   slices.Concat(early.certPEM(), early.keyPEM()),
	} {
		put(t, m.path(name), text)
	}
	put(t, m.path("public"), cert, key)
	if err := errors.Join(os.Chmod(m.path("public"), 0o644),
		syscall.Mkfifo(m.path("pipe"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *material) path(name string) string { return filepath.Join(m.dir, name) }

// loadCase is files, and the beginning of the finding; empty: there is none.
type loadCase struct{ cert, key, ca, want string }

// TestLoadFaults: each thing that a file may have against it, as certificate, key and authority.
func TestLoadFaults(t *testing.T) {
	m := newMaterial(t)
	for _, c := range []loadCase{
		{"cert", "key", "", ""},
		{"chain", "key", "ca", ""},
		{"both", "", "cert", ""},
		{"", "", "", `tls.cert: clients are offered TLS, and there is no certificate: name the files`},
		{"none", "key", "", "tls.cert: DIR/none does not exist: name the file where it is"},
		{"cert", "none", "", "tls.key: DIR/none does not exist"},
		{"cert", "key", "none", "tls.ca: DIR/none does not exist"},
		{".", "key", "", "tls.cert: DIR is not a file"},
		{"pipe", "key", "", "tls.cert: DIR/pipe is not a file"},
		{"large", "key", "", "tls.cert: DIR/large is larger than 1024 KiB"},
		{"key/x", "key", "", "tls.cert: DIR/key/x cannot be read: not a directory"},
		{"empty", "key", "", "tls.cert: DIR/empty is empty"},
		{"text", "key", "", "tls.cert: DIR/text holds no PEM"},
		{"der", "key", "", "tls.cert: DIR/der is in DER, not in PEM: openssl x509 -inform der"},
		{"cert", "der", "", "tls.key: DIR/der is in DER, not in PEM: openssl pkey -inform der"},
		{"key", "key", "", "tls.cert: DIR/key holds a private key and no certificate"},
		{"cert", "cert", "", "tls.key: DIR/cert holds a certificate and no private key"},
		{"cert", "", "",
			"tls.cert: DIR/cert holds no private key, and no file for one is named: name the key's file, " +
				"too"},
		{"request", "key", "", "tls.cert: DIR/request holds a request, which an authority has yet to sign"},
		{"trusted", "key", "", "tls.cert: DIR/trusted holds a certificate in OpenSSL's own form"},
		{"public-key", "key", "", `tls.cert: DIR/public-key holds "PUBLIC KEY" and no certificate`},
		{"cert", "public-key", "", `tls.key: DIR/public-key holds "PUBLIC KEY" and no private key`},
		{"cert", "encrypted", "",
			"tls.key: DIR/encrypted holds a key that is encrypted with a password: ftpgate cannot ask for " +
				"it: openssl pkey"},
		{"cert", "encrypted-old", "",
			"tls.key: DIR/encrypted-old holds a key that is encrypted with a password"},
		{"cert", "ssh", "", "tls.key: DIR/ssh holds a key of ssh"},
		{"cert", "other-key", "",
			"tls.key: the key in DIR/other-key does not belong to the certificate in DIR/cert: name the " +
				"key that the certificate was made for"},
		{"reversed", "key", "",
			"tls.cert: DIR/reversed: the certificate that belongs to the key is number 2 of the file: put " +
				"it first"},
		{"damaged", "key", "", "tls.cert: DIR/damaged: certificate 1 of the file is damaged"},
		{"cert", "damaged-key", "", "tls.key: the key in DIR/damaged-key cannot be used"},
		{"cert", "key", "key", "tls.ca: DIR/key holds a private key and no certificate"},
		{"cert", "key", "text", "tls.ca: DIR/text holds no PEM"},
		{"cert", "key", "damaged", "tls.ca: DIR/damaged: certificate 1 of the file is damaged"},
		{"expired", "", "", "warning tls.cert: the certificate in DIR/expired expired on "},
		{"soon", "", "",
			"warning tls.cert: the certificate in DIR/soon expires on DATE, in 7 days: have it renewed"},
		{"early", "", "", "warning tls.cert: the certificate in DIR/early is valid only from "},
		{"public", "", "",
			"warning tls.cert: DIR/public holds a private key, and every user of this host may read or " +
				"change it (mode 0644): chmod o= DIR/public"},
		{"cert", "public", "", "warning tls.key: DIR/public holds a private key"},
	} {
		t.Run(fmt.Sprintf("%s %s %s", c.cert, c.key, c.ca), func(t *testing.T) { c.run(t, m) })
	}
}

func (c loadCase) run(t *testing.T, m *material) {
	f := forward.Forward{Name: "archive", TLS: forward.TLS{Client: forward.ClientTLSRequired}}
	if c.cert != "" {
		f.TLS.Cert = m.path(c.cert)
	}
	if c.key != "" {
		f.TLS.Key = m.path(c.key)
	}
	if c.ca != "" {
		f.TLS.Server, f.TLS.CA = forward.ServerTLSRequired, m.path(c.ca)
	}
	wantFault(t, m, f, c.want)
	if c.ca == "" && c.cert != "" { // the same as client certificate for a server
		f.TLS = forward.TLS{Server: forward.ServerTLSImplicit, CA: m.path("ca"), ClientCert: f.TLS.Cert,
			ClientKey: f.TLS.Key}
		keys := strings.NewReplacer("tls.cert:", "tls.client_cert:", "tls.key:", "tls.client_key:")
		wantFault(t, m, f, keys.Replace(c.want))
	}
}

// wantFault asserts that a forward has one fault that begins so, or none.
func wantFault(t *testing.T, m *material, f forward.Forward, want string) {
	t.Helper()
	k, _, _ := keys(t)
	faults := k.Load([]forward.Forward{f}, nil)
	want = strings.ReplaceAll(want, "DIR", m.dir)
	want = strings.ReplaceAll(want, "DATE", time.Now().Add(7*24*time.Hour+
		time.Minute).UTC().Format("2006-01-02"))
	switch {
	case want == "" && len(faults) == 0:
		return
	case want == "" || len(faults) != 1:
		t.Fatalf("got %q; want %q and nothing else", texts(faults), want)
	}
	got := faults[0].Key + ": " + faults[0].Text + ": " + faults[0].Remedy
	if !faults[0].IsFault() {
		got = "warning " + got
	}
	if !strings.HasPrefix(got, want) || faults[0].Forward != "archive" || faults[0].Remedy == "" {
		t.Errorf("got %q of forward %q; want %q of archive", got, faults[0].Forward, want)
	}
	if loaded := len(k.Expiries()) > 0; loaded != !faults[0].IsFault() {
		t.Errorf("in use %v; want %v", loaded, !faults[0].IsFault())
	}
}

// TestLoadPolicies: what is less safe than it could be is said at each Load, where it matters.
func TestLoadPolicies(t *testing.T) {
	m := newMaterial(t)
	f := forward.Forward{Name: "archive", TLS: forward.TLS{SessionReuseOptional: true,
		ClientCloseNotifyOptional: true,
		Insecure:                  true, ServerCloseNotifyOptional: true, Cert: m.path("both")}}
	k, _, _ := keys(t, f)
	if faults := k.Load([]forward.Forward{f}, nil); faults != nil {
		t.Errorf("no TLS: got %q; want none", texts(faults))
	}
	f.TLS.Client, f.TLS.Server = forward.ClientTLSOptional, forward.ServerTLSRequired
	for range 2 {
		var got []string
		for _, fault := range k.Load([]forward.Forward{f}, nil) {
			if fault.IsFault() {
				t.Errorf("got %q; want only warnings", fault)
			}
			got = append(got, fault.Key)
		}
		want := []string{"tls.session_reuse", "tls.client_close_notify", "tls.verify",
			"tls.server_close_notify"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q; want %q", got, want)
		}
	}
	f.Tracking = forward.TrackingNone
	if faults := k.Load([]forward.Forward{f}, nil); faults != nil {
		t.Errorf("tracking none: got %q; want none", texts(faults))
	}
}

// TestLoadNoRoots: in a bare container no authority is trusted; that is said once, and not where a CA is
// named.
func TestLoadNoRoots(t *testing.T) {
	m := newMaterial(t)
	k, _, _ := keys(t)
	for _, system := range []func() (*x509.CertPool, error){
		func() (*x509.CertPool, error) { return nil, errors.New("no roots") },
		func() (*x509.CertPool, error) { return x509.NewCertPool(), nil },
	} {
		k.system = system
		one, two := originated(""), originated("")
		two.Name = "second"
		if faults := k.Load([]forward.Forward{one, two}, nil); len(faults) != 1 || !faults[0].IsFault() ||
			!strings.Contains(faults[0].Remedy, "ca-certificates") {
			t.Errorf("got %q; want one fault", texts(faults))
		}
		if faults := k.Load([]forward.Forward{originated(m.path("ca"))}, nil); faults != nil {
			t.Errorf("with a CA: got %q; want none", texts(faults))
		}
	}
}

// TestLoadAllOrNothing: every fault at once, each file once; and what was in use stays.
func TestLoadAllOrNothing(t *testing.T) {
	m := newMaterial(t)
	good := terminated(m.path("both"), "")
	k, _, _ := keys(t, good)
	bad := func(name, cert string) forward.Forward {
		f := terminated(m.path(cert), "")
		f.Name = name
		return f
	}
	faults := k.Load([]forward.Forward{bad("archive", "soon"), bad("second", "none"), bad("third", "none"),
		bad("fourth", "text")}, nil)
	var names []string
	for _, f := range faults {
		names = append(names, f.Forward)
	}
	if want := []string{"archive", "second", "fourth"}; !slices.Equal(names, want) {
		t.Errorf("got faults of %q; want of %q", names, want)
	}
	wantShown(t, k, good, trusting(m.ca, 0), m.cert)
	if got := k.Expiries(); len(got) != 1 || got[0].File != m.path("both") {
		t.Errorf("got %v; want the one that was in use", got)
	}
}

// TestLoadMeanwhile: a session that began before a Load finds what it began with.
func TestLoadMeanwhile(t *testing.T) {
	m := newMaterial(t)
	f := terminated(m.path("both"), "")
	k, _, _ := keys(t, f)
	own, err := k.ForClient(f, theClient)
	if err != nil {
		t.Fatal(err)
	}
	if faults := k.Load(nil, nil); faults != nil {
		t.Fatal(faults)
	}
	if s, c := shake(t, own.Control(), trusting(m.ca, 0)); s.err != nil || c.err != nil {
		t.Errorf("server %v, client %v; want none", s.err, c.err)
	}
	if _, err := k.ForClient(f, theClient); err == nil {
		t.Error("a new session of a forward that is gone: got no error")
	}
}

// TestExpiries: every certificate once, the nearest end first.
func TestExpiries(t *testing.T) {
	m := newMaterial(t)
	one, two, three := terminated(m.path("cert"), m.path("key")), terminated(m.path("soon"), ""),
		terminated(m.path("cert"), m.path("key"))
	two.Name, three.Name = "second", "third"
	two.TLS.Server, two.TLS.CA, two.TLS.ClientCert = forward.ServerTLSRequired, m.path("ca"),
		m.path("expired")
	k, _, _ := keys(t, one, two, three)
	var got []string
	for _, e := range k.Expiries() {
		got = append(got, fmt.Sprint(filepath.Base(e.File), e.Forwards))
	}
	if want := []string{"expired[second]", "soon[second]", "cert[archive third]"}; !slices.Equal(got, want) {
		t.Errorf("got %q; want %q", got, want)
	}
	got = nil
	for _, e := range k.FileExpiries() {
		got = append(got, fmt.Sprint(e.Forward, " ", e.Key, " ", e.NotAfter.After(time.Now())))
	}
	slices.Sort(got)
	if want := []string{"archive tls.cert true", "second tls.ca true", "second tls.cert true",
		"second tls.client_cert false", "third tls.cert true"}; !slices.Equal(got, want) {
		t.Errorf("got %q; want %q", got, want)
	}
	if got := k.Expiries()[2]; !got.NotAfter.Equal(m.cert.cert.NotAfter) || got.Subject == "" ||
		got.Subject != m.cert.cert.Subject.String() {
		t.Errorf("got %+v; want the end %v, and the subject %s", got, m.cert.cert.NotAfter,
			m.cert.cert.Subject)
	}
}

// TestUnreadable: the faults that root never meets.
func TestUnreadable(t *testing.T) {
	f := unreadable("tls.key", "/etc/key.pem",
		&fs.PathError{Op: "open", Path: "/etc/key.pem", Err: syscall.EACCES})
	if !strings.Contains(f.Text, "/etc/key.pem may not be read by ") ||
		!strings.Contains(f.Text, fmt.Sprintf("uid %d", os.Geteuid())) || !f.IsFault() {
		t.Errorf("got %q; want the user and the file", f)
	}
	f = unreadable("tls.key", "/etc/key.pem",
		&fs.PathError{Op: "read", Path: "/etc/key.pem", Err: syscall.EIO})
	if want := "/etc/key.pem cannot be read: input/output error"; f.Text != want {
		t.Errorf("got %q; want %q", f.Text, want)
	}
}

// TestStateDir: where certificates are kept.
func TestStateDir(t *testing.T) {
	home := "/home/u/.local/state/ftpgate"
	xdg := "/xdg/ftpgate"
	none := ""
	if os.Geteuid() == 0 {
		home, xdg, none = "/var/lib/ftpgate", "/var/lib/ftpgate", "/var/lib/ftpgate"
	}
	for _, test := range []struct{ systemd, xdg, home, want string }{
		{"/var/lib/one:/var/lib/two", "/xdg", "/home/u", "/var/lib/one"},
		{"", "/xdg", "/home/u", xdg},
		{"", "not/absolute", "/home/u", home},
		{"", "", "/home/u", home},
		{"", "", "", none},
	} {
		t.Setenv("STATE_DIRECTORY", test.systemd)
		t.Setenv("XDG_STATE_HOME", test.xdg)
		t.Setenv("HOME", test.home)
		if got := StateDir(); got != test.want {
			t.Errorf("%+v: got %q", test, got)
		}
	}
}

// TestOwnAddresses: the certificate of a forward that listens everywhere is good for every address.
func TestOwnAddresses(t *testing.T) {
	f := terminated(forward.SelfSigned, "")
	f.Advertise = []forward.Advertise{{Host: "198.51.100.7"}, {Host: "Ftp.Example.COM."}}
	addrs := []netip.Addr{netip.MustParseAddr("192.168.5.2"), netip.MustParseAddr("fe80::1%eth0"),
		netip.MustParseAddr("::ffff:10.0.0.1")}
	for listen, want := range map[netip.Addr]string{
		{}:                                  "::1 127.0.0.1 192.168.5.2 fe80::1 10.0.0.1 198.51.100.7",
		netip.MustParseAddr("192.168.5.33"): "::1 127.0.0.1 192.168.5.33 198.51.100.7",
	} {
		f.Listen.Addr = listen
		o, fault := newSelfSigned("/state", f, addrs)
		if fault != nil {
			t.Fatal(fault)
		}
		if got := strings.Trim(fmt.Sprint(o.addrs), "[]"); got != want {
			t.Errorf("addresses %q; want %q", got, want)
		}
		if !slices.Contains(o.names, "localhost") || !slices.Contains(o.names, "ftp.example.com") {
			t.Errorf("names %q; want localhost and ftp.example.com in them", o.names)
		}
	}
}
