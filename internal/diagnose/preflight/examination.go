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

	"ftpgate/internal/control/tlskeys"
	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/diagnose/doctor"
	"ftpgate/internal/diagnose/facts"
	"ftpgate/internal/gateway"
	"ftpgate/internal/kernel/nft"
	"ftpgate/internal/kernel/system"
)

// Examination is what a host looks like to forwards, beside a daemon that serves them or without one.
type Examination struct {
	Forwards []forward.Resolved // with the addresses that names have now; those whose server has none are among them
	Facts    doctor.Facts

	servers map[string]*tlskeys.Keys // of forwards whose TLS with the server is sound, by name
}

// Examine looks at the host as Run does before it starts, and changes nothing: it claims no table, asks the
// kernel to try none, loads no module, listens nowhere and writes no certificate. table is the one that a
// daemon with the forwards has. What ctx cuts short is the resolving of names.
// Files are read as the user who runs this process reads them, who need not be the daemon's.
func Examine(ctx context.Context, table string, forwards []forward.Forward) *Examination {
	e := &Examination{servers: map[string]*tlskeys.Keys{}}
	resolver := system.NewTimedResolver(net.DefaultResolver.LookupNetIP)
	silent := slog.New(slog.DiscardHandler)
	resolved, unresolved := gateway.New(table, nil, resolver, silent).Resolve(ctx, forwards)
	e.Forwards, e.Facts.Now = resolved, time.Now()
	e.Facts.Names = unresolved
	e.Facts.Lookups = resolver.Lookups()
	e.host(table)
	e.Facts = facts.Read(table, resolved, e.Facts)
	for _, f := range forwards {
		e.readKeys(f, silent)
	}
	return e
}

// ServerTLS returns what the gateway speaks with the server of one of the forwards: nil where that is no TLS.
// It is false where a finding, or what could not be read, stands in the way.
func (e *Examination) ServerTLS(f forward.Forward) (*tls.Config, bool) {
	if f.TLS.Server == forward.ServerTLSOff {
		return nil, true
	}
	keys := e.servers[f.Name]
	if keys == nil {
		return nil, false
	}
	control, _, err := keys.ForServer(f)
	return control, err == nil
}

// host has the gateway itself judge.
func (e *Examination) host(table string) {
	p := &Prober{table: table, Ours: func(netip.AddrPort) bool { return false }} // this process serves nobody
	defer p.Close()
	facts, findings := p.hostFacts(e.Forwards)
	if held, pid, err := system.Claimed(table); err == nil && held {
		own := fmt.Sprintf("(pid %d)", pid)
		facts.Listeners = slices.DeleteFunc(facts.Listeners, func(l Listener) bool {
			return l.Who == "" || strings.HasSuffix(l.Who, own) // whose it is, only root can tell
		})
	}
	e.Facts.Tables = e.tables(p, &facts)
	e.Facts.Host = append(findings, Check(facts, e.Forwards)...)
}

// tables reads what nftables has. Asking a kernel without nf_tables would have it loaded, and so would opening
// a connection to it.
func (e *Examination) tables(p *Prober, facts *Facts) []finding.Finding {
	needed := slices.ContainsFunc(e.Forwards, func(f forward.Resolved) bool { return f.NeedsKernel() })
	if system.FindModules("nf_tables")[0].State == system.ModuleMissing {
		return nil // which is found among the modules
	}
	if ok, err := system.CanAdministerNetwork(); err != nil || !ok {
		e.unread("what other ftpgates publish, and who may refuse forwarded packets,", "this process lacks CAP_NET_ADMIN")
		return nil
	}
	kernel, err := nft.Open()
	var findings []finding.Finding
	if err != nil {
		findings = append(findings, noNftables(err))
	} else {
		p.kernel = kernel
		findings = p.kernelFacts(facts)
	}
	for i := range findings {
		if !needed {
			findings[i].Severity = finding.Warning
		}
	}
	return findings
}

func (e *Examination) unread(what, why string) {
	e.Facts.Unread = append(e.Facts.Unread, system.Unread{What: what, Why: why})
}

// readKeys reads the files that the TLS of a forward names. Each leg gets keys of its own, since those take all
// or nothing: a fault of the client's certificate is no reason not to try the server.
func (e *Examination) readKeys(f forward.Forward, log *slog.Logger) {
	if f.Tracking != forward.TrackingProxy {
		return
	}
	if f.TLS.Client != forward.ClientTLSOff {
		leg := f
		leg.TLS.Server = forward.ServerTLSOff
		if f.TLS.Cert == forward.SelfSigned { // Load would make it
			e.Facts.TLS = append(e.Facts.TLS, finding.Finding{Forward: f.Name, Key: "tls.cert", Severity: finding.Warning,
				Text:   "the certificate is self-signed: clients cannot verify it unless they are given it",
				Remedy: "for more than trying things out, have an authority sign one, and name it and its key"})
		} else if e.readable(f.Name, f.TLS.Cert, f.TLS.Key) {
			e.load(leg, log)
		}
	}
	if f.TLS.Server != forward.ServerTLSOff {
		leg := f
		leg.TLS.Client = forward.ClientTLSOff
		if e.readable(f.Name, f.TLS.CA, f.TLS.ClientCert, f.TLS.ClientKey) {
			e.servers[f.Name] = e.load(leg, log)
		}
	}
}

// load reads one leg; nil: it has faults.
func (e *Examination) load(leg forward.Forward, log *slog.Logger) *tlskeys.Keys {
	keys := tlskeys.New("", log)
	found := keys.Load([]forward.Forward{leg}, nil)
	e.Facts.TLS = append(e.Facts.TLS, found...)
	if finding.Worst(found) == finding.Fault {
		return nil
	}
	e.Facts.Expiries = append(e.Facts.Expiries, keys.Expiries()...)
	return keys
}

// readable tells whether this user may read files, and takes down which not: the daemon may be another user, so
// that this is no fault. What root may not read, root's daemon may not read.
func (e *Examination) readable(forward string, files ...string) bool {
	all := true
	for _, name := range files {
		if name == "" || os.Geteuid() == 0 {
			continue
		}
		file, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe would wait for a writer
		if err == nil {
			file.Close()
		} else if errors.Is(err, fs.ErrPermission) {
			e.unread(fmt.Sprintf("%s of forward %q", name, forward), "this user may not")
			all = false
		}
	}
	return all
}
