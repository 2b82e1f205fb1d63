package preflight

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/system"
	"ftpgate/internal/try/testca"
)

// examined checks a host for forwards, and returns what it found.
func examined(h host, tables *fakeTables, forwards ...forward.Resolved) *Examination {
	e := newExamination()
	e.Forwards = forwards
	e.checkHost(h, "ftpgate", func() (tableReader, func() error, error) {
		if tables == nil {
			return nil, nil, errBroken
		}
		return tables, tables.Close, nil
	})
	return e
}

func TestCheckHost(t *testing.T) {
	h := fakeHost()
	h.Listeners = func() ([]system.Listener, error) {
		return []system.Listener{listener("192.168.5.2:2121", "ftpgate (pid 77)"),
			listener("192.168.5.2:2122", "")}, nil
	}
	second := testForward("192.168.5.2:2122", "203.0.113.21")
	const taken = "is in use by "
	tables := &fakeTables{}
	e := examined(h, tables, tracked(), second)
	if got := e.Facts.Host; len(got) != 2 || !strings.Contains(got[0].Text, taken+"ftpgate (pid 77)") ||
		!strings.Contains(got[1].Text, taken+"another program") {
		t.Errorf("no ftpgate runs: got %v; want two listeners in the way", got)
	}
	if !tables.closed || len(tables.tried) > 0 {
		t.Errorf("got closed %v, %d tables tried; want the connection closed, and none", tables.closed,
			len(tables.tried))
	}
	h.Claimed = func(string) (bool, int, error) { return true, 77, nil }
	wantFindings(t, examined(h, &fakeTables{}, tracked(), second).Facts.Host)
}

func TestExaminationTables(t *testing.T) {
	const broken = "the kernel's nftables cannot be used: it is broken: " +
		"use a kernel with CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET (modprobe nf_tables)"
	wantFindings(t, examined(fakeHost(), nil, tracked()).Facts.Tables, broken)
	wantFindings(t, examined(fakeHost(), nil, either()).Facts.Tables, "warning: "+broken)
	wantFindings(t, examined(fakeHost(), &fakeTables{err: errBroken}, tracked()).Facts.Tables, broken)

	h := fakeHost()
	h.findModules = func(...string) []system.Module { return []system.Module{{State: system.ModuleMissing}} }
	wantFindings(t, examined(h, nil, tracked()).Facts.Tables) // the kernel is not asked

	h = fakeHost()
	h.mayAdminister = func() (bool, error) { return false, nil }
	e := examined(h, nil, tracked())
	wantFindings(t, e.Facts.Tables)
	if got := e.Facts.Unread; len(got) != 1 || got[0].Why != "this process lacks CAP_NET_ADMIN" {
		t.Errorf("got unread %v; want what other ftpgates publish", got)
	}
}

// The table of a running daemon is compared with what its forwards need. Without a daemon it is no matter.
func TestExaminationDifferences(t *testing.T) {
	const differs = "the running ftpgate's table inet ftpgate differs from what the forwards need: " +
		"missing chain a, missing element b: " +
		"ftpgate reload, which reads the file and puts the table right; " +
		"if rules vanish again, the log says which program removes them"
	tables := &fakeTables{differs: []string{"missing chain a", "missing element b", "added chain c"}}
	h := fakeHost()
	wantFindings(t, examined(h, tables, tracked()).Facts.Tables)
	h.Claimed = func(string) (bool, int, error) { return true, 77, nil }
	wantFindings(t, examined(h, tables, tracked()).Facts.Tables, differs)
	wantFindings(t, examined(h, tables, either()).Facts.Tables, "warning: "+differs)
	named := tracked()
	named.Server.Host = "ftp.example.com"
	wantFindings(t, examined(h, tables, named).Facts.Tables, "warning: "+differs)
	tables.differs = tables.differs[2:]
	wantFindings(t, examined(h, tables, tracked()).Facts.Tables)
}

// ServerTLS is there where the files of that leg are sound, whatever is wrong with the client's.
func TestServerTLS(t *testing.T) {
	dir := t.TempDir()
	ca, err := testca.New()
	if err != nil {
		t.Fatal(err)
	}
	authority := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(authority, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	gone := filepath.Join(dir, "gone.pem")
	for _, tt := range []struct {
		name    string
		tls     forward.TLS
		config  bool
		sound   bool
		finding string
	}{
		{"none", forward.TLS{}, false, true, ""},
		{"sound", forward.TLS{Server: forward.ServerTLSRequired, CA: authority}, true, true, ""},
		{"no authority", forward.TLS{Server: forward.ServerTLSRequired, CA: gone}, false, false,
			`forward "main": tls.ca: ` + gone +
				" does not exist: name the file where it is, by its whole path"},
		{"a fault of the other leg", forward.TLS{Server: forward.ServerTLSRequired, CA: authority,
			Client: forward.ClientTLSRequired, Cert: gone}, true, true,
			`forward "main": tls.cert: ` + gone +
				" does not exist: name the file where it is, by its whole path"},
		{"self-signed", forward.TLS{Client: forward.ClientTLSRequired, Cert: forward.SelfSigned}, false, true,
			`warning: forward "main": tls.cert: the certificate is self-signed: clients cannot verify it ` +
				`unless you give it to them: in production, use a certificate from an authority`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, f := newExamination(), either().Forward
			f.TLS = tt.tls
			e.readKeys(f, slog.New(slog.DiscardHandler))
			var want []string
			if tt.finding != "" {
				want = []string{tt.finding}
			}
			wantFindings(t, e.Facts.TLS, want...)
			config, trust, sound := e.ServerTLS(f)
			if (config != nil) != tt.config || (trust != nil) != tt.config || sound != tt.sound {
				t.Errorf("got TLS %v, sound %v; want %v, %v", config != nil, sound, tt.config, tt.sound)
			}
		})
	}
	if made, err := filepath.Glob(filepath.Join(dir, "*.pem")); err != nil || len(made) != 1 {
		t.Errorf("got %q, error %v; want the authority alone", made, err)
	}
}

// Examine needs no privilege for an address, and resolves it.
func TestExamine(t *testing.T) {
	f := testForward("192.0.2.77:2121", "203.0.113.21", proxied, relayed).Forward
	e := Examine(t.Context(), "ftpgate-test", []forward.Forward{f})
	if len(e.Forwards) != 1 || e.Forwards[0].Server4 != netip.MustParseAddr("203.0.113.21") {
		t.Errorf("got %+v; want the server's address", e.Forwards)
	}
	if len(e.Facts.Host) != 1 || !strings.Contains(e.Facts.Host[0].Text,
		"192.0.2.77 is not an address of this host") {
		t.Errorf("got %v; want that the address is not this host's", e.Facts.Host)
	}
	if e.Facts.Now.IsZero() || len(e.Facts.Links) == 0 {
		t.Errorf("got the time %v and %d interfaces; want both", e.Facts.Now, len(e.Facts.Links))
	}
}
