// Package bans owns the list of banned clients while ftpgate runs. It changes the list when an operator bans
// or lifts a ban, when a ban's time is over, and when a file that the configuration denies changes, and the
// kernel's table and the proxies then refuse the clients on it. It keeps the bans in a file, so that they
// outlive ftpgate.
//
// Package ban decides what the list is; this package refuses no client itself.
//
// Locks: Keeper.changing, held while the kernel applies a change, and never while a file is read or written;
// saver.mu is a leaf. Methods that only read (Refuses, Bans, Denied, Problems) wait for neither.
package bans

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ftpgate/internal/core/ban"
	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/system"
)

// Config is what a Keeper works with.
type Config struct {
	Log *slog.Logger
	// Apply makes the kernel's table refuse the addresses. After an error it refuses the previous ones.
	Apply func(ban.Ranges) error
	// End ends the sessions of clients that are refused, without waiting for them, and returns how many.
	End func(refused func(netip.Addr) bool) int
	// Forwards returns the published forwards; nil: there are none. It must not wait.
	Forwards func() []forward.Resolved
	// File keeps the bans; empty: they end with the process.
	File string
}

// Keeper owns the list. Its methods may be called by several goroutines at once.
type Keeper struct {
	config Config
	saver  *saver
	wake   chan struct{} // has a token if the list has changed
	now    atomic.Pointer[view]
	unused atomic.Pointer[unused] // nil: the denied files are in use as they are
	file   fileReader
	stamps func(files []string) []system.FileStamp
	disk   system.Patience // of Read

	changing sync.Mutex
	list     ban.List
	denied   *Denied // replaced as a whole
}

// Result is what a change of the bans has done.
type Result struct {
	Ban     ban.Ban // as it is, or as it was
	Ended   int     // how many sessions
	NotKept error   // why the change ends with the process; nil: it does not
	// Refused says what still refuses addresses of the ban that was lifted; empty: nothing.
	Refused string
	// Warnings are sentences about what a ban does that is hardly meant.
	Warnings []string
}

// view is the list as others see it. It is never changed.
type view struct {
	bans   []ban.Ban
	denied int
	ranges ban.Ranges
}

// New returns a Keeper without bans.
func New(c Config) *Keeper {
	k := &Keeper{config: c, wake: make(chan struct{}, 1), saver: newSaver(c.File, c.Log), denied: &Denied{},
		file: system.ReadFile, stamps: system.FileStamps}
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

// Problems returns sentences about what is not as the operator wants it: denied files that are not in use as
// they are, servers that are refused, bans that are not written to the disk.
func (k *Keeper) Problems() (all []string) {
	if u := k.unused.Load(); u != nil {
		all = append(all, u.String())
	}
	all = append(all, k.servers(k.Refuses)...)
	if err := k.saver.problem(); err != nil {
		all = append(all, fmt.Sprintf("bans end when ftpgate ends: %s cannot be written: %v", k.config.File,
			err))
	}
	return all
}

// Ban bans a prefix for some time, or until it is lifted if that is 0. It replaces a ban of the same prefix.
// It ends the clients' sessions. The error wraps those of package ban, or is the kernel's; nothing has
// changed then. Ban waits for the disk, at most saveTime.
func (k *Keeper) Ban(p netip.Prefix, d time.Duration, reason string) (Result, error) {
	now := time.Now().UTC().Truncate(time.Millisecond) // which leaves out the monotonic clock, too
	r := Result{Ban: ban.Ban{Prefix: p, Since: now, Reason: reason}}
	if d > 0 {
		r.Ban.Until = now.Add(d)
	}
	saved, err := k.change(func() error { return k.list.Add(r.Ban) })
	if err != nil {
		return Result{}, err
	}
	r.Ended = k.config.End(k.Refuses)
	r.NotKept = k.saver.await(saved)
	r.Warnings = k.servers(p.Contains)
	return r, nil
}

// Unban lifts the ban of a prefix, as it was banned. The error wraps ban.ErrNotBanned, or is the kernel's;
// nothing has changed then. Unban waits for the disk, at most saveTime.
func (k *Keeper) Unban(p netip.Prefix) (r Result, err error) {
	saved, err := k.change(func() (err error) {
		if r.Ban, err = k.list.Remove(p); err == nil {
			r.Refused = k.refusing(p)
		}
		return err
	})
	if err != nil {
		return Result{}, err
	}
	r.NotKept = k.saver.await(saved)
	return r, nil
}

// refusing says what refuses addresses of a prefix; empty: nothing. The caller holds changing.
func (k *Keeper) refusing(p netip.Prefix) string {
	if denied, by := k.denied.find(p); by != "" {
		return fmt.Sprintf("%s has %s", by, ban.Name(denied))
	}
	for _, b := range k.list.Bans() {
		if b.Prefix.Overlaps(p) {
			return fmt.Sprintf("%s is banned", b.Name())
		}
	}
	return ""
}

// change changes the list, carries that out, and has the file written: the channel gets the result. After an
// error nothing has changed.
func (k *Keeper) change(edit func() error) (saved <-chan error, err error) {
	k.changing.Lock()
	defer k.changing.Unlock()
	if err := k.changeLocked(edit); err != nil {
		return nil, err
	}
	return k.saver.save(k.list.Bans()), nil
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
