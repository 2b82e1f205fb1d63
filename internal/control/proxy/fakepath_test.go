package proxy

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/dataplane"
)

// fakePath hands out data connections that the test ends as it likes.
type fakePath struct {
	mu      sync.Mutex
	all     []*fakeData
	open    int // how many are not closed
	most    int // how many were open at once
	err     error
	armErr  error
	handles map[pinhole.Passthrough]int // that are not closed
	ranges  int                         // how often Arm was called for one
	goesOn  bool                        // data continues after Close, until done or Sever; set before use

	hung map[string]chan struct{} // methods that do not return before their channel is closed
	hang chan string              // is sent the name of each that begins to hang
}

// hangIn makes a method wait until the returned function is called.
func (p *fakePath) hangIn(method string) (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	released := make(chan struct{})
	p.hung, p.hang = map[string]chan struct{}{method: released}, make(chan string, 10)
	return sync.OnceFunc(func() { close(released) })
}

// wait is called by each method that may hang.
func (p *fakePath) wait(method string) { p.waitOr(method, nil) }

// waitOr is wait for a method that can be cancelled.
func (p *fakePath) waitOr(method string, cancel <-chan struct{}) {
	p.mu.Lock()
	released := p.hung[method]
	p.mu.Unlock()
	if released != nil {
		p.hang <- method
		select {
		case <-released:
		case <-cancel:
		}
	}
}

// fakeData is delivered when the test closes done.
type fakeData struct {
	path     *fakePath
	dataTLS  dataplane.DataTLS
	pinhole  pinhole.Pinhole
	bridge   pinhole.Bridge
	armed    chan struct{}
	done     chan struct{}
	closed   chan struct{}
	awaited  chan struct{} // closed by AwaitBothEnds: a transfer is about to begin
	used     chan struct{} // closed when a transfer waits for it
	severed  chan struct{}
	held     chan struct{} // closed when Finish waits
	kernel   bool          // the kernel carries it: Finish never waits
	finishes int           // calls of Finish, where the kernel carries it
	missing  bool          // no peer has connected, and that is known
	result   error
	server   bool // result is that the server's end was reset

	beforeEnd func() // is to be called before the server learns that the client has ended its data
	once      sync.Once
}

func (p *fakePath) Open(_ context.Context, pinhole pinhole.Pinhole,
	dataTLS dataplane.DataTLS) (dataplane.Data,
	netip.AddrPort, error) {
	p.wait("Open")
	pinhole.Listen = netip.AddrPortFrom(pinhole.Listen.Addr(), 50_000)
	data, err := p.add(&fakeData{pinhole: pinhole, dataTLS: dataTLS})
	return data, pinhole.Listen, err
}

func (p *fakePath) Bridge(_ context.Context, bridge pinhole.Bridge,
	dataTLS dataplane.DataTLS) (dataplane.Data, error) {
	p.wait("Bridge")
	return p.add(&fakeData{bridge: bridge, dataTLS: dataTLS})
}

func (p *fakePath) OpenPassthrough(ports pinhole.Passthrough) (dataplane.Handle, error) {
	p.wait("OpenPassthrough")
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return nil, p.err
	}
	if p.handles == nil {
		p.handles = map[pinhole.Passthrough]int{}
	}
	p.handles[ports]++
	return &fakeHandle{path: p, ports: ports}, nil
}

// armings returns how many ranges were opened.
func (p *fakePath) armings() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ranges
}

// passthroughs returns how many handles are open.
func (p *fakePath) passthroughs() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, handles := range p.handles {
		n += handles
	}
	return n
}

type fakeHandle struct {
	path  *fakePath
	ports pinhole.Passthrough
	once  sync.Once
}

func (h *fakeHandle) Arm() error {
	h.path.wait("handle Arm")
	h.path.mu.Lock()
	defer h.path.mu.Unlock()
	if h.path.armErr == nil {
		h.path.ranges++
	}
	return h.path.armErr
}

func (h *fakeHandle) Close() {
	h.path.wait("handle Close")
	h.once.Do(func() {
		h.path.mu.Lock()
		defer h.path.mu.Unlock()
		h.path.handles[h.ports]--
	})
}

func (p *fakePath) add(d *fakeData) (dataplane.Data, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return nil, p.err
	}
	d.path, d.armed, d.done = p, make(chan struct{}), make(chan struct{})
	d.closed, d.held = make(chan struct{}), make(chan struct{})
	d.awaited, d.used = make(chan struct{}), make(chan struct{})
	d.severed = make(chan struct{})
	p.all = append(p.all, d)
	p.open++
	p.most = max(p.most, p.open)
	return d, nil
}

func (p *fakePath) last() *fakeData {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all[len(p.all)-1]
}

func (p *fakePath) set(err, armErr error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err, p.armErr = err, armErr
}

func (p *fakePath) opened() (now, most int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open, p.most
}

func (d *fakeData) Arm() error {
	d.path.wait("Arm")
	d.path.mu.Lock()
	defer d.path.mu.Unlock()
	if d.path.armErr == nil {
		close(d.armed)
	}
	return d.path.armErr
}

func (d *fakeData) Finish(cancel <-chan struct{}) {
	if d.kernel {
		d.finishes++
		return
	}
	if isClosed(d.done) || isClosed(d.closed) {
		return
	}
	close(d.held)
	select {
	case <-d.done:
	case <-cancel:
	}
}

func (d *fakeData) Outcome() pinhole.Outcome {
	o := pinhole.Outcome{Path: forward.DataRelay, Counted: d.missing, FinishReturnsNow: d.kernel ||
		isClosed(d.done)}
	o.Complete = true
	if d.path.goesOn {
		o.Counted, o.Connected, o.Over = true, time.Unix(1, 0), isClosed(d.done)
	}
	if !o.FinishReturnsNow && !isClosed(d.closed) { // the test may still choose the result
		return o
	}
	if o.Complete = d.result == nil; !o.Complete {
		if o.ServerReset = d.server; d.server {
			o.Down = 1
		}
		var known bool
		if o.Failure, known = errors.AsType[*pinhole.Failure](d.result); !known {
			o.Failure = &pinhole.Failure{Err: d.result}
		}
	}
	return o
}

func (d *fakeData) AwaitBothEnds(cancel <-chan struct{}) {
	if !isClosed(d.awaited) {
		close(d.awaited)
	}
	d.path.waitOr("AwaitBothEnds", cancel)
}

func (d *fakeData) Use() {
	if !isClosed(d.used) {
		close(d.used)
	}
}

func (d *fakeData) Unuse() { d.used = make(chan struct{}) }

func (d *fakeData) BeforeClientEnds(f func()) { d.beforeEnd = f }

func (d *fakeData) Sever() {
	d.path.wait("Sever")
	if isClosed(d.severed) {
		return
	}
	close(d.severed)
	if d.path.goesOn && !isClosed(d.done) {
		close(d.done)
	}
}

func (d *fakeData) Ended() <-chan struct{} {
	if d.path.goesOn {
		return d.done
	}
	return nil
}

func (d *fakeData) Close() pinhole.Outcome {
	d.path.wait("Close")
	d.once.Do(func() {
		d.path.mu.Lock()
		d.path.open--
		d.path.mu.Unlock()
		close(d.closed)
	})
	return d.Outcome()
}

// isClosed asks without waiting: what comes before a line is done when the line is there.
func (d *fakeData) isClosed() bool { return isClosed(d.closed) }
func (d *fakeData) isArmed() bool  { return isClosed(d.armed) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
