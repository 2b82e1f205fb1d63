package proxy

import "time"

// closeTime is how long the end of a session waits for the data path. A kernel that does not answer holds no
// client longer.
const closeTime = time.Second

// await calls f, which asks the data path and may wait for the kernel, and returns its result. If the session
// is over, it waits closeTime at most and returns false: then f goes on by itself, and late gets its result.
// The proxy waits for both before Serve returns.
func await[T any](s *session, f func() T, late func(T)) (result T, ok bool) {
	results := make(chan T, 1)
	s.proxy.asking.Go(func() { results <- f() })
	select {
	case result = <-results:
		return result, true
	case <-s.over:
	}
	limit := time.NewTimer(closeTime)
	defer limit.Stop()
	select {
	case result = <-results:
		return result, true
	case <-limit.C:
		s.proxy.asking.Go(func() { late(<-results) })
		return result, false
	}
}
