package bans

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"ftpgate/internal/core/ban"
	"ftpgate/internal/kernel/system"
)

const (
	// saveTime bounds how long a ban, and the stop, wait for the disk.
	saveTime = 3 * time.Second
	// retryTime is when to try again what the kernel or the disk did not carry out.
	retryTime = time.Second
)

// Why bans are not kept, beside the errors of the disk.
var (
	errNowhere  = errors.New("there is no directory for state")
	errSlow     = fmt.Errorf("the disk has not answered for %s", saveTime)
	errStopping = errors.New("ftpgate is stopping")
)

// saver writes the bans to their file, in a goroutine of its own: a disk that hangs must not hold up who bans
// and who stops ftpgate. What cannot be written is tried again until it is, and once more at the stop.
type saver struct {
	log   *slog.Logger
	file  string            // empty: bans end with the process
	write func(state) error // replaces the file; it may never return
	more  chan struct{}     // has a token if there is something new to write
	stop  chan struct{}     // is closed at the stop

	mu      sync.Mutex
	bans    []ban.Ban      // to write
	waiting []chan<- error // for the next write
	ended   chan struct{}  // is closed when the goroutine has ended; nil: there is none
	closed  bool
	err     error // why the file does not have the bans; nil: it does, or will soon
}

func newSaver(file string, log *slog.Logger) *saver {
	return &saver{
		log: log, file: file, more: make(chan struct{}, 1), stop: make(chan struct{}),
		write: func(s state) error {
			text, err := json.MarshalIndent(s, "", "\t")
			if err != nil {
				return err
			}
			return system.ReplaceFile(file, append(text, '\n'))
		},
	}
}

// save has the bans written, without waiting for that. The channel gets the result.
func (s *saver) save(bans []ban.Ban) <-chan error {
	result := make(chan error, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.file == "":
		result <- errNowhere
		return result
	case s.closed:
		result <- errStopping
		return result
	}
	s.bans, s.waiting = bans, append(s.waiting, result)
	select {
	case s.more <- struct{}{}:
	default:
	}
	if s.ended == nil {
		s.ended = make(chan struct{})
		go s.run()
	}
	return result
}

// await waits for the result of save, at most saveTime.
func (s *saver) await(result <-chan error) error {
	select {
	case err := <-result:
		return err
	case <-time.After(saveTime):
		s.slow()
		return errSlow
	}
}

// slow remembers that a write takes too long, if it still does.
func (s *saver) slow() {
	s.mu.Lock()
	writes, before := s.ended != nil, s.err
	if writes && before == nil {
		s.err = errSlow
	}
	s.mu.Unlock()
	if writes && before == nil {
		s.warn(errSlow)
	}
}

func (s *saver) warn(err error) {
	s.log.Warn("cannot write the bans, and tries again: until then they end when ftpgate ends",
		"file", s.file, "err", err)
}

// run writes until the file has all bans. close waits for it.
func (s *saver) run() {
	for stopping := false; ; {
		select {
		case <-s.more:
		default:
		}
		s.mu.Lock()
		bans, waiting := s.bans, s.waiting
		s.waiting = nil
		s.mu.Unlock()
		err := s.write(state{bans})
		ended := s.wrote(err, stopping)
		for _, w := range waiting {
			w <- err
		}
		if ended {
			return
		}
		if err == nil {
			continue
		}
		select {
		case <-time.After(retryTime):
		case <-s.more:
		case <-s.stop:
			stopping = true
		}
	}
}

// wrote remembers the result of a write, and reports whether it was the last: the file has the bans, or
// ftpgate stops. The log says an error once.
func (s *saver) wrote(err error, stopping bool) (last bool) {
	s.mu.Lock()
	before := s.err
	s.err = err
	if last = (err == nil || stopping) && len(s.waiting) == 0; last {
		close(s.ended)
		s.ended = nil
	}
	s.mu.Unlock()
	if err != nil && before == nil {
		s.warn(err)
	}
	return last
}

// problem returns why the file does not have the bans, or nil.
func (s *saver) problem() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// close waits, at most saveTime, until the file has the bans. Nothing is written after it.
func (s *saver) close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.stop)
	}
	ended := s.ended
	s.mu.Unlock()
	if ended == nil {
		return
	}
	select {
	case <-ended:
	case <-time.After(saveTime):
		s.slow()
	}
	if err := s.problem(); err != nil {
		s.log.Error("the bans are not written: the next start has those of before", "file", s.file, "err",
			err)
	}
}
