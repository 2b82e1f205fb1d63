package path

import (
	"errors"
	"net/netip"
)

// errNoTables says that a connection cannot come from another address.
var errNoTables = errors.New("ftpgate may not change the kernel's tables")

// ShowSource makes the next connection from an address and port of the gateway to a target come from another
// source address: a socket.ShowSource.
func (p *Paths) ShowSource(own, target netip.AddrPort, source netip.Addr) (forget func(), err error) {
	t := p.tables.Load()
	if t == nil || p.kernel.Load() == nil {
		return nil, errNoTables
	}
	r := repairedTables{t, p.repair}
	if err := r.do(func() error { return t.ownSources.Add(own, target, source) }); err != nil {
		return nil, err
	}
	return func() {
		if err := t.ownSources.Remove(own, target, source); err != nil {
			p.log.Warn("a source address stays in the kernel's table until it expires", "err", err)
		}
	}, nil
}

// IsOwn reports whether an address is the gateway's own.
func (p *Paths) IsOwn(addr netip.Addr) bool { return p.host.has(addr) }
