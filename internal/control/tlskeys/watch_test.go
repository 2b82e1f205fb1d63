package tlskeys

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

// renew replaces a file as those do who renew certificates: another one under its name.
func renew(t *testing.T, path string, parts ...[]byte) {
	t.Helper()
	next := put(t, path+".next", parts...)
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

// twoFiles is a certificate and its key in files of their own, loaded.
func twoFiles(t *testing.T) (m *material, cert, key string) {
	t.Helper()
	m = newMaterial(t)
	return m, m.path("cert"), m.path("key")
}

// TestRefresh: a pair that changes is taken up, also by links (certbot's) and where only the inode differs.
func TestRefresh(t *testing.T) {
	m, cert, key := twoFiles(t)
	live := filepath.Join(t.TempDir(), "live.pem")
	put(t, m.path("next-cert"), m.next.certPEM())
	if err := os.Symlink(cert, live); err != nil {
		t.Fatal(err)
	}
	f := terminated(live, key)
	k, at, log := keys(t, f)
	wantShown(t, k, f, trusting(m.ca, 0), m.cert)
	k.Refresh(at.pass(30 * time.Second))
	log.wantLog(t)
	if err := os.Remove(live); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(m.path("next-cert"), live); err != nil {
		t.Fatal(err)
	}
	renew(t, key, m.next.keyPEM())
	k.Refresh(at.pass(30 * time.Second))
	log.wantLog(t, "level=INFO", "the file has changed", live)
	wantShown(t, k, f, trusting(m.ca, 0), m.next)
	k.Refresh(at.pass(30 * time.Second))
	log.wantLog(t)
}

// TestHandshakeRefreshes: a session that begins does not wait for Refresh, and does not look more than once a
// second.
func TestHandshakeRefreshes(t *testing.T) {
	m, cert, key := twoFiles(t)
	f := terminated(cert, key)
	k, at, _ := keys(t, f)
	renew(t, cert, m.next.certPEM())
	renew(t, key, m.next.keyPEM())
	at.pass(checkInterval - time.Millisecond)
	wantShown(t, k, f, trusting(m.ca, 0), m.cert)
	at.pass(time.Millisecond)
	wantShown(t, k, f, trusting(m.ca, 0), m.next)
}

// TestRefreshTwoSteps: a certificate that is renewed before its key does no harm, and logs nothing.
func TestRefreshTwoSteps(t *testing.T) {
	m, cert, key := twoFiles(t)
	f := terminated(cert, key)
	k, at, log := keys(t, f)
	renew(t, cert, m.next.certPEM())
	k.Refresh(at.pass(30 * time.Second))
	log.wantLog(t)
	wantShown(t, k, f, trusting(m.ca, 0), m.cert)
	renew(t, key, m.next.keyPEM())
	k.Refresh(at.pass(30 * time.Second))
	log.wantLog(t, "level=INFO", cert)
	wantShown(t, k, f, trusting(m.ca, 0), m.next)
}

// TestRefreshBroken: what cannot be used leaves in use what was, and is logged once.
func TestRefreshBroken(t *testing.T) {
	m, cert, key := twoFiles(t)
	f := terminated(cert, key)
	k, at, log := keys(t, f)
	for _, step := range []struct {
		change func()
		want   []string
	}{
		{func() { renew(t, key, m.next.keyPEM()) },
			[]string{"level=ERROR", "does not belong to the certificate", "remedy="}},
		{func() { renew(t, key, []byte("x")) }, []string{"level=ERROR", "holds no PEM"}},
		{func() { os.Remove(key) }, []string{"level=ERROR", "does not exist"}},
	} {
		step.change()
		k.Refresh(at.pass(30 * time.Second))
		log.wantLog(t) // more may follow
		k.Refresh(at.pass(30 * time.Second))
		log.wantLog(t, append(step.want, "stays in use")...)
		for range 3 {
			k.Refresh(at.pass(30 * time.Second))
		}
		log.wantLog(t)
		wantShown(t, k, f, trusting(m.ca, 0), m.cert)
	}
	renew(t, key, m.cert.keyPEM())
	k.Refresh(at.pass(30 * time.Second))
	log.wantLog(t, "level=INFO")
}

// TestRefreshTrust: an authority that is added counts for the next session.
func TestRefreshTrust(t *testing.T) {
	m := newMaterial(t)
	newer := authority(t)
	server := &tls.Config{Certificates: []tls.Certificate{sign(t, newer, nil).pair()}}
	f := originated(m.path("ca"))
	k, at, log := keys(t, f)
	try := func() error {
		control, _, err := k.ForServer(f)
		if err != nil {
			t.Fatal(err)
		}
		_, c := shake(t, server, control)
		return c.err
	}
	if err := try(); err == nil {
		t.Error("got no error of an unknown authority")
	}
	renew(t, m.path("ca"), m.ca.certPEM(), newer.certPEM())
	k.Refresh(at.pass(30 * time.Second))
	log.wantLog(t, "level=INFO", m.path("ca"))
	if err := try(); err != nil {
		t.Error(err)
	}
}

// TestRefreshExpiry: the end of a certificate is warned of once a day, from a month before it on.
func TestRefreshExpiry(t *testing.T) {
	m, cert, key := twoFiles(t)
	f := terminated(cert, key)
	k, at, log := keys(t, f)
	k.Refresh(at.now())
	log.wantLog(t)
	at.pass(m.cert.cert.NotAfter.Sub(at.now()) - WarnBefore + time.Minute)
	k.Refresh(at.now())
	log.wantLog(t, "level=WARN", "the certificate expires on", "in 29 days", cert, "forwards=archive",
		"remedy=")
	k.Refresh(at.pass(warnInterval - time.Second))
	log.wantLog(t)
	k.Refresh(at.pass(time.Second))
	log.wantLog(t, "in 28 days")
	k.Load([]forward.Forward{f}, nil) // says it by itself
	k.Refresh(at.pass(time.Hour))
	log.wantLog(t)
	k.Refresh(at.pass(WarnBefore))
	log.wantLog(t, "expired on")
	long := sign(t, m.ca, func(c *x509.Certificate) { c.NotAfter = at.now().Add(365 * 24 * time.Hour) })
	renew(t, cert, long.certPEM())
	renew(t, key, long.keyPEM())
	k.Refresh(at.pass(warnInterval))
	log.wantLog(t, "level=INFO")
	if got := k.Expiries()[0].NotAfter; !got.Equal(long.cert.NotAfter) {
		t.Errorf("got the end %v; want that of the new one", got)
	}
}

// TestTogether: sessions begin while files change and are loaded; for the race detector.
func TestTogether(t *testing.T) {
	m, cert, key := twoFiles(t)
	f := terminated(cert, key)
	k, at, _ := keys(t, f)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 50 {
				own, err := k.ForClient(f, theClient)
				if err != nil {
					t.Error(err)
					return
				}
				if c, err := own.Control().GetCertificate(nil); err != nil || c == nil {
					t.Errorf("got %v, error %v", c, err)
				}
				at.pass(checkInterval)
				k.Expiries()
			}
		})
	}
	for i := range 20 {
		next := []signed{m.next, m.cert}[i%2]
		renew(t, cert, next.certPEM())
		renew(t, key, next.keyPEM())
		k.Refresh(at.now())
		k.Load([]forward.Forward{f}, nil)
	}
	all.Wait()
}

// A handshake does not wait for files that another goroutine reads: a disk may hang.
func TestGetDoesNotWait(t *testing.T) {
	now := time.Now()
	value := 1
	w := &watched[int]{read: func() (*int, *finding.Finding) { return &value, nil }}
	if fault := w.load(now); fault != nil {
		t.Fatal(fault)
	}
	w.mu.Lock() // another reads
	defer w.mu.Unlock()
	got := make(chan *int, 1)
	go func() { got <- w.get(now.Add(checkInterval)) }()
	select {
	case v := <-got:
		if *v != value {
			t.Errorf("got %d; want the value from before", *v)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("get waits for the reader of the files")
	}
}
