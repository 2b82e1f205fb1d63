package session

import (
	"testing"
	"time"

	"ftpgate/internal/core/dialogue"
)

// Each way through the phases, and that nothing leads out of the last one.
func TestPhases(t *testing.T) {
	locked := func(f func(*state)) func(*state) {
		return func(s *state) {
			s.mu.Lock()
			defer s.mu.Unlock()
			f(s)
		}
	}
	takeTurn := locked((*state).takeTurn)
	leaveWorkingFor := func(tr dialogue.Transition) func(*state) {
		return locked(func(s *state) { s.leaveWorking(tr) })
	}
	leaveWorking := leaveWorkingFor(dialogue.None)
	pause := func(p phase) func(*state) { return func(s *state) { s.pause(p, newReplyBarrier()) } }
	resume := func(s *state) { s.resume() }
	finish := locked(func(s *state) { s.finishTransition() })
	stop := locked((*state).stopServerReader)
	half := func(s *state) { s.endDirection() }
	end := locked(func(s *state) { s.setTerminated(ending{}) })
	for name, tt := range map[string]struct {
		steps []func(*state)
		want  []phase
	}{
		"a step": {[]func(*state){takeTurn, leaveWorking}, []phase{working, reading}},
		"a login": {[]func(*state){takeTurn, pause(delaying), resume, leaveWorking},
			[]phase{working, delaying, working, reading}},
		"a transfer": {[]func(*state){takeTurn, pause(delivering), resume, leaveWorking},
			[]phase{working, delivering, working, reading}},
		"AUTH": {[]func(*state){takeTurn, leaveWorkingFor(dialogue.Encrypt), finish},
			[]phase{working, switching, reading}},
		"pass through": {[]func(*state){takeTurn, leaveWorkingFor(dialogue.Passthrough), stop, half, half},
			[]phase{working, stopping, passthrough, halfEnded, halfEnded}},
		"half, too early": {[]func(*state){half, stop}, []phase{reading, reading}},
		"the end in a step": {[]func(*state){takeTurn, end, leaveWorking, pause(delivering), resume,
			leaveWorkingFor(dialogue.Encrypt), finish, stop, half},
			[]phase{working, terminated, terminated, terminated, terminated, terminated, terminated,
				terminated, terminated}},
	} {
		var s state
		s.init(reading)
		for i, step := range tt.steps {
			if step(&s); s.phase != tt.want[i] {
				t.Errorf("%s, step %d: got phase %d; want %d", name, i+1, s.phase, tt.want[i])
			}
		}
	}
}

// The first reason for the end counts, and cancels what a reply waits for.
func TestEndCancels(t *testing.T) {
	var s state
	s.init(reading)
	s.mu.Lock()
	s.takeTurn()
	s.mu.Unlock()
	b := newReplyBarrier()
	s.pause(delivering, b)
	over := s.terminatedSignal()
	if isClosed(over) {
		t.Error("the signal of the end: got it closed before")
	}
	s.mu.Lock()
	s.setTerminated(ending{goodbye: "first"})
	s.setTerminated(ending{goodbye: "second"})
	s.mu.Unlock()
	select {
	case <-b.cancel:
	default:
		t.Error("the barrier is not cancelled")
	}
	if got := s.goodbye(); got != "first" {
		t.Errorf("got goodbye %q; want the first", got)
	}
	if !isClosed(s.terminatedSignal()) {
		t.Error("the signal of the end: got it open")
	}
	if s.resume() {
		t.Error("the step goes on after the end")
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// The turn is taken away from a reader only while it asks the data path, and then for good.
func TestTakeTurnAway(t *testing.T) {
	var s state
	s.init(reading)
	if _, p := s.leaveTurn(); p != returnedFirst {
		t.Errorf("got order %d; want the first", p)
	}
	if s.takeTurnAway(0) {
		t.Error("the turn was taken from a reader that asks no peer")
	}
	s.setPathCallSince(time.Now())
	if s.takeTurnAway(time.Hour) {
		t.Error("the turn was taken from a reader that has only begun to ask")
	}
	if !s.takeTurnAway(0) {
		t.Error("the turn was not taken from a reader that asks the data path")
	}
	if s.setPathCallSince(time.Time{}) {
		t.Error("the reader has the turn still")
	}
	if _, p := s.leaveTurn(); p != replaced {
		t.Errorf("got order %d; want replaced", p)
	}
}
