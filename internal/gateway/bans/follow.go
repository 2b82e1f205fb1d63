package bans

import (
	"context"
	"fmt"
	"log/slog"
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

// follower follows the files that the configuration denies, in a goroutine of its own.
type follower struct {
	keeper *Keeper
	log    readLog
	disk   system.Patience
	problem
}

// problem is what a follower knows about the files that are denied.
type problem struct {
	denied   *Denied            // that is in use
	seen     []system.FileStamp // of files that cannot be used, at the last check
	findings []finding.Finding  // of those
	silent   bool               // at the last check the disk did not answer
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
			f.log.report(time.Now(), f.keeper.config.Log)
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
		f.problem = problem{denied: denied}
	}
	files := denied.deny.Files
	stamps, err := system.InTime(&f.disk, func() ([]system.FileStamp, error) { return k.stamps(files), nil })
	switch {
	case err != nil:
		stamps = make([]system.FileStamp, len(files)) // as if there were none
		f.findings = []finding.Finding{silence(err)}
	case slices.Equal(stamps, denied.stamps):
		f.problem = problem{denied: denied}
		k.unused.Store(nil)
		return
	case f.seen != nil && !f.silent && slices.Equal(stamps, f.seen):
	case f.use(now):
		return
	}
	f.silent = err != nil
	f.tell(now, stamps)
	f.seen = stamps
}

// use reads the files, and reports whether they are in use now, or the configuration has others.
func (f *follower) use(now time.Time) bool {
	k := f.keeper
	again, findings := read(f.denied.deny, &f.disk, k.file)
	if f.findings = findings; len(findings) > 0 {
		return false
	}
	done, err := k.denyInPlaceOf(f.denied, again)
	if err != nil {
		f.findings = []finding.Finding{{Text: err.Error()}}
		return false
	}
	if done {
		k.unused.Store(nil)
		f.log.read(now, len(again.prefixes))
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

// loggedReads is how many changes of the denied files the log has at once. From then on it counts them,
// and has one record in each tellTime, until there was none for as long.
const loggedReads = 5

// readLog bounds the log records about denied files that change. The zero value is ready for use.
type readLog struct {
	logged    int       // records since there was no change for tellTime
	last      time.Time // when the last record was written
	unlogged  int       // changes since then
	addresses int       // after the last change
}

// read counts a change. The caller calls report.
func (l *readLog) read(now time.Time, addresses int) {
	if l.unlogged == 0 && now.Sub(l.last) >= tellTime {
		l.logged = 0
	}
	l.unlogged++
	l.addresses = addresses
}

// report writes a record, if one is due.
func (l *readLog) report(now time.Time, log *slog.Logger) {
	if l.unlogged == 0 || l.logged >= loggedReads && now.Sub(l.last) < tellTime {
		return
	}
	attrs := []any{"addresses", l.addresses}
	if l.unlogged > 1 {
		attrs = append(attrs, "times", l.unlogged)
	}
	log.Info("denied addresses read again", attrs...)
	l.logged++
	l.last, l.unlogged = now, 0
}
