// Package repair keeps the kernel's table as published: when another program changes it, it compares and
// restores the table, and logs what was missing and who removed it.
//
// It neither reads nor writes the table: package gateway compares and restores, package path knows pinholes.
//
// Locks: Repairer.mu is a leaf. Nothing is called while it is held.
package repair

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"ftpgate/internal/kernel/nftwatch"
)

// ErrFight means that repairs are paused.
var ErrFight = errors.New("another program removes ftpgate's rules again and again")

const (
	// retryTime is the pause after a failed repair.
	retryTime = time.Second
	// namedAtMost bounds how many differences a log record names.
	namedAtMost = 4
	// rememberedAtMost bounds how many changes between two comparisons are kept.
	rememberedAtMost = 64
)

const remedy = "have that program leave tables alone that are not its own (nft flush ruleset removes all)"

// Config holds the dependencies of a Repairer. All fields must be set.
type Config struct {
	Table string
	Log   *slog.Logger
	// PutBack compares the table with the published one, adds what is missing, and returns how it differed.
	// emptied are the sets from which another program has deleted elements. If more is true, it has added
	// what serves sessions, and the next call adds the rest.
	PutBack func(emptied []string) (differences []string, more bool, err error)
	// Restore adds the elements that expire.
	Restore func() error
	// Repaired is called after each repair.
	Repaired func()
}

// State is the result of the comparisons so far.
type State struct {
	Repairs     int       // since the start
	Last        time.Time // of the last repair; zero: there was none
	Differences []string  // that the last repair found
	By          string    // who made them: "nft (pid 123)"; empty: unknown
	Err         error     // why the table may differ now; nil: it does not
}

// Repairer compares and repairs the table, in one goroutine (Run). Its other methods may be called by several
// goroutines at once.
type Repairer struct {
	config Config
	wake   chan struct{} // has a token if there is something to do
	watch  watch

	mu      sync.Mutex
	changes []nftwatch.Change // by other programs, since the last comparison
	waiting []chan error      // for the next comparison
	ended   bool              // Run has returned
	state   State
}

// New returns a Repairer. Nothing is compared until Run.
func New(c Config) *Repairer { return &Repairer{config: c, wake: make(chan struct{}, 1)} }

// Changed requests a comparison after another program changed the table. It does not wait.
func (r *Repairer) Changed(c nftwatch.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.changes) == rememberedAtMost {
		r.changes, c = nil, nftwatch.Change{Program: c.Program, PID: c.PID, Lost: true}
	}
	r.changes = append(r.changes, c)
	r.wakeUp()
}

// Repair requests a comparison and repair, and waits for it. The error says why the table may still differ:
// it is ErrFight, the kernel's, or the context's.
func (r *Repairer) Repair(ctx context.Context) error {
	done := make(chan error, 1)
	r.mu.Lock()
	if r.ended {
		r.mu.Unlock()
		return context.Canceled
	}
	r.waiting = append(r.waiting, done)
	r.wakeUp()
	r.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// wakeUp wakes Run. The caller holds mu.
func (r *Repairer) wakeUp() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// State returns the result of the comparisons so far.
func (r *Repairer) State() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// Run compares and repairs until ctx is done.
func (r *Repairer) Run(ctx context.Context) {
	b := newBudget()
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		select {
		case <-ctx.Done():
			_, waiting := r.take(true)
			answer(waiting, context.Cause(ctx))
			return
		case <-r.wake:
		case <-timer.C:
		}
		if wait := b.wait(time.Now()); wait > 0 {
			timer.Reset(wait)
			r.postpone(&b)
			continue
		}
		changes, waiting := r.take(false)
		repaired, err := r.compare(changes, waiting)
		if repaired {
			b.spend()
		}
		if err != nil {
			timer.Reset(retryTime)
		}
	}
}

func answer(waiting []chan error, err error) {
	for _, w := range waiting {
		w <- err
	}
}

// take removes and returns the pending changes and waiters.
func (r *Repairer) take(end bool) (changes []nftwatch.Change, waiting []chan error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	changes, waiting = r.changes, r.waiting
	r.changes, r.waiting, r.ended = nil, nil, end
	return changes, waiting
}

// postpone keeps changes for later. It answers the waiters with ErrFight, and logs once for each fight.
func (r *Repairer) postpone(b *budget) {
	r.mu.Lock()
	waiting, by := r.waiting, cause(r.changes)
	r.waiting, r.state.Err = nil, ErrFight
	r.mu.Unlock()
	if !b.logged {
		b.logged = true
		r.config.Log.Warn("another program removes ftpgate's rules again and again: "+
			"they are restored once every "+pause.String(), r.attrs(by)...)
	}
	answer(waiting, ErrFight)
}

// attrs returns the attributes of a log record about what another program has done.
func (r *Repairer) attrs(by string) []any {
	attrs := []any{"table", "inet " + r.config.Table}
	if by != "" {
		attrs = append(attrs, "by", by)
	}
	return append(attrs, "remedy", remedy)
}

// compare compares and repairs the table, answers those who wait for that, and reports whether it differed.
func (r *Repairer) compare(changes []nftwatch.Change, waiting []chan error) (repaired bool, err error) {
	var emptied []string
	lost := false
	for _, c := range changes {
		emptied = append(emptied, c.Emptied...)
		lost = lost || c.Lost
	}
	differences, more, err := r.config.PutBack(emptied)
	if err == nil && (lost || len(differences) > 0) {
		err = r.config.Restore()
	}
	if err == nil && more {
		answer(waiting, nil) // sessions can go on
		waiting, err = nil, r.addRest()
	}
	r.record(differences, cause(changes), err)
	answer(waiting, err)
	return len(differences) > 0, err
}

// addRest adds what PutBack has left for later. If another program has removed the table meanwhile, its
// change leads to the next comparison.
func (r *Repairer) addRest() error {
	if _, _, err := r.config.PutBack(nil); err != nil {
		return err
	}
	return r.config.Restore() // PutBack may have had to replace the table
}

// record remembers and logs a comparison.
func (r *Repairer) record(differences []string, by string, err error) {
	r.mu.Lock()
	before := r.state.Err
	r.state.Err = err
	if len(differences) > 0 {
		r.state.Differences, r.state.By, r.state.Last = differences, by, time.Now()
		if err == nil {
			r.state.Repairs++
		}
	}
	r.mu.Unlock()
	switch {
	case err != nil && (before == nil || before.Error() != err.Error()):
		r.config.Log.Error("cannot compare or restore the table's rules, which another program has changed",
			append([]any{"err", err}, r.attrs(by)...)...)
	case err == nil && len(differences) > 0:
		r.config.Repaired()
		r.config.Log.Warn("another program has changed ftpgate's rules: they are restored",
			append([]any{"differences", text(differences)}, r.attrs(by)...)...)
	}
}

// text returns differences as one text of bounded length.
func text(differences []string) string {
	if more := len(differences) - namedAtMost; more > 0 {
		return fmt.Sprintf("%s, and %d more", strings.Join(differences[:namedAtMost], ", "), more)
	}
	return strings.Join(differences, ", ")
}

// cause returns the last program that the kernel named as the author of changes.
func cause(changes []nftwatch.Change) (by string) {
	for _, c := range changes {
		if c.Program != "" {
			by = fmt.Sprintf("%s (pid %d)", c.Program, c.PID)
		}
	}
	return by
}
