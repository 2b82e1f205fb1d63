package tlskeys

import (
	"crypto/x509"
	"encoding/pem"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
)

// onDisk returns the certificate that clients may be given.
func onDisk(t *testing.T, path string) signed {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(text)
	if block == nil || len(rest) > 0 {
		t.Fatalf("%s holds %q; want a certificate alone", path, text)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return signed{cert: cert}
}

// TestSelfSigned: a certificate is made, said, kept, and good for who is given it.
func TestSelfSigned(t *testing.T) {
	f := terminated(forward.SelfSigned, "")
	k, at, _ := keys(t)
	file, public := filepath.Join(k.dir, "archive.pem"), filepath.Join(k.dir, "archive.crt")
	faults := k.Load([]forward.Forward{f}, nil)
	if len(faults) != 1 || faults[0].IsFault() || !strings.Contains(faults[0].Text, "give them "+public) {
		t.Fatalf("got %q; want a warning that names %s", texts(faults), public)
	}
	for path, want := range map[string]os.FileMode{k.dir: 0o700 | os.ModeDir, file: 0o600, public: 0o644} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: got %v, error %v; want %v", path, info.Mode(), err, want)
		}
	}
	cert := onDisk(t, public)
	if life := cert.cert.NotAfter.Sub(at.now()); life < selfSignedLife-time.Minute || life > selfSignedLife {
		t.Errorf("good for %v; want %v", life, selfSignedLife)
	}
	for _, version := range bothVersions {
		for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
			client := trusting(cert, version)
			client.ServerName = name
			wantShown(t, k, f, client, cert)
		}
	}
	again := New(k.dir, k.log)
	for range 2 {
		again.Load([]forward.Forward{f}, nil)
		if got := onDisk(t, public); !got.cert.Equal(cert.cert) {
			t.Error("made anew without need")
		}
	}
	if left, err := filepath.Glob(filepath.Join(k.dir, "*")); err != nil || len(left) != 2 {
		t.Errorf("the directory holds %q, error %v; want two files", left, err)
	}
}

// TestSelfSignedAnew: what makes a Load make another one.
func TestSelfSignedAnew(t *testing.T) {
	addr := netip.MustParseAddr("192.168.5.2")
	for name, change := range map[string]func(t *testing.T, k *Keys, at *clock, file string,
		f *forward.Forward) []netip.Addr{
		"another address of the gateway": func(*testing.T, *Keys, *clock, string,
			*forward.Forward) []netip.Addr {
			return []netip.Addr{addr}
		},
		"another listen": func(_ *testing.T, _ *Keys, _ *clock, _ string, f *forward.Forward) []netip.Addr {
			f.Listen.Addr = addr
			return nil
		},
		"another advertised name": func(_ *testing.T, _ *Keys, _ *clock, _ string,
			f *forward.Forward) []netip.Addr {
			f.Advertise = []forward.Advertise{{Host: "ftp.example.com"}}
			return nil
		},
		"gone": func(_ *testing.T, _ *Keys, _ *clock, file string, _ *forward.Forward) []netip.Addr {
			os.Remove(file)
			return nil
		},
		"damaged": func(t *testing.T, _ *Keys, _ *clock, file string, _ *forward.Forward) []netip.Addr {
			put(t, file, []byte("x"))
			return nil
		},
		"soon over": func(_ *testing.T, _ *Keys, at *clock, _ string, _ *forward.Forward) []netip.Addr {
			at.pass(selfSignedLife - WarnBefore + time.Minute)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := terminated(forward.SelfSigned, "")
			k, at, _ := keys(t, f)
			public := filepath.Join(k.dir, "archive.crt")
			before := onDisk(t, public)
			addrs := change(t, k, at, filepath.Join(k.dir, "archive.pem"), &f)
			if faults := k.Load([]forward.Forward{f}, addrs); len(faults) != 1 || faults[0].IsFault() {
				t.Fatalf("got %q; want a warning", texts(faults))
			}
			after := onDisk(t, public)
			if after.cert.Equal(before.cert) {
				t.Fatal("kept; want another one")
			}
			if len(addrs) > 0 || f.Listen.Addr.IsValid() {
				if err := after.cert.VerifyHostname(addr.String()); err != nil {
					t.Error(err)
				}
			}
			k.Load([]forward.Forward{f}, addrs)
			if last := onDisk(t, public); !last.cert.Equal(after.cert) {
				t.Error("made anew at the next Load, too")
			}
		})
	}
}

// TestSelfSignedRefresh: one that is in use is renewed a month before its end, without a word of warning; and
// where that cannot be, the log says so.
func TestSelfSignedRefresh(t *testing.T) {
	f := terminated(forward.SelfSigned, "")
	k, at, log := keys(t, f)
	public := filepath.Join(k.dir, "archive.crt")
	before := onDisk(t, public)
	k.Refresh(at.pass(time.Hour))
	log.wantLog(t)
	k.Refresh(at.pass(selfSignedLife - WarnBefore))
	log.wantLog(t, "level=INFO", "archive.pem")
	after := onDisk(t, public)
	if after.cert.Equal(before.cert) || after.cert.NotAfter.Before(at.now().Add(selfSignedLife-time.Minute)) {
		t.Errorf("good until %v; want a new one", after.cert.NotAfter)
	}
	own, err := k.ForClient(f, theClient)
	if err != nil {
		t.Fatal(err)
	}
	if used, err := own.Control().GetCertificate(nil); err != nil || !used.Leaf.Equal(after.cert) {
		t.Errorf("the old one is presented, error %v", err)
	}
	k.Refresh(at.pass(time.Hour))
	log.wantLog(t)

	if err := os.RemoveAll(k.dir); err != nil {
		t.Fatal(err)
	}
	put(t, k.dir, []byte("in the way"))
	k.Refresh(at.pass(time.Minute))
	k.Refresh(at.pass(time.Minute))
	k.Refresh(at.pass(time.Minute))
	log.wantLog(t, "level=ERROR", "a self-signed certificate cannot be kept", "stays in use")
}

// TestSelfSignedFaults: where it cannot be kept.
func TestSelfSignedFaults(t *testing.T) {
	f := terminated(forward.SelfSigned, "")
	k, _, _ := keys(t)
	k.dir = ""
	if faults := k.Load([]forward.Forward{f}, nil); len(faults) != 1 || !faults[0].IsFault() ||
		!strings.Contains(faults[0].Text, "no directory") {
		t.Errorf("got %q; want one fault", texts(faults))
	}
	k.dir = filepath.Join(put(t, "in-the-way", nil), "state")
	if faults := k.Load([]forward.Forward{f}, nil); len(faults) != 1 || !faults[0].IsFault() ||
		!strings.Contains(faults[0].Remedy, "write to "+k.dir) {
		t.Errorf("got %q; want one fault", texts(faults))
	}
}

// TestSafe: no name leads out of the directory, and no two meet in one file.
func TestSafe(t *testing.T) {
	names := []string{"archive", "", ".", "..", "a/b", "a_b", "a\\b", "../../etc/passwd", "Größe", "a b",
		"a.b", strings.Repeat("ä", 32)}
	var files []string
	for _, name := range names {
		file := fileName(name)
		if strings.ContainsAny(file, "/\\") || strings.HasPrefix(file, "..") || file == "." || file == "" ||
			len(file) > 200 {
			t.Errorf("%q: got %q", name, file)
		}
		if slices.Contains(files, file) {
			t.Errorf("%q: %q is another one's, too", name, file)
		}
		files = append(files, file)
	}
	if files[0] != "archive" {
		t.Errorf("got %q; want a reason name kept", files[0])
	}
}
