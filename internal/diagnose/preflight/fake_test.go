package preflight

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/diagnose/facts"
	"ftpgate/internal/kernel/nftforeign"
	"ftpgate/internal/kernel/system"
)

var errBroken = errors.New("it is broken")

// fakeHost is a host without faults, whose process may do everything; tests change it.
func fakeHost() host {
	sound := soundHost()
	return host{
		Source: facts.Source{
			Addresses:     func() ([]netip.Addr, error) { return sound.Addresses, nil },
			Interfaces:    func() ([]string, error) { return sound.Interfaces, nil },
			Listeners:     func() ([]system.Listener, error) { return nil, nil },
			WithProcesses: func(all ...system.Listener) []system.Listener { return all },
			LegacyFilter:  func() bool { return false },
			Claimed:       func(string) (bool, int, error) { return false, 0, nil },
		},
		claim:         func(string) (*system.Claim, error) { return nil, nil },
		mayAdminister: func() (bool, error) { return true, nil },
		loadModules: func(_ context.Context, names ...string) (modules []system.Module) {
			for _, name := range names {
				modules = append(modules, system.Module{Name: name, State: system.ModulePresent})
			}
			return modules
		},
		kernelRelease: func() string { return "6.1.0-50-amd64" },
		readDetails:   func(*facts.Facts, []forward.Resolved) {},
		findModules: func(names ...string) (found []system.Module) {
			for _, name := range names {
				found = append(found, system.Module{Name: name, State: system.ModulePresent})
			}
			return found
		},
	}
}

// fakeTables is an nftables in memory.
type fakeTables struct {
	listens  map[string][]forward.Listen // by table
	refusing []nftforeign.Chain
	err      error // of every read
	refuses  error // what the kernel says to a table
	differs  []string

	tried  []ruleset.Table
	closed bool
}

func (f *fakeTables) Tables() ([]string, error) {
	var names []string
	for name := range f.listens {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, f.err
}

func (f *fakeTables) Compare(ruleset.Table) ([]string, error) { return slices.Clone(f.differs), f.err }

func (f *fakeTables) Listens(table string) ([]forward.Listen, error) { return f.listens[table], f.err }

func (f *fakeTables) RefusingForwardChains() ([]nftforeign.Chain, error) { return f.refusing, f.err }

func (f *fakeTables) Probe(t ruleset.Table) error {
	f.tried = append(f.tried, t)
	return f.refuses
}

func (f *fakeTables) Close() error {
	f.closed = true
	return nil
}
