package preflight

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/control/account"
	"ftpgate/internal/control/tlskeys"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/diagnose/facts"
	"ftpgate/internal/gateway"
	"ftpgate/internal/kernel/nft"
	"ftpgate/internal/kernel/system"
)

// Examination is the state of a host for forwards, with or without a running daemon.
type Examination struct {
	// with the current addresses of their names, also those whose server has none
	Forwards []forward.Resolved
	Facts    facts.Facts

	serverKeys map[string]*tlskeys.Keys // by forward: of those whose TLS with the server has no fault
}

// Examine checks the host as a daemon does before it starts, but changes nothing: it claims no table, makes
// the kernel try none, loads no module, listens nowhere and writes no certificate. table is the name of the
// daemon's table. When ctx is done, names count as unresolved.
//
// It reads files as the user of this process, who need not be the daemon's.
func Examine(ctx context.Context, table string, forwards []forward.Forward) *Examination {
	e := newExamination()
	resolver := system.NewTimedResolver(net.DefaultResolver.LookupNetIP)
	silent := slog.New(slog.DiscardHandler)
	e.Forwards, e.Facts.Names = gateway.New(table, nil, resolver, silent).Resolve(ctx, forwards)
	e.Facts.Now, e.Facts.Lookups = time.Now(), resolver.Lookups()
	e.checkHost(linux(), table, openTables)
	e.Facts.ReadDetails(e.Forwards)
	for _, f := range forwards {
		e.readKeys(f, silent)
	}
	return e
}

func newExamination() *Examination {
	return &Examination{serverKeys: map[string]*tlskeys.Keys{}}
}

// ServerTLS returns the TLS that the gateway speaks with a forward's server, and its trusted authorities;
// nil: none. It returns false if a finding or an unreadable file prevents that.
func (e *Examination) ServerTLS(f forward.Forward) (*tls.Config, *tlskeys.Trust, bool) {
	if f.TLS.Server == forward.ServerTLSOff {
		return nil, nil, true
	}
	keys := e.serverKeys[f.Name]
	if keys == nil {
		return nil, nil, false
	}
	control, _, err := keys.ForServer(f)
	return control, keys.Trust(f), err == nil
}

// openTables opens a connection to nftables. The caller calls close.
func openTables() (t tableReader, close func() error, err error) {
	kernel, err := nft.Open()
	if err != nil {
		return nil, nil, err
	}
	return facts.Tables{Conn: kernel}, kernel.Close, nil
}

// checkHost runs Check on the host's facts.
func (e *Examination) checkHost(h host, table string, open func() (tableReader, func() error, error)) {
	h.ReadRunning(&e.Facts, table)
	h.ReadHost(&e.Facts, func(at netip.AddrPort) bool {
		return slices.ContainsFunc(e.Forwards, func(f forward.Resolved) bool {
			return f.Listen.Port == at.Port() || f.ServerPorts.Contains(at.Port()) ||
				f.DataPorts().Contains(at.Port())
		})
	})
	e.Facts.Tables = e.readTables(h, table, open)
	others := e.Facts
	others.Listeners = slices.DeleteFunc(slices.Clone(others.Listeners), others.Serves)
	e.Facts.Host = Check(others, e.Forwards)
}

// readTables adds what nftables has. It does not open a connection on a kernel without nf_tables, which would
// load the module.
func (e *Examination) readTables(h host, table string,
	open func() (tableReader, func() error, error)) []finding.Finding {
	if h.findModules(facts.ModuleTables)[0].State == system.ModuleMissing {
		return nil // doctor says so
	}
	if ok, err := h.mayAdminister(); err != nil || !ok {
		e.unread("what other ftpgates publish, and who may refuse forwarded packets,",
			"this process lacks CAP_NET_ADMIN")
		return nil
	}
	tables, closeTables, err := open()
	if err == nil {
		defer closeTables() // a socket without anything to flush
		_, err = h.ReadTables(&e.Facts, tables, table)
	}
	var findings []finding.Finding
	if err != nil {
		findings = []finding.Finding{noNftables(err)}
	} else if e.Facts.Running {
		findings = compareTable(tables, ruleset.Build(table, e.Forwards), e.Forwards)
	}
	if !slices.ContainsFunc(e.Forwards, forward.Resolved.NeedsKernel) {
		for i := range findings {
			findings[i].Severity = finding.Warning
		}
	}
	return findings
}

