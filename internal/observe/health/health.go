// Package health checks periodically whether the servers of forwards answer, and remembers since when they do
// or do not, and why.
//
// A server with several forwards is checked once, and over one connection at a time. The checks of many
// servers are spread over the interval. The package opens no connection itself: the caller supplies the
// check.
//
// Locks: Watcher.mu is a leaf. No call that waits is made while it is held.
package health

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"ftpgate/internal/core/finding"
	"ftpgate/internal/core/forward"
)

const (
	// checkTime bounds one check. With ten thousand silent servers a round takes longer than the interval.
	checkTime = 10 * time.Second
	// atOnce bounds the concurrent checks, each with a socket.
	atOnce = 128
)

// Check checks a forward's server. It returns nil if the server answers, else why it does not. ctx has a
// deadline.
type Check func(ctx context.Context, f forward.Resolved) *finding.Finding

// Watcher asks the servers of forwards. Its methods may be called from several goroutines.
type Watcher struct {
	check Check
	log   *slog.Logger
	wake  chan struct{} // wanted is set

	mu     sync.Mutex
	wanted *wanted // nil: nothing new
	states map[string]State
}

// wanted is the next set of servers to ask.
type wanted struct {
	every    time.Duration
	forwards []forward.Resolved
}

// New returns a watcher without servers: call SetForwards and Start.
func New(check Check, log *slog.Logger) *Watcher {
	return &Watcher{check: check, log: log, wake: make(chan struct{}, 1), states: map[string]State{}}
}

// SetForwards makes the watcher check the servers of these forwards, and no others, once in every interval;
// 0: none. Known servers keep their state.
func (w *Watcher) SetForwards(every time.Duration, forwards []forward.Resolved) {
	w.mu.Lock()
	w.wanted = &wanted{every, slices.Clone(forwards)}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// State returns the state of a forward's server.
func (w *Watcher) State(forward string) State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.states[forward]
}

// Answers returns for each forward whose server was asked whether it answers.
func (w *Watcher) Answers() map[string]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make(map[string]bool, len(w.states))
	for name, s := range w.states {
		all[name] = s.Answers
	}
	return all
}

// Start checks the servers until ctx is done. The function that it returns waits for the end.
func (w *Watcher) Start(ctx context.Context) (wait func()) {
	var running sync.WaitGroup
	running.Go(func() { w.run(ctx) })
	return running.Wait
}

// results are those of one server.
type results struct {
	at    netip.AddrPort
	found map[key]*finding.Finding
}

func (w *Watcher) run(ctx context.Context) {
	var checks sync.WaitGroup
	defer checks.Wait()
	p := &plan{running: map[netip.AddrPort]bool{}}
	ended := make(chan results)
	logged := &summary{log: w.log}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		for len(p.running) < atOnce {
			s := p.next(time.Now())
			if s == nil {
				break
			}
			checks.Go(w.asking(ctx, s, ended))
		}
		wait := logged.wait(time.Now())
		if len(p.running) < atOnce { // else until one ends
			wait = min(wait, p.wait(time.Now()))
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
			p = w.replan(p)
		case r := <-ended:
			w.take(p, r, logged)
		case <-timer.C:
			logged.flush(time.Now())
		}
	}
}

// asking returns a function that checks the targets of a server, one after the other, and sends the results.
func (w *Watcher) asking(ctx context.Context, s *server, ended chan<- results) func() {
	r := results{s.at, make(map[key]*finding.Finding, len(s.targets))}
	forwards := make(map[key]forward.Resolved, len(s.targets))
	for _, t := range s.targets {
		forwards[t.key] = t.forward
	}
	return func() {
		for k, f := range forwards {
			ctx, cancel := context.WithTimeout(ctx, checkTime)
			r.found[k] = w.check(ctx, f)
			cancel()
		}
		select {
		case ended <- r:
		case <-ctx.Done(): // the stop may be the cause of a failure
		}
	}
}

// replan returns the plan for wanted.
func (w *Watcher) replan(before *plan) *plan {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := newPlan(before, w.wanted.every, w.wanted.forwards, time.Now())
	w.states = make(map[string]State, len(p.byForward))
	for name, t := range p.byForward {
		if t.Known() {
			w.states[name] = t.State
		}
	}
	return p
}

// take adds the results of a server to the histories of its targets.
func (w *Watcher) take(p *plan, r results, logged *summary) {
	now := time.Now()
	for k, found := range r.found {
		t := p.targets[k]
		if t == nil {
			continue // gone meanwhile
		}
		l := t.add(now, found)
		w.publish(t) // before the log says so
		if l != nil {
			logged.add(now, t, l)
		}
	}
	p.done(r.at, now)
}

func (w *Watcher) publish(t *target) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range t.forwards {
		w.states[name] = t.State
	}
}

// namedForwards bounds the forwards that a line names.
const namedForwards = 4

// forwardAttr is the forwards of a target, for the log.
func forwardAttr(t *target) string {
	if more := len(t.forwards) - namedForwards; more > 0 {
		return strings.Join(t.forwards[:namedForwards], ", ") + " and " + finding.Plural(more, "more forward")
	}
	return strings.Join(t.forwards, ", ")
}
