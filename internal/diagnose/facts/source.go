package facts

import (
	"net/netip"
	"slices"
	"strings"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/kernel/nft"
	"ftpgate/internal/kernel/nftforeign"
	"ftpgate/internal/kernel/system"
)

// Source has the functions that read facts, except nftables. Tests use one of their own.
type Source struct {
	Addresses     func() ([]netip.Addr, error)
	Interfaces    func() ([]string, error)
	Listeners     func() ([]system.Listener, error)
	WithProcesses func(...system.Listener) []system.Listener
	LegacyFilter  func() bool // iptables-legacy has rules for forwarded packets
	Claimed       func(table string) (held bool, pid int, err error)
}

// Linux returns the host that this process runs on.
func Linux() Source {
	return Source{
		Addresses: system.Addresses, Interfaces: system.Interfaces,
		Listeners: system.Listeners, WithProcesses: system.WithProcesses,
		LegacyFilter: system.LegacyIptablesFilter, Claimed: system.Claimed,
	}
}

// TableReader reads the nftables ruleset; Tables implements it.
type TableReader interface {
	Tables() ([]string, error)
	Listens(table string) ([]forward.Listen, error)
	RefusingForwardChains() ([]nftforeign.Chain, error)
}

// Tables reads ftpgate's own tables over a connection, and those of other programs.
type Tables struct{ *nft.Conn }

// RefusingForwardChains returns the chains of other programs that may refuse forwarded packets.
func (Tables) RefusingForwardChains() ([]nftforeign.Chain, error) {
	return nftforeign.RefusingForwardChains()
}

// ReadHost adds the facts that need no privilege. It leaves out irrelevant listeners, because it reads the
// descriptors of every process to find the programs of the others.
func (s Source) ReadHost(f *Facts, matters func(at netip.AddrPort) bool) {
	set(f, "the addresses", &f.Addresses, s.Addresses)
	set(f, "the interfaces", &f.Interfaces, s.Interfaces)
	listeners, err := s.Listeners()
	if f.failed("which programs listen", err) {
		return
	}
	listeners = slices.DeleteFunc(listeners, func(l system.Listener) bool { return !matters(l.Addr) })
	f.Listeners = append([]system.Listener{}, s.WithProcesses(listeners...)...) // not nil: it was read
}

// ReadTables adds nftables' facts: other ftpgates' tables, and chains that may refuse forwarded packets. own
// is this process's table. dead are the tables of ftpgates that no longer run.
func (s Source) ReadTables(f *Facts, t TableReader, own string) (dead []string, err error) {
	names, err := t.Tables()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if name == own {
			continue
		}
		held, pid, err := s.Claimed(name)
		if err == nil && !held && name != ruleset.DefaultTable {
			dead = append(dead, name)
			continue
		}
		other := Other{Table: name, Running: held || err != nil, PID: pid}
		if other.Listens, err = t.Listens(name); err != nil {
			return dead, err
		}
		f.Others = append(f.Others, other)
	}
	chains, err := s.RefusingChains(t)
	f.Refusing = append(f.Refusing, chains...)
	return dead, err
}

// RefusingChains returns the chains of other programs that may refuse forwarded packets: those of nftables,
// and that of iptables-legacy.
func (s Source) RefusingChains(t TableReader) ([]nftforeign.Chain, error) {
	chains, err := t.RefusingForwardChains()
	if err == nil && s.LegacyFilter() {
		chains = append(chains, nftforeign.Chain{Name: "FORWARD"})
	}
	return chains, err
}

// ReadRunning finds out whether an ftpgate with this table serves.
func (s Source) ReadRunning(f *Facts, table string) {
	if held, pid, err := s.Claimed(table); !f.failed("whether an ftpgate is running", err) {
		f.Running, f.PID = held, pid
	}
}

// failed adds a read that failed to Unread, and reports whether it did.
func (f *Facts) failed(what string, err error) bool {
	if err != nil {
		why := strings.TrimPrefix(err.Error(), "system: ")
		f.Unread = append(f.Unread, system.Unread{What: what, Why: why})
	}
	return err != nil
}

// set stores the result of a system call, unless it failed.
func set[T any](f *Facts, what string, fact *T, read func() (T, error)) {
	if value, err := read(); !f.failed(what, err) {
		*fact = value
	}
}
