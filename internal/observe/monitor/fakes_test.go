package monitor

import (
	"context"
	"iter"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/core/netflow"
	"ftpgate/internal/observe/sessions"
)

// fakeKernel is a kernel whose sources the test feeds. The errors are those of opening them.
type fakeKernel struct {
	table                       fakeTable
	events                      fakeEvents
	segments                    fakeSegments
	accounting                  []string
	accountingErr, tableErr     error
	subscribeErr, segmentsError error
}

func (k *fakeKernel) EnableAccounting() ([]string, error) { return k.accounting, k.accountingErr }

func (k *fakeKernel) OpenTable() (table, error) { return &k.table, k.tableErr }

func (k *fakeKernel) Subscribe() (events, error) { return &k.events, k.subscribeErr }

func (k *fakeKernel) OpenLog(uint16) (segments, error) { return &k.segments, k.segmentsError }

// fakeTable is a conntrack table.
type fakeTable struct {
	block chan struct{} // Dump waits until it is closed; nil: it does not wait

	mu     sync.Mutex
	flows  map[netflow.Tuple]netflow.Flow
	err    error // of Get and Dump
	dumps  int
	closed bool
}

func (t *fakeTable) put(f netflow.Flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.flows == nil {
		t.flows = map[netflow.Tuple]netflow.Flow{}
	}
	t.flows[f.Original] = f
}

func (t *fakeTable) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = err
}

func (t *fakeTable) Get(flows []netflow.Flow, tuples []netflow.Tuple) ([]netflow.Flow, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tuple := range tuples {
		flows = append(flows, t.flows[tuple])
	}
	return flows, t.err
}

func (t *fakeTable) Dump(want netflow.Want) iter.Seq2[netflow.Flow, error] {
	if t.block != nil {
		<-t.block
	}
	t.mu.Lock()
	t.dumps++
	var all []netflow.Flow
	for _, f := range t.flows {
		all = append(all, f)
	}
	err := t.err
	t.mu.Unlock()
	return func(yield func(netflow.Flow, error) bool) {
		if err != nil {
			yield(netflow.Flow{}, err)
			return
		}
		for _, f := range all {
			if want(f.Original, f.Master) && !yield(f, nil) {
				return
			}
		}
	}
}

func (t *fakeTable) Find(netip.Addr, netip.AddrPort) ([]netflow.Flow, error) { return nil, nil }

func (t *fakeTable) Delete(netflow.Tuple, uint32) error { return nil }

func (t *fakeTable) Sever(netflow.Flow) error { return nil }

func (t *fakeTable) Payload(f netflow.Flow) (sent, received uint64) {
	return f.Sent.Bytes, f.Received.Bytes
}

func (t *fakeTable) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	return nil
}

func (t *fakeTable) dumped() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dumps
}

// fakeEvents delivers what is sent to the channel, until Run's context is done or it gets an error.
type fakeEvents struct {
	deliver chan netflow.FlowEvent
	fails   chan error
	joinErr error

	mu     sync.Mutex
	calls  []string // of Join and Leave
	ended  bool     // Run has returned
	closed bool
}

func (e *fakeEvents) Join(netflow.FlowChange) error { return e.call("join") }

func (e *fakeEvents) Leave(netflow.FlowChange) error { return e.call("leave") }

func (e *fakeEvents) call(name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls = append(e.calls, name)
	return e.joinErr
}

func (e *fakeEvents) called() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.calls, " ")
}

func (e *fakeEvents) Run(ctx context.Context, _ netflow.Want, deliver func(netflow.FlowEvent)) error {
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.ended = true
	}()
	for {
		select {
		case event := <-e.deliver:
			deliver(event)
		case err := <-e.fails:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

func (e *fakeEvents) Close() error { e.closed = true; return nil }

// fakeSegments delivers what is sent to the channel; lost: segments are lost.
type fakeSegments struct {
	deliver chan netflow.Segment
	lost    chan struct{}
	fails   chan error
	ended   bool // Run has returned; read it after Close
	closed  bool
}

func (s *fakeSegments) Run(ctx context.Context, deliver func(netflow.Segment), lost func()) error {
	defer func() { s.ended = true }()
	for {
		select {
		case segment := <-s.deliver:
			deliver(segment)
		case <-s.lost:
			lost()
		case err := <-s.fails:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *fakeSegments) Close() error { s.closed = true; return nil }

// records is a log handler that keeps the messages.
type records struct {
	mu  sync.Mutex
	all []string
}

func (*records) Enabled(context.Context, slog.Level) bool { return true }
func (r *records) WithAttrs([]slog.Attr) slog.Handler     { return r }
func (r *records) WithGroup(string) slog.Handler          { return r }
func (r *records) Handle(_ context.Context, record slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, record.Level.String()+" "+record.Message)
	return nil
}

// want compares the messages since its last call.
func (r *records) want(t *testing.T, want ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.all, want) {
		t.Errorf("got the log %q; want %q", r.all, want)
	}
	r.all = nil
}

// bench is a monitor with fakes around it.
type bench struct {
	*Monitor
	kernel     *fakeKernel
	sessionLog *sessions.Log
	log        *records
}

func newBench() *bench {
	k := &fakeKernel{}
	k.events.deliver, k.events.fails = make(chan netflow.FlowEvent), make(chan error)
	k.segments.deliver, k.segments.fails = make(chan netflow.Segment), make(chan error)
	k.segments.lost = make(chan struct{})
	b := &bench{kernel: k, sessionLog: sessions.New(time.Now()), log: &records{}}
	b.Monitor = newMonitor("ftpgate", slog.New(b.log), b.sessionLog, k)
	return b
}

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// plc is a forward with tracking kernel, and control is a control connection to it.
func plc() forward.Resolved {
	f := forward.Resolved{Server4: netip.MustParseAddr("203.0.113.21")}
	f.Name, f.Tracking = "plc", forward.TrackingKernel
	f.Listen.Addr, f.Listen.Port, f.Server.Port = netip.MustParseAddr("192.168.5.2"), 2122, 21
	return f
}

func control() netflow.Flow {
	return netflow.Flow{ID: 7, Replied: true, State: netflow.TCPEstablished,
		Original: netflow.Tuple{From: at("192.168.5.1:3000"), To: at("192.168.5.2:2122")},
		Reply:    netflow.Tuple{From: at("203.0.113.21:21"), To: at("203.0.113.1:3000")}}
}

// proxied is a forward with tracking proxy.
func proxied() forward.Resolved {
	f := plc()
	f.Tracking = forward.TrackingProxy
	return f
}
