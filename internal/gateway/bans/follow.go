package bans

import (
	"context"
	"fmt"
	"slices"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/kernel/system"
)

const (
	// checkTime is how often the files that the configuration denies are checked for changes.
	checkTime = time.Second
	// writeTime is how long a program may write a file before the log says that it cannot be used.
	writeTime = 3 * checkTime
	// tellTime is when the log says it again, if the file has changed and still cannot be used.
	tellTime = time.Minute
)

// unused is why the denied files are not in use as they are. It is never changed.
type unused struct {
	since time.Time
	text  string
}

func (u unused) String() string {
	return fmt.Sprintf("the changed file of denied addresses is not in use since %s, its previous content "+
		"is: %s",
		u.since.Local().Format(time.DateTime), u.text)
}

// follower follows the files that the configuration denies. It has a goroutine of its own, because to read a
// file may take as long as its disk hangs.
type follower struct {
	keeper   *Keeper
	denied   *Denied            // that is in use
	seen     []system.FileStamp // of files that cannot be used, at the last check
	findings []finding.Finding  // of those
	since    time.Time          // when they could not be used for the first time; zero: they can
	told     time.Time          // when the log said so; zero: never
	toldOf   []system.FileStamp
}

// run checks the files until ctx is done.
func (f *follower) run(ctx context.Context) {
	ticker := time.NewTicker(checkTime)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f.check(time.Now())
		}
	}
}

// check reads the files if they have changed.
func (f *follower) check(now time.Time) {
	k := f.keeper
	k.changing.Lock()
	denied := k.denied
	k.changing.Unlock()
	if f.denied != denied {
		*f = follower{keeper: k, denied: denied}
	}
	stamps := system.FileStamps(denied.deny.Files)
	switch {
	case slices.Equal(stamps, denied.stamps):
		*f = follower{keeper: k, denied: denied}
		k.unused.Store(nil)
		return
	case f.seen != nil && slices.Equal(stamps, f.seen):
	case f.use(stamps):
		return
	}
	f.tell(now, stamps)
	f.seen = stamps
}

// use reads the files, and reports whether they are in use now, or the configuration has others.
func (f *follower) use(stamps []system.FileStamp) bool {
	k := f.keeper
	read, findings := Read(f.denied.deny)
	if f.findings = findings; len(findings) > 0 {
		return false
	}
	done, err := k.denyInPlaceOf(f.denied, read)
	if err != nil {
		f.findings = []finding.Finding{{Text: err.Error()}}
		return false
	}
	if done {
		k.unused.Store(nil)
		k.config.Log.Info("denied addresses read again", "addresses", len(read.prefixes))
		k.config.End(k.Refuses)
	}
	return true
}

// tell says that files cannot be used: at once where status looks, and in the log when they have not changed
// since the last check, or do it all the time. A program may be writing them.
func (f *follower) tell(now time.Time, stamps []system.FileStamp) {
	steady := f.seen != nil && slices.Equal(stamps, f.seen)
	if f.since.IsZero() {
		f.since = now
	}
	f.keeper.unused.Store(&unused{f.since, f.findings[0].Text})
	if !steady && now.Sub(f.since) < writeTime || steady && slices.Equal(stamps, f.toldOf) ||
		!f.told.IsZero() && now.Sub(f.told) < tellTime {
		return
	}
	f.told, f.toldOf = now, stamps
	for _, found := range f.findings {
		f.keeper.config.Log.Error("cannot use the changed file of denied addresses; its previous content "+
			"stays in use", "error", found.Text, "remedy", found.Remedy)
	}
}
