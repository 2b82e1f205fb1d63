package path

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/pinhole"
)

// repairTime is how long a client waits for the repair of the table. Installing a table takes milliseconds,
// or seconds with many thousand forwards.
const repairTime = 5 * time.Second

// repairedTables are the kernel's tables. If another program has removed the table, adding to it first
// repairs it.
type repairedTables struct {
	*tables
	repair func(context.Context) error
}

// Add opens a pinhole.
func (r repairedTables) Add(p pinhole.Pinhole) error {
	return r.do(func() error { return r.pinholes.Add(p) })
}

// Keep keeps a pinhole open while wanted returns true.
func (r repairedTables) Keep(p pinhole.Pinhole, wanted func() bool) { r.pinholes.Keep(p, wanted) }

// Remove closes a pinhole.
func (r repairedTables) Remove(p pinhole.Pinhole) error { return r.pinholes.Remove(p) }

// RemoveLater closes a pinhole that was used.
func (r repairedTables) RemoveLater(p pinhole.Pinhole) { r.pinholes.RemoveLater(p) }

// AddPassthrough opens a passthrough.
func (r repairedTables) AddPassthrough(p pinhole.Passthrough) error {
	return r.do(func() error { return r.passthroughs.Add(p) })
}

// RemovePassthrough closes a passthrough.
func (r repairedTables) RemovePassthrough(p pinhole.Passthrough) error {
	return r.passthroughs.Remove(p)
}

// do calls f, and once more if the table was missing (ENOENT) and is repaired in time.
func (r repairedTables) do(f func() error) error {
	err := f()
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), repairTime)
	defer cancel()
	if errRepair := r.repair(ctx); errRepair != nil {
		return errors.Join(err, errRepair)
	}
	return f()
}

// notRenewed logs that passthroughs could not be renewed. If the table is missing, package repair installs
// it, and Restore renews them.
func (p *Paths) notRenewed(err error) {
	p.log.Warn("cannot renew the ports of encrypted sessions: they may lose data connections", "err", err)
}

// Restore adds the open pinholes and passthroughs to the kernel's table again after another program has
// removed them, except pinholes whose peers have connected.
func (p *Paths) Restore() error {
	t := p.tables.Load()
	if t == nil {
		return nil
	}
	return errors.Join(t.pinholes.Restore(t.opener.Used), t.passthroughs.Renew())
}
