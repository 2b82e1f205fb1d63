// Package bans owns the list of banned clients while ftpgate runs. It changes the list when an operator bans
// or lifts a ban, when a ban's time is over, and when a file that the configuration denies changes, and the
// kernel's table and the proxies then refuse the clients on it. It keeps the bans in a file, so that they
// outlive ftpgate.
//
// Package ban decides what the list is; this package refuses no client itself.
//
// Locks: Keeper.changing, held while the kernel applies a change and the file is written. Methods that
// only read (Refuses, Bans, Denied) do not wait for it.
package bans

import (
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ftpgate/internal/core/ban"
	"ftpgate/internal/kernel/system"
)

// Config is what a Keeper works with.
type Config struct {
	Log *slog.Logger
	// Apply makes the kernel's table refuse the addresses. After an error it refuses the previous ones.
	Apply func(ban.Ranges) error
	// End ends the sessions of clients that are refused, without waiting for them, and returns how many.
	End func(refused func(netip.Addr) bool) int
	// File keeps the bans; empty: they end with the process.
	File string
}

// Keeper owns the list. Its methods may be called by several goroutines at once.
type Keeper struct {
	config Config
	wake   chan struct{} // has a token if the list has changed
	now    atomic.Pointer[view]

	changing  sync.Mutex
	list      ban.List
	denied    Denied
	rejected  []system.FileStamp // of denied files that cannot be used
	logged    bool               // the log says so
	unwritten bool               // the log says that the file cannot be written
}

// view is the list as others see it. It is never changed.
type view struct {
	bans   []ban.Ban
	denied int
	ranges ban.Ranges
}

// New returns a Keeper without bans.
func New(c Config) *Keeper {
	k := &Keeper{config: c, wake: make(chan struct{}, 1)}
	k.now.Store(&view{})
	return k
}

// Refuses reports whether a client is banned now.
func (k *Keeper) Refuses(client netip.Addr) bool {
	return k.now.Load().ranges.Refuses(client, time.Now())
}

// Bans returns the bans in the order of their prefixes. The caller must not change the slice.
func (k *Keeper) Bans() []ban.Ban { return k.now.Load().bans }

// Denied returns how many addresses and prefixes the configuration denies.
func (k *Keeper) Denied() int { return k.now.Load().denied }

// Ban bans a prefix for some time, or until it is lifted if that is 0. It replaces a ban of the same prefix.
// It ends the clients' sessions, and returns how many. The error wraps those of package ban, or is the
// kernel's; nothing has changed then.
func (k *Keeper) Ban(p netip.Prefix, d time.Duration, reason string) (b ban.Ban, ended int, err error) {
	now := time.Now().UTC().Truncate(time.Millisecond) // which leaves out the monotonic clock, too
	b = ban.Ban{Prefix: p, Since: now, Reason: reason}
	if d > 0 {
		b.Until = now.Add(d)
	}
	if err := k.change(func() error { return k.list.Add(b) }); err != nil {
		return ban.Ban{}, 0, err
	}
	return b, k.config.End(k.Refuses), nil
}

// Unban lifts the ban of a prefix, as it was banned. The error wraps ban.ErrNotBanned, or is the kernel's;
// nothing has changed then.
func (k *Keeper) Unban(p netip.Prefix) error {
	return k.change(func() error {
		_, err := k.list.Remove(p)
		return err
	})
}

// change changes the list, carries that out, and writes the file. After an error nothing has changed.
func (k *Keeper) change(edit func() error) error {
	k.changing.Lock()
	defer k.changing.Unlock()
	err := k.changeLocked(edit)
	if err == nil {
		k.save()
	}
	return err
}

// changeLocked changes the list and carries that out, for a caller that holds changing.
func (k *Keeper) changeLocked(edit func() error) error {
	before, seen := k.list.Clone(), k.now.Load()
	if err := edit(); err != nil {
		return err
	}
	ranges := k.list.Ranges()
	k.now.Store(&view{bans: k.list.Bans(), denied: k.list.Denied(), ranges: ranges})
	if !slices.Equal(ranges, seen.ranges) {
		if err := k.config.Apply(ranges); err != nil {
			k.list = before
			k.now.Store(seen)
			return err
		}
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
	return nil
}