// compareTable compares the table of a running daemon with its file. Additional parts of the table may belong
// to sessions of removed forwards.
func compareTable(tables tableReader, want ruleset.Table, forwards []forward.Resolved) []finding.Finding {
	differences, err := tables.Compare(want)
	if err != nil {
		return []finding.Finding{noNftables(err)}
	}
	differences = slices.DeleteFunc(differences, func(d string) bool {
		return strings.HasPrefix(d, "added ")
	})
	if want.Empty() || len(differences) == 0 {
		return nil
	}
	if rest, err := tables.Compare(want.WithoutLog()); err == nil && len(rest) == 0 {
		return nil // the kernel cannot log packets
	}
	f := finding.Finding{
		Text: fmt.Sprintf("the running ftpgate's table inet %s differs from what the forwards need: %s",
			want.Name,
			strings.Join(differences[:min(len(differences), differencesAtMost)], ", ")),
		Remedy: "ftpgate reload, which reads the file and puts the table right; " +
			"if rules vanish again, the log says which program removes them",
	}
	if slices.ContainsFunc(forwards, namesServer) { // the name may have another address now
		f.Severity = finding.Warning
	}
	return []finding.Finding{f}
}

// differencesAtMost bounds the differences in a finding about a table.
const differencesAtMost = 4

func namesServer(f forward.Resolved) bool {
	_, err := netip.ParseAddr(f.Server.Host)
	return err != nil
}

func (e *Examination) unread(what, why string) {
	e.Facts.Unread = append(e.Facts.Unread, system.Unread{What: what, Why: why})
}

// readKeys reads the files of a forward's TLS. Each leg has keys of its own, because Load is all or nothing:
// a fault of the client's certificate must not prevent the test of the server.
func (e *Examination) readKeys(f forward.Forward, log *slog.Logger) {
	if f.Tracking != forward.TrackingProxy {
		return
	}
	if f.Explicit() && e.readable(f.Name, f.Outbound.AccountFile) {
		e.Facts.TLS = append(e.Facts.TLS, account.Check([]forward.Forward{f})...)
	}
	if f.TLS.Client != forward.ClientTLSOff {
		leg := f
		leg.TLS.Server = forward.ServerTLSOff
		files := []string{f.TLS.Cert, f.TLS.Key, f.TLS.ClientCA, f.TLS.ClientCRL}
		if f.TLS.Cert == forward.SelfSigned {
			files[0] = "" // in the daemon's own directory
		}
		if e.readable(f.Name, files...) {
			e.load(leg, log)
		}
	}
	if f.TLS.Server != forward.ServerTLSOff {
		leg := f
		leg.TLS.Client = forward.ClientTLSOff
		if e.readable(f.Name, f.TLS.CA, f.TLS.ClientCert, f.TLS.ClientKey) {
			e.serverKeys[f.Name] = e.load(leg, log)
		}
	}
}

// load reads one leg; nil: it has faults.
func (e *Examination) load(leg forward.Forward, log *slog.Logger) *tlskeys.Keys {
	keys := tlskeys.NewReadOnly(log)
	findings := keys.Load([]forward.Forward{leg}, nil)
	e.Facts.TLS = append(e.Facts.TLS, findings...)
	if finding.Worst(findings) == finding.Fault {
		return nil
	}
	e.Facts.Expiries = append(e.Facts.Expiries, keys.Expiries()...)
	return keys
}

// readable reports whether this user may read the files, and adds to Unread those that it may not. That is no
// fault, because the daemon may run as another user; but a file that root may not read is one.
func (e *Examination) readable(forward string, files ...string) bool {
	all := true
	for _, name := range files {
		if name == "" || os.Geteuid() == 0 {
			continue
		}
		file, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe would wait for a writer
		if err == nil {
			_ = file.Close() // nothing was written
		} else if errors.Is(err, fs.ErrPermission) {
			e.unread(fmt.Sprintf("%s of forward %q", name, forward), "this user may not")
			all = false
		}
	}
	return all
}
