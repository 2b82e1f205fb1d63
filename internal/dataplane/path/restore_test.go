package path

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// A session that misses the table has it repaired, and gets its pinhole.
func TestRepair(t *testing.T) {
	s := newStage(t)
	repairs := 0
	s.repair = func(context.Context) error {
		repairs++
		s.tables.setLost(false)
		return nil
	}
	s.tables.setLost(true)
	data, _ := s.open(passive())
	if err := data.Arm(); err != nil || repairs != 1 || len(s.tables.pinholes) != 1 {
		t.Errorf("got error %v after %d repairs; want a pinhole after one", err, repairs)
	}
}

// Where the table cannot be repaired, the session hears why. It waits 5 seconds for that and not longer.
func TestRepairFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		errRepair := errors.New("no permission")
		s.repair = func(context.Context) error { return errRepair }
		s.tables.setLost(true)
		data, _ := s.open(passive())
		if err := data.Arm(); !errors.Is(err, unix.ENOENT) || !errors.Is(err, errRepair) {
			t.Errorf("got error %v; want %v and %v", err, unix.ENOENT, errRepair)
		}
		s.repair = func(ctx context.Context) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		began := time.Now()
		if err := data.Arm(); !errors.Is(err, unix.ENOENT) || time.Since(began) != repairTime {
			t.Errorf("got error %v after %s; want %v after %s", err, time.Since(began), unix.ENOENT,
				repairTime)
		}
	})
}

// What is not about the table is no reason to repair it.
func TestRepairNotNeeded(t *testing.T) {
	s := newStage(t)
	s.repair = func(context.Context) error {
		t.Error("the table is repaired")
		return nil
	}
	s.tables.errAdd = unix.ENFILE
	data, _ := s.open(passive())
	if err := data.Arm(); !errors.Is(err, unix.ENFILE) {
		t.Errorf("got error %v; want %v", err, unix.ENFILE)
	}
}

// Restore brings pinholes back that wait for their connections, and no others; and all passthroughs.
func TestRestore(t *testing.T) {
	s := newStage(t)
	waiting, _ := s.open(passive())
	waits := s.flow.expected
	used, _ := s.open(passive())
	isUsed, flow := s.flow.expected, s.flow
	closed, _ := s.open(passive())
	for _, data := range []interface{ Arm() error }{waiting, used, closed} {
		if err := data.Arm(); err != nil {
			t.Fatal(err)
		}
	}
	flow.outcome.Connected = time.Now()
	closed.Close()
	renewed := s.tables.renewed
	if err := s.Restore(); err != nil {
		t.Fatal(err)
	}
	if s.tables.open(waits) != 2 || s.tables.open(isUsed) != 1 || len(s.tables.pinholes) != 2 {
		t.Errorf("got pinholes %v; want the one that waits once more", s.tables.pinholes)
	}
	if s.tables.renewed != renewed+1 {
		t.Errorf("got %d renewals; want one more than %d", s.tables.renewed, renewed)
	}
}
