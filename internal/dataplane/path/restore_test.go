package path

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// However many sessions miss the table, it is installed once, and each of them gets its pinhole.
func TestRestoreOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.counts = false
		var restores atomic.Int32
		s.restore = func() error {
			<-time.After(time.Second)
			restores.Add(1)
			s.tables.setLost(false)
			return nil
		}
		s.tables.setLost(true)
		var sessions sync.WaitGroup
		for range 10 {
			sessions.Go(func() {
				data, _ := s.open(passive())
				if err := data.Arm(); err != nil {
					t.Error(err)
				}
			})
		}
		sessions.Wait()
		if restores.Load() != 1 || len(s.tables.pinholes) != 10 || s.tables.renewed != 2 {
			t.Errorf("got %d restores, %d pinholes, %d renewals; want 1, 10, and 2 with that of Update",
				restores.Load(), len(s.tables.pinholes), s.tables.renewed)
		}
		if got := strings.Count(s.log.String(), "removed by another program"); got != 1 {
			t.Errorf("got log\n%s\nwant one warning", s.log)
		}
	})
}

// Where the table cannot be installed, everybody who waits hears why, and the next one tries again.
func TestRestoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.counts = false
		errRestore, restores := errors.New("no permission"), 0
		s.restore = func() error {
			<-time.After(time.Second)
			restores++
			return errRestore
		}
		s.tables.setLost(true)
		var sessions sync.WaitGroup
		for range 3 {
			sessions.Go(func() {
				data, _ := s.open(passive())
				if err := data.Arm(); !errors.Is(err, unix.ENOENT) || !errors.Is(err, errRestore) {
					t.Errorf("got error %v; want %v and %v", err, unix.ENOENT, errRestore)
				}
			})
		}
		sessions.Wait()
		data, _ := s.open(passive())
		if err := data.Arm(); !errors.Is(err, errRestore) || restores != 2 {
			t.Errorf("got error %v after %d restores; want %v after 2", err, restores, errRestore)
		}
	})
}

// A client waits 5 seconds for the table and not longer. What was begun goes on, and Close waits for it.
func TestRestoreTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.counts = false
		s.restore = func() error {
			<-time.After(time.Minute)
			s.tables.setLost(false)
			return nil
		}
		s.tables.setLost(true)
		data, _ := s.open(passive())
		began := time.Now()
		if err := data.Arm(); !errors.Is(err, unix.ENOENT) || time.Since(began) != restoreTime {
			t.Errorf("got error %v after %s; want %v after %s", err, time.Since(began), unix.ENOENT,
				restoreTime)
		}
		s.restorer.close()
		if time.Since(began) != time.Minute {
			t.Errorf("got closed after %s; want after the minute that the restore takes", time.Since(began))
		}
		if err := data.Arm(); err != nil {
			t.Errorf("after the restore: %v", err)
		}
		s.tables.setLost(true)
		if err := data.Arm(); !errors.Is(err, unix.ENOENT) || time.Since(began) != time.Minute {
			t.Errorf("after Close: got error %v; want %v at once", err, unix.ENOENT)
		}
	})
}

// What is not about the table is nobody's reason to install it.
func TestRestoreNotNeeded(t *testing.T) {
	s := newStage(t)
	s.restore = func() error {
		t.Error("the table is installed again")
		return nil
	}
	s.tables.errAdd = unix.ENFILE
	data, _ := s.open(passive())
	if err := data.Arm(); !errors.Is(err, unix.ENFILE) {
		t.Errorf("got error %v; want %v", err, unix.ENFILE)
	}
	s.tables.errAdd = nil
	s.notRenewed(unix.ENFILE)
	s.restorer.close()
}

// Passthroughs that cannot be renewed bring the table back, and nobody waits for it.
func TestRestoreForRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.counts = false
		began := time.Now()
		s.restore = func() error {
			<-time.After(time.Minute)
			s.tables.setLost(false)
			return nil
		}
		s.tables.setLost(true)
		s.notRenewed(unix.ENOENT)
		s.notRenewed(unix.ENOENT)
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %s; want no waiting", took)
		}
		s.restorer.close()
		if s.tables.renewed != 2 || time.Since(began) != time.Minute {
			t.Errorf("got %d renewals after %s; want 2, with that of Update, after one restore",
				s.tables.renewed, time.Since(began))
		}
	})
}
