package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// request asks the load for one round of one measure, as a line of JSON.
type request struct {
	Kind     string         // of kinds
	Server   netip.AddrPort // where the contestant takes clients
	Seal     seal           // what the client trusts; empty: it speaks no TLS
	EPSV     bool           // how passive connections are asked for
	Warmup   time.Duration  // under load, before the figure is taken
	Duration time.Duration  // for which the figure is taken
	Count    int            // large: MiB; hold: sessions to have open; logins: how many
	Clients  int            // transfers, sessions, hold: how many work at the same time
}

// answer is what the load says to a request.
type answer struct {
	Value float64
	Work  float64 `json:",omitempty"` // all that was done, warming up included: MiB of large, steps of others
	Error string  `json:",omitempty"`
}

// load is the client of one contestant: it keeps what "hold" has opened.
type load struct {
	held []*session
}

// serveLoad is the load as a process: it answers requests until in ends.
func serveLoad(in io.Reader, out io.Writer) error {
	l := &load{}
	from, to := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var q request
		if err := from.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("bench: load: %w", err)
		}
		a, err := l.do(q)
		if err != nil {
			a.Error = err.Error()
		}
		if err := to.Encode(a); err != nil {
			return fmt.Errorf("bench: load: %w", err)
		}
	}
}

// do runs one request.
func (l *load) do(q request) (a answer, err error) {
	switch q.Kind {
	case "transfers":
		return rate(q, q.transfers)
	case "sessions":
		return rate(q, q.sessions)
	case "large":
		a.Work = float64(q.Count)
		a.Value, err = q.large()
	case "latency":
		a.Value, err = q.latency()
	case "hold":
		a.Value, err = l.hold(q)
	case "logins":
		a.Value, err = q.logins()
	default:
		err = fmt.Errorf("no kind of load %q", q.Kind)
	}
	return a, err
}

// job is what one of the concurrent clients does over and over, and how it ends.
type job struct {
	step, end func() error
}

// transfers is small files over one control connection.
func (q request) transfers() (job, error) {
	s, err := q.login()
	if err != nil {
		return job{}, err
	}
	buf := make([]byte, 4<<10)
	return job{func() error { return s.retrieve(smallName, buf) }, s.quit}, nil
}

// sessions is whole sessions with one small file each.
func (q request) sessions() (job, error) {
	buf := make([]byte, 4<<10)
	step := func() error {
		s, err := q.login()
		if err != nil {
			return err
		}
		if err := s.retrieve(smallName, buf); err != nil {
			return errors.Join(err, s.conn.Close())
		}
		return s.quit()
	}
	return job{step, func() error { return nil }}, nil
}

// rate returns how many steps a second the concurrent clients get done. They are opened one after the
// other: mod_proxy's database takes no more logins at once (it is locked, and sessions end with that).
func rate(q request, open func() (job, error)) (a answer, err error) {
	var jobs []job
	for range q.Clients {
		j, err := open()
		if err != nil {
			return a, err
		}
		jobs = append(jobs, j)
	}
	var count atomic.Int64
	var over atomic.Bool
	ends := make(chan error, q.Clients)
	for _, j := range jobs {
		go func() { ends <- j.work(&count, &over) }()
	}
	running := q.Clients
	wait := func(d time.Duration) error {
		select {
		case err := <-ends: // before its time: with an error
			running--
			return err
		case <-time.After(d):
			return nil
		}
	}
	err = wait(q.Warmup)
	began, before := time.Now(), count.Load()
	// A busy machine may take longer for one step than the round was to last: the round goes on then.
	for err == nil {
		if err = wait(q.Duration); count.Load() > before {
			break
		}
	}
	done, took := count.Load()-before, time.Since(began)
	over.Store(true)
	for range running {
		err = errors.Join(err, <-ends)
	}
	return answer{Value: float64(done) / took.Seconds(), Work: float64(count.Load())}, err
}

// work is one of the concurrent clients, until it is over.
func (j job) work(count *atomic.Int64, over *atomic.Bool) error {
	for !over.Load() {
		if err := j.step(); err != nil {
			return err
		}
		count.Add(1)
	}
	return j.end()
}

// large returns the MiB a second of one large file, from its PASV to its 226.
func (q request) large() (float64, error) {
	s, err := q.login()
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 256<<10)
	began := time.Now()
	if err := s.retrieve(fmt.Sprint(largeStart, q.Count), buf); err != nil {
		return 0, errors.Join(err, s.conn.Close())
	}
	took := time.Since(began)
	return float64(q.Count) / took.Seconds(), s.quit()
}

// latency returns the median round trip of a NOOP, in microseconds.
func (q request) latency() (float64, error) {
	s, err := q.login()
	if err != nil {
		return 0, err
	}
	var trips []float64
	for began := time.Now(); len(trips) == 0 || time.Since(began) < q.Warmup+q.Duration; {
		sent := time.Now()
		if _, err := s.do("NOOP", 200); err != nil {
			return 0, errors.Join(err, s.conn.Close())
		}
		if time.Since(began) > q.Warmup {
			trips = append(trips, micros(time.Since(sent)))
		}
	}
	return median(trips), s.quit()
}

// logins returns the median time to connect and log in, one session after the other, in microseconds.
func (q request) logins() (float64, error) {
	var times []float64
	for range q.Count {
		began := time.Now()
		s, err := q.login()
		if err != nil {
			return 0, err
		}
		times = append(times, micros(time.Since(began)))
		if err := s.quit(); err != nil {
			return 0, err
		}
	}
	return median(times), nil
}

// hold opens sessions until Count are open and logged in, and keeps them.
func (l *load) hold(q request) (float64, error) {
	missing := make(chan struct{}, max(0, q.Count-len(l.held)))
	for range cap(missing) {
		missing <- struct{}{}
	}
	close(missing)
	opened := make(chan []*session)
	errs := make([]error, q.Clients)
	for i := range q.Clients {
		go func() {
			var own []*session
			for range missing {
				s, err := q.login()
				if err != nil {
					errs[i] = err
					break
				}
				own = append(own, s)
			}
			opened <- own
		}()
	}
	for range q.Clients {
		l.held = slices.Concat(l.held, <-opened)
	}
	return float64(len(l.held)), errors.Join(errs...)
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// median sorts the values; of none it is 0.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}
