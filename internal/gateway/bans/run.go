package bans

import (
	"context"
	"sync"
	"time"

	"ftpgate/internal/core/ban"
)

const (
	// checkTime is how often the files that the configuration denies are checked for changes.
	checkTime = time.Second
	// retryTime is when to try again what the kernel or the disk did not carry out.
	retryTime = time.Second
)

// Start ends bans whose time is over, and follows the denied files, until ctx is done. The function that it
// returns waits for that.
func (k *Keeper) Start(ctx context.Context) (wait func()) {
	var running sync.WaitGroup
	running.Go(func() { k.run(ctx) })
	return running.Wait
}

func (k *Keeper) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var checked time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-timer.C:
		}
		if now := time.Now(); now.Sub(checked) >= checkTime { // wake may come often
			checked = now
			k.checkFiles()
		}
		timer.Stop()
		if next := k.expire(time.Now()); next > 0 {
			timer.Reset(next)
		}
	}
}

// expire ends the bans whose time is over, and returns when to call it again; 0: when the list has changed.
func (k *Keeper) expire(now time.Time) (again time.Duration) {
	k.changing.Lock()
	defer k.changing.Unlock()
	if len(k.denied.deny.Files) > 0 {
		again = checkTime
	}
	left := k.list.Clone()
	over, next := left.Expire(now)
	if len(over) > 0 {
		if err := k.changeLocked(func() error { k.list = left; return nil }); err != nil {
			k.config.Log.Error("cannot end bans whose time is over", "bans", len(over), "err", err)
			return retryTime
		}
		k.save()
		k.logOver(over)
	}
	if k.unwritten {
		if k.save(); k.unwritten && (again == 0 || retryTime < again) {
			again = retryTime
		}
	}
	if wait := next.Sub(now); !next.IsZero() && (again == 0 || wait < again) {
		again = max(wait, time.Millisecond)
	}
	return again
}

// loggedEnds bounds how many bans the log names that end at once.
const loggedEnds = 20

func (k *Keeper) logOver(over []ban.Ban) {
	for i, b := range over {
		if i == loggedEnds {
			k.config.Log.Info("more bans have ended", "bans", len(over)-loggedEnds)
			return
		}
		k.config.Log.Info("ban ended: its time is over", "address", b.Name())
	}
}
