package system

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// InTime waits for some time, and not for a disk that hangs. It reads again as soon as the disk answers.
func TestInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Patience
		errRead := errors.New("bad")
		if got, err := InTime(&p, func() (int, error) { return 7, errRead }); got != 7 || err != errRead {
			t.Errorf("got %d, error %v; want read's", got, err)
		}
		disk := make(chan struct{})
		var called atomic.Int32
		begin := time.Now()
		hang := func() (int, error) { called.Add(1); <-disk; return 7, nil }
		if _, err := InTime(&p, hang); err != ErrNoAnswer || time.Since(begin) != readTime {
			t.Errorf("got error %v after %s; want %v after %s", err, time.Since(begin), ErrNoAnswer, readTime)
		}
		begin = time.Now()
		if _, err := InTime(&p, hang); err != ErrNoAnswer || called.Load() != 1 || time.Since(begin) != 0 {
			t.Errorf("got error %v, %d calls, after %s; want no second call while the first one waits", err,
				called.Load(), time.Since(begin))
		}
		close(disk)
		synctest.Wait()
		if got, err := InTime(&p, hang); got != 7 || err != nil {
			t.Errorf("got %d, error %v once the disk answers", got, err)
		}
	})
}
