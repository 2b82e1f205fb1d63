package bans

import (
	"context"
	"time"

	"ftpgate/internal/core/ban"
)

// Start ends bans whose time is over, and follows the denied files, until ctx is done. The function that it
// returns waits for that, and for the disk to have the bans. It does not wait for a disk that hangs.
func (k *Keeper) Start(ctx context.Context) (wait func()) {
	ends, files := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ends)
		k.run(ctx)
	}()
	go func() {
		defer close(files)
		(&follower{keeper: k}).run(ctx)
	}()
	return func() {
		<-ends
		select {
		case <-files:
		case <-time.After(saveTime):
			k.config.Log.Warn(
				"a file of denied addresses cannot be read to its end: the disk does not answer")
		}
		k.saver.close()
	}
}

func (k *Keeper) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-timer.C:
		}
		timer.Stop()
		if next := k.expire(time.Now()); next > 0 {
			timer.Reset(next)
		}
	}
}

// expire ends the bans whose time is over, and returns when to call it again; 0: when the list has changed.
func (k *Keeper) expire(now time.Time) (again time.Duration) {
	over, next, err := k.endOver(now)
	switch {
	case err != nil:
		k.config.Log.Error("cannot end bans whose time is over", "bans", len(over), "err", err)
		return retryTime
	case next.IsZero():
		again = 0
	default:
		again = max(next.Sub(now), time.Millisecond)
	}
	k.logOver(over)
	return again
}

// endOver ends the bans whose time is over, and returns them, and when the next one ends; zero: none does.
func (k *Keeper) endOver(now time.Time) (over []ban.Ban, next time.Time, err error) {
	k.changing.Lock()
	defer k.changing.Unlock()
	left := k.list.Clone()
	if over, next = left.Expire(now); len(over) == 0 {
		return nil, next, nil
	}
	if err = k.changeLocked(func() error { k.list = left; return nil }); err == nil {
		k.saver.save(k.list.Bans())
	}
	return over, next, err
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
