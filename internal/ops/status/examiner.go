package status

import (
	"context"
	"fmt"
	"sync"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/ops/admin"
)

const (
	// examineEvery is how long the findings of an examination serve all who ask: it reads the rules of all
	// programs, and resolves the names of servers.
	examineEvery = time.Minute
	// examineTime bounds an examination, in which names may not resolve.
	examineTime = 40 * time.Second
)

// Examiner examines the host when it is asked, one examination at a time, and none sooner than a minute after
// the one before. Several goroutines may call its methods.
type Examiner struct {
	examine func(context.Context) []finding.Finding
	turn    chan struct{} // has room for the one that examines

	mu   sync.Mutex
	last admin.Findings
}

// NewExaminer returns an examiner. What examine returns after its context is done is not used.
func NewExaminer(examine func(context.Context) []finding.Finding) *Examiner {
	return &Examiner{examine: examine, turn: make(chan struct{}, 1)}
}

// Findings returns the last findings, or examines the host if they are too old. The error says that this did
// not end in time, or that ctx is done.
func (e *Examiner) Findings(ctx context.Context) (admin.Findings, error) {
	ctx, cancel := context.WithTimeout(ctx, examineTime)
	defer cancel()
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return admin.Findings{}, fmt.Errorf("the host was not examined: %w", ctx.Err())
	}
	if last := e.latest(); time.Since(last.At) < examineEvery {
		return last, nil
	}
	found := admin.Findings{Findings: e.examine(ctx), At: time.Now()}
	if ctx.Err() != nil { // names are missing only because they were not resolved
		return admin.Findings{}, fmt.Errorf("the host was not examined: %w", ctx.Err())
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last = found
	return found, nil
}

func (e *Examiner) latest() admin.Findings {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}
