package conntrack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/kernel/netlink"
)

// eventBuffer is the size of a watcher's buffer in the kernel, in bytes, if the kernel allows it: it holds
// more than ten thousand events.
const eventBuffer = 8 << 20

// gatherTime is how long events collect in the kernel between two reads: waking up for an event costs more
// than reading it.
const gatherTime = 5 * time.Millisecond

// Watcher receives the events of TCP flows since Subscribe.
type Watcher struct {
	socket *socket
	in     []byte
}

// Subscribe begins to receive events of these changes (netflow.FlowNew, FlowUpdated, FlowGone) in the network
// namespace that it is called in. The kernel makes no messages for changes without a subscriber. Events wait
// in the kernel until Run, so that a Dump between Subscribe and Run misses nothing. The caller closes the
// watcher.
func Subscribe(changes ...netflow.FlowChange) (*Watcher, error) {
	s, err := dial(eventBuffer)
	if err != nil {
		return nil, err
	}
	if err := s.control(onlyTCP); err != nil {
		s.close()
		return nil, fmt.Errorf("conntrack: filter events: %w", os.NewSyscallError("setsockopt", err))
	}
	w := &Watcher{socket: s, in: make([]byte, readSize)}
	for _, change := range changes {
		if err := w.Join(change); err != nil {
			s.close()
			return nil, err
		}
	}
	return w, nil
}

// Join subscribes to the events of one more change, from now on.
func (w *Watcher) Join(change netflow.FlowChange) error {
	if err := w.socket.conn.JoinGroup(group(change)); err != nil {
		return fmt.Errorf("conntrack: subscribe to events: %w", err)
	}
	return nil
}

// Leave ends the subscription to the events of a change.
func (w *Watcher) Leave(change netflow.FlowChange) error {
	if err := w.socket.conn.LeaveGroup(group(change)); err != nil {
		return fmt.Errorf("conntrack: end the subscription to events: %w", err)
	}
	return nil
}

func group(change netflow.FlowChange) uint32 {
	switch change {
	case netflow.FlowNew:
		return unix.NFNLGRP_CONNTRACK_NEW
	case netflow.FlowUpdated:
		return unix.NFNLGRP_CONNTRACK_UPDATE
	case netflow.FlowGone:
		return unix.NFNLGRP_CONNTRACK_DESTROY
	}
	panic(fmt.Sprintf("conntrack: flow change %d has no events", change))
}

// onlyTCP attaches a BPF program that drops the events of other protocols, so that they do not wake the
// watcher and do not fill its buffer. The program looks for the number of the protocol in CTA_TUPLE_ORIG,
// CTA_TUPLE_PROTO, and keeps a message in which it does not find one.
func onlyTCP(fd int) error {
	const (
		load    = unix.BPF_LD | unix.BPF_IMM
		loadX   = unix.BPF_LDX | unix.BPF_IMM
		special = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		// SKF_AD_OFF + SKF_AD_NLATTR and SKF_AD_NLATTR_NEST (include/uapi/linux/filter.h): A becomes the
		// offset of attribute X in the list at offset A, or in the attribute at offset A; 0 if there is none.
		attr = 1<<32 - 0x1000 + 12
		nest = 1<<32 - 0x1000 + 16
	)
	program := []unix.SockFilter{
		{Code: load, K: unix.NLMSG_HDRLEN + netlink.NetfilterLen},
		{Code: loadX, K: nl.CTA_TUPLE_ORIG},
		{Code: special, K: attr},
		{Code: equal, K: 0, Jt: 9}, // to "keep"
		{Code: loadX, K: nl.CTA_TUPLE_PROTO},
		{Code: special, K: nest},
		{Code: equal, K: 0, Jt: 6},
		{Code: loadX, K: nl.CTA_PROTO_NUM},
		{Code: special, K: nest},
		{Code: equal, K: 0, Jt: 3},
		{Code: unix.BPF_MISC | unix.BPF_TAX},
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_IND, K: unix.SizeofNlAttr},
		{Code: equal, K: unix.IPPROTO_TCP, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1}, // keep
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},         // drop
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// Close ends the subscription; Run returns.
func (w *Watcher) Close() error { return w.socket.close() }

// Run calls deliver for each event of a flow that want accepts (want nil accepts all), one after the other,
// until ctx ends; then for the events that already wait, and returns nil.
//
// Events wait in the kernel while deliver works. If there are too many, the kernel drops some: deliver then
// gets netflow.FlowsMissed, after the events that were kept, so that a Dump from then on finds what the lost
// events said.
//
// The error is os.ErrClosed after Close, or the kernel's. Run may be called once.
func (w *Watcher) Run(ctx context.Context, want netflow.Want, deliver func(netflow.FlowEvent)) error {
	resume, stop := w.socket.endWait(ctx)
	defer stop()
	missed := false
	gather := time.NewTimer(0)
	defer gather.Stop()
	for {
		if !missed {
			select {
			case <-gather.C:
			case <-ctx.Done():
				return w.rest(resume, want, deliver)
			}
		}
		read := w.socket.wait
		if missed {
			read = w.socket.poll
		}
		n, lost, err := read(w.in)
		if ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			return w.rest(resume, want, deliver)
		}
		if err != nil {
			return fmt.Errorf("conntrack: receive events: %w", err)
		}
		now := time.Now()
		w.deliver(w.in[:n], now, want, deliver)
		// After the first loss the kernel drops everything until its queue is empty: report the loss then. A
		// second loss proves that the queue was empty (netlink_overrun, netlink_rcv_wake in
		// net/netlink/af_netlink.c).
		if missed && (lost || n == 0) {
			deliver(netflow.FlowEvent{Change: netflow.FlowsMissed, At: now})
			missed = false
		}
		missed = missed || lost
		if len(w.in)-n < maxDatagram { // there is more
			gather.Reset(0)
		} else {
			gather.Reset(gatherTime)
		}
	}
}

// rest delivers the events that already wait.
func (w *Watcher) rest(resume func() error, want netflow.Want, deliver func(netflow.FlowEvent)) error {
	err := resume()
	if err == nil {
		err = w.socket.drain(w.in, func(b []byte) { w.deliver(b, time.Now(), want, deliver) })
	}
	if err != nil {
		return fmt.Errorf("conntrack: receive the last events: %w", err)
	}
	return nil
}

func (w *Watcher) deliver(b []byte, now time.Time, want netflow.Want, deliver func(netflow.FlowEvent)) {
	event := netflow.FlowEvent{At: now}
	for h, body := range netlink.Messages(b) {
		switch {
		case h.Type == ctDelete:
			event.Change = netflow.FlowGone
		case h.Type == ctNew && h.Flags&unix.NLM_F_CREATE != 0:
			event.Change = netflow.FlowNew
		case h.Type == ctNew:
			event.Change = netflow.FlowUpdated
		default:
			continue
		}
		if parseFlow(body, &event.Flow, want) {
			deliver(event)
		}
	}
}
