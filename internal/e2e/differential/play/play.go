// Package play carries out a pair of scripts: it is the client and the server of one FTP session, each on a
// host of its own, and records what each of them saw. It never compares what two routes show by anything
// that depends on time: no end's record has a duration, or how far a reset overtook data.
package play

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"ftpgate/internal/e2e/differential/script"
)

// Host makes sockets: a network namespace, or this process's own.
type Host interface {
	// Do runs f where its sockets belong to the host.
	Do(f func() error) error
}

// Route is how a client reaches a server.
type Route struct {
	Name           string
	Client, Server Host
	Dial, Listen   netip.AddrPort // where the client connects, where the server listens
	// ClientOther and ServerOther are second addresses of the two hosts.
	ClientOther, ServerOther netip.Addr
	// ClientPorts has the ports on which clients of this host listen; nil: the kernel's choice.
	ClientPorts *Ports
}

// Ports hands out Count ports from First on, one after the other, and then again. A port that the kernel
// draws (net.ipv4.ip_local_port_range) may be one from which a connection to port 20 has just ended, and the
// kernel still knows that one.
type Ports struct {
	First, Count uint16
	drawn        atomic.Uint32
}

func (p *Ports) next() uint16 { return p.First + uint16(p.drawn.Add(1)%uint32(p.Count)) }

// Record is what the two ends saw, in the order of their scripts.
type Record struct {
	Client, Server []string
	// Failure says which step could not be carried out; "" if all could. The rest was then broken off.
	Failure string
}

// Play carries out a pair over a route. bound is how long one step may wait for its event, beside
// the pauses of the pair. An error means that the hosts themselves failed.
func Play(ctx context.Context, p script.Pair, route Route, bound time.Duration) (Record, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	bound += p.Pauses()
	r := &run{ctx: ctx, cancel: cancel, bound: bound, content: newContent(),
		signals: map[string]chan struct{}{}}
	for _, name := range p.Signals() {
		r.signals[name] = make(chan struct{})
	}
	client := newEnd(r, script.Client, route.Client, route.ClientOther)
	server := newEnd(r, script.Server, route.Server, route.ServerOther)
	client.ports = route.ClientPorts
	defer client.closeAll()
	defer server.closeAll()
	stop := context.AfterFunc(ctx, func() {
		client.closeAll()
		server.closeAll()
	})
	defer stop()
	control, err := listen(route.Server, route.Listen)
	if err != nil {
		return Record{}, err
	}
	defer control.Close()
	r.ready.Add(2)
	var both sync.WaitGroup
	both.Go(func() {
		client.play(p.Steps(script.Client), func() (net.Conn, error) {
			return dial(ctx, route.Client, netip.AddrPort{}, route.Dial, bound)
		})
	})
	both.Go(func() {
		server.play(p.Steps(script.Server), func() (net.Conn, error) { return accept(control, bound) })
	})
	both.Wait()
	return Record{Client: client.record, Server: server.record, Failure: r.failure}, nil
}

// run is what the two ends share.
type run struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	bound   time.Duration
	content content
	signals map[string]chan struct{}
	ready   sync.WaitGroup // both scripts are carried out

	mu      sync.Mutex
	failure string
}

// fail breaks the session off. The first failure counts.
func (r *run) fail(failure string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure == "" {
		r.failure = failure
	}
	r.cancel(errors.New(failure))
}

// wait waits for a channel to close.
func (r *run) wait(c <-chan struct{}) error {
	timer := time.NewTimer(r.bound)
	defer timer.Stop()
	select {
	case <-c:
		return nil
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	case <-timer.C:
		return errTimeout
	}
}

// errTimeout means that what a step waits for has not come.
var errTimeout = errors.New("timed out")

// content is what data connections carry: bytes that no other session has.
type content []byte

// newContent draws it. Its length shares no factor with the sizes of buffers.
func newContent() content {
	c := make(content, 65521)
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	rand.NewChaCha8(seed).Read(c)
	return c
}

// at returns what an end sends from an offset on, as far as it is in one piece.
func (c content) at(side script.Side, offset int64) []byte {
	return c[(int64(side)*251+offset)%int64(len(c)):]
}

// describe names a failed step.
func describe(side script.Side, step script.Step, err error) string {
	return fmt.Sprintf("%s: %s: %v", side, step.String()[2:], err)
}
