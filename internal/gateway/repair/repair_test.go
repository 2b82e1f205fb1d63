package repair

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ftpgate/internal/kernel/nftwatch"
)

const table = "missing table inet ftpgate"

// kernel is a table that may lack something.
type kernel struct {
	busy time.Duration // that a comparison takes

	mu       sync.Mutex
	missing  []string
	err      error
	rest     chan struct{} // not nil: the first PutBack leaves a rest, and the next waits for this
	emptied  []string      // of all PutBacks
	compared int
	restored int
}

func (k *kernel) putBack(emptied []string) (differences []string, more bool, err error) {
	k.mu.Lock()
	missing, rest := k.missing, k.rest
	k.mu.Unlock()
	if rest != nil && missing == nil {
		<-rest
	}
	if k.busy > 0 {
		<-time.After(k.busy)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.compared++
	k.emptied = append(k.emptied, emptied...)
	missing = k.missing
	if k.err == nil {
		k.missing = nil
	}
	return missing, k.rest != nil && missing != nil, k.err
}

// lacks sets what another program has removed, and whether it cannot be put back.
func (k *kernel) lacks(err error, missing ...string) {
	synctest.Wait() // for what continues
	k.mu.Lock()
	defer k.mu.Unlock()
	k.missing, k.err = missing, err
}

// bench is a Repairer that runs.
type bench struct {
	*Repairer
	kernel
	log      strings.Builder
	repaired int
}

func run(t *testing.T, test func(t *testing.T, b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{}
		b.Repairer = New(Config{Table: "ftpgate", Log: slog.New(slog.NewTextHandler(&b.log, nil)),
			PutBack: b.putBack, Restore: func() error { b.restored++; return nil },
			Repaired: func() { b.repaired++ }})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { b.Run(ctx) })
		test(t, b)
		cancel()
		running.Wait()
		if err := b.Repair(t.Context()); !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v after the end; want %v", err, context.Canceled)
		}
	})
}

// quiet waits for some time, and until nothing is done any more.
func quiet(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// wantLog compares how often the log has a text.
func (b *bench) wantLog(t *testing.T, text string, want int) {
	t.Helper()
	if got := strings.Count(b.log.String(), text); got != want {
		t.Errorf("got the log\n%swith %q %d times; want %d", b.log.String(), text, got, want)
	}
}

// What another program removes is back at once. The log says so once, with what and who.
func TestRepair(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.lacks(nil, "chain a", "chain b", "chain c", "chain d", "chain e")
		b.Changed(nftwatch.Change{Program: "nft", PID: 7, Emptied: []string{"pinhole4"}})
		b.Changed(nftwatch.Change{})
		quiet(time.Second)
		if b.compared > 2 || b.restored != 1 || b.repaired != 1 || b.emptied[0] != "pinhole4" {
			t.Errorf("got %d comparisons, %d repairs of %q; want one repair", b.compared, b.repaired,
				b.emptied)
		}
		b.wantLog(t, "level=WARN", 1)
		b.wantLog(t, `differences="chain a, chain b, chain c, chain d, and 1 more" table="inet ftpgate" `+
			`by="nft (pid 7)" remedy=`, 1)
		b.Changed(nftwatch.Change{Program: "nft", PID: 8}) // and nothing is missing
		b.Changed(nftwatch.Change{Lost: true})
		err := b.Repair(t.Context())
		quiet(time.Second)
		if err != nil || b.compared < 2 || b.restored != 2 || b.repaired != 1 {
			t.Errorf("got error %v, %d comparisons, %d times restored, %d repairs; want none, 2, 2 and 1",
				err,
				b.compared, b.restored, b.repaired)
		}
		b.wantLog(t, "level=", 1)
		if s := b.State(); s.Repairs != 1 || s.By != "nft (pid 7)" || len(s.Differences) != 5 ||
			s.Err != nil {
			t.Errorf("got state %+v; want one repair", s)
		}
	})
}

// Callers that miss the table at the same time share a comparison.
func TestRepairOnce(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.busy = time.Millisecond
		b.lacks(nil, table)
		var sessions sync.WaitGroup
		for range 10 {
			sessions.Go(func() {
				if err := b.Repair(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		sessions.Wait()
		quiet(time.Second)
		if b.compared > 2 || b.repaired != 1 {
			t.Errorf("got %d comparisons, %d repairs; want two at most, and one", b.compared, b.repaired)
		}
	})
}

// Who waits for the table goes on when it serves sessions, before the rest is there. The log has one repair.
func TestRepairInParts(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.rest = make(chan struct{})
		b.lacks(nil, table)
		if err := b.Repair(t.Context()); err != nil || b.restored != 1 || b.State().Repairs != 0 {
			t.Errorf("got error %v, %d times restored, state %+v; want what serves sessions, and no "+
				"repair yet",
				err, b.restored, b.State())
		}
		close(b.rest)
		quiet(time.Second)
		if b.compared != 2 || b.restored != 2 || b.repaired != 1 || b.State().Repairs != 1 {
			t.Errorf(
				"got %d comparisons, %d times restored, %d repairs, state %+v; want 2, 2, and one repair",
				b.compared, b.restored, b.repaired, b.State())
		}
		b.wantLog(t, "level=", 1)
	})
}

// A repair that fails is tried again each second, and the log has its error once.
func TestRepairFails(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		refused := errors.New("no permission")
		b.lacks(refused, table)
		if err := b.Repair(t.Context()); !errors.Is(err, refused) || !errors.Is(b.State().Err, refused) {
			t.Errorf("got error %v, state %v; want %v", err, b.State(), refused)
		}
		quiet(10*time.Second + retryTime/2)
		b.wantLog(t, "level=ERROR", 1)
		b.lacks(nil, table)
		quiet(2 * time.Second)
		if b.State().Err != nil || b.repaired != 1 {
			t.Errorf("got state %+v, %d repairs; want one", b.State(), b.repaired)
		}
	})
}

// Who gives up waiting does not wait for the kernel.
func TestRepairGivenUp(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.busy = time.Millisecond
		ctx, cancel := context.WithTimeout(t.Context(), time.Microsecond)
		defer cancel()
		if err := b.Repair(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got error %v; want %v", err, context.DeadlineExceeded)
		}
	})
}

// Another program that removes the table again and again is logged once, and costs a repair in ten seconds.
// When it has stopped, all is back.
func TestFight(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		for range 950 {
			b.lacks(nil, table)
			b.Changed(nftwatch.Change{Program: "evil", PID: 6})
			quiet(100 * time.Millisecond)
		}
		if b.repaired < burst+8 || b.repaired > burst+10 {
			t.Errorf("got %d repairs in 95 s; want %d at once and ten more", b.repaired, burst)
		}
		b.wantLog(t, "again and again", 1)
		b.lacks(nil, table)
		b.Changed(nftwatch.Change{Program: "evil", PID: 6})
		if err := b.Repair(t.Context()); !errors.Is(err, ErrFight) || !errors.Is(b.State().Err, ErrFight) {
			t.Errorf("got error %v, state %v; want %v", err, b.State(), ErrFight)
		}
		quiet(pause + time.Second)
		if b.missing != nil || b.State().Err != nil {
			t.Errorf("got %q missing, state %+v after the fight; want all back", b.missing, b.State())
		}
		quiet(burst * pause)
		for range burst {
			b.lacks(nil, table)
			if err := b.Repair(t.Context()); err != nil || b.missing != nil {
				t.Errorf("got error %v after a quiet time; want a repair at once", err)
			}
		}
		b.wantLog(t, "again and again", 1)
	})
}
