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

// request is one round of one measure. The load reads it as a line of JSON.
type request struct {
	Kind     string         // see load.handle
	Server   netip.AddrPort // where clients connect to
	Certs    certDir        // the client trusts their authority; empty: no TLS
	EPSV     bool           // in place of PASV
	Warmup   time.Duration  // of load before the measurement
	Duration time.Duration  // of the measurement
	Count    int            // large: MiB; idle: open sessions; logins: how many
	Clients  int            // transfers, sessions, idle: how many work at the same time
}

// result is the load's answer to a request.
type result struct {
	Value float64
	Work  float64 `json:",omitempty"` // all work done, with the warm-up: MiB for large, else steps
	Error string  `json:",omitempty"`
}

// load is the client of one contestant.
type load struct {
	idle []*session // opened by the request "idle"
}

// serveLoad runs the load as a process: it answers requests until in ends.
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
		a, err := l.handle(q)
		if err != nil {
			a.Error = err.Error()
		}
		if err := to.Encode(a); err != nil {
			return fmt.Errorf("bench: load: %w", err)
		}
	}
}

// handle runs one request.
func (l *load) handle(q request) (a result, err error) {
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
	case "idle":
		a.Value, err = l.openIdle(q)
	case "logins":
		a.Value, err = q.logins()
	default:
		err = fmt.Errorf("no request of kind %q", q.Kind)
	}
	return a, err
}

// job is what one of the concurrent clients repeats, and how it ends.
type job struct {
	step, finish func() error
}

// transfers retrieves small files over one control connection.
func (q request) transfers() (job, error) {
	s, err := q.login()
	if err != nil {
		return job{}, err
	}
	buf := make([]byte, 4<<10)
	return job{func() error { return s.retrieve(smallName, buf) }, s.quit}, nil
}

// sessions opens whole sessions with one small file each.
func (q request) sessions() (job, error) {
	buf := make([]byte, 4<<10)
	step := func() error {
		s, err := q.login()
		if err != nil {
			return err
		}
		if err := s.retrieve(smallName, buf); err != nil {
			return errors.Join(err, s.close())
		}
		return s.quit()
	}
	return job{step, func() error { return nil }}, nil
}

// rate returns how many steps a second the concurrent clients finish. They log in one after the other:
// with several logins at once mod_proxy's database is locked, and it ends sessions.
func rate(q request, open func() (job, error)) (a result, err error) {
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
		go func() { ends <- j.run(&count, &over) }()
	}
	running := q.Clients
	wait := func(d time.Duration) error {
		select {
		case err := <-ends: // before the end: with an error
			running--
			return err
		case <-time.After(d):
			return nil
		}
	}
	err = wait(q.Warmup)
	began, before := time.Now(), count.Load()
	// On a busy machine one step may take longer than a short round: then the round goes on.
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
	return result{Value: float64(done) / took.Seconds(), Work: float64(count.Load())}, err
}

// run repeats the job's step until over is set.
func (j job) run(count *atomic.Int64, over *atomic.Bool) error {
	for !over.Load() {
		if err := j.step(); err != nil {
			return err
		}
		count.Add(1)
	}
	return j.finish()
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
		return 0, errors.Join(err, s.close())
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
		if _, err := s.do("NOOP", "", 200); err != nil {
			return 0, errors.Join(err, s.close())
		}
		if time.Since(began) > q.Warmup {
			trips = append(trips, microseconds(time.Since(sent)))
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
		times = append(times, microseconds(time.Since(began)))
		if err := s.quit(); err != nil {
			return 0, err
		}
	}
	return median(times), nil
}

// openIdle opens sessions until Count are logged in, and keeps them open.
func (l *load) openIdle(q request) (float64, error) {
	missing := make(chan struct{}, max(0, q.Count-len(l.idle)))
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
		l.idle = slices.Concat(l.idle, <-opened)
	}
	return float64(len(l.idle)), errors.Join(errs...)
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// median returns 0 for no values.
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
