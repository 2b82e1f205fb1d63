package status

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ftpgate/internal/core/finding"
)

// Whoever asks within a minute gets the same findings, and nobody waits for two examinations.
func TestExaminer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		examined := 0
		e := NewExaminer(func(context.Context) []finding.Finding {
			examined++ // without a lock: there is one at a time
			<-time.After(10 * time.Second)
			return []finding.Finding{{Code: "ip_forward"}}
		})
		ask := func() time.Time {
			found, err := e.Findings(t.Context())
			if err != nil || len(found.Findings) != 1 {
				t.Errorf("got %+v, %v; want one finding", found, err)
			}
			return found.At
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { ask() })
		}
		wg.Wait()
		first := ask()
		<-time.After(examineEvery - time.Second)
		if again := ask(); examined != 1 || !again.Equal(first) {
			t.Errorf("got %d examinations, of %s and %s; want one", examined, first, again)
		}
		<-time.After(2 * time.Second)
		if later := ask(); examined != 2 || later.Sub(first) < examineEvery {
			t.Errorf("got %d examinations, of %s and %s; want another one", examined, first, later)
		}
	})
}

// An examination that was interrupted is not what the next one gets.
func TestExaminerInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := true
		e := NewExaminer(func(ctx context.Context) []finding.Finding {
			if slow {
				<-ctx.Done()
			}
			return []finding.Finding{{Code: "name_resolution"}}
		})
		if found, err := e.Findings(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %+v, %v; want that it took too long", found, err)
		}
		slow = false
		if found, err := e.Findings(t.Context()); err != nil || len(found.Findings) != 1 {
			t.Errorf("got %+v, %v; want a finding", found, err)
		}
	})
}
