package conntrack

import (
	"fmt"
	"iter"
	"net/netip"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/kernel/netlink"
)

// Dump lists the TCP flows of both families that want accepts; want nil accepts all. A dump takes
// milliseconds however few flows there are, because the kernel walks through its whole hash table: use it at
// start and after netflow.FlowsMissed only. A flow that begins or ends meanwhile may be listed or not. An
// error ends the list. The loop's body may call Get and Delete, but not Dump or Find, which wait
// for each other.
func (c *Conn) Dump(want netflow.Want) iter.Seq2[netflow.Flow, error] {
	return func(yield func(netflow.Flow, error) bool) {
		var f netflow.Flow
		more := true
		err := c.dumps.dump(unix.AF_UNSPEC, nil, func(body []byte) {
			if more && parseFlow(body, &f, want) {
				more = yield(f, nil)
			}
		})
		if err != nil && more {
			yield(netflow.Flow{}, fmt.Errorf("conntrack: list flows: %w", err))
		}
	}
}

// Find returns the flows from an address, at any port, to a destination. It takes as long as a Dump of few
// flows: the kernel still walks through its whole hash table. Before Linux 5.8 it also sends every flow.
func (c *Conn) Find(from netip.Addr, to netip.AddrPort) (found []netflow.Flow, err error) {
	t := unmapped(netflow.Tuple{From: netip.AddrPortFrom(from, 0), To: to})
	if !valid(t) {
		return nil, nil
	}
	matches := func(original, _ netflow.Tuple) bool {
		return original.From.Addr() == t.From.Addr() && original.To == t.To
	}
	var filter netlink.Buffer
	writeFilter(&filter, t)
	var f netflow.Flow
	err = c.dumps.dump(family(t), filter, func(body []byte) {
		if parseFlow(body, &f, matches) {
			found = append(found, f)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("conntrack: find flows from %s to %s: %w", from, to, err)
	}
	return found, nil
}

// dump requests every flow, restricted by filter attributes, and calls each for every message of the answer.
// The message is valid until each returns.
func (r *requester) dump(family uint8, filter []byte, each func(body []byte)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sequence++
	r.out = r.out[:0]
	h := netlink.Header{Type: ctGet, Flags: unix.NLM_F_REQUEST | unix.NLM_F_DUMP, Sequence: r.sequence}
	start := r.out.BeginNetfilter(h, family, 0)
	r.out = append(r.out, filter...)
	r.out.EndMessage(start)
	if err := r.socket.send(r.out); err != nil {
		return err
	}
	for {
		n, lost, err := r.socket.poll(r.in)
		if err != nil {
			return err
		}
		for h, body := range netlink.Messages(r.in[:n]) {
			switch {
			case h.Sequence != r.sequence: // of a dump that was given up
			case h.Type == unix.NLMSG_DONE, h.Type == unix.NLMSG_ERROR:
				return errorOf(body)
			case h.Type == ctNew:
				each(body)
			}
		}
		if lost {
			return unix.ENOBUFS
		}
		// The kernel makes each part while the part before it is read: what is not there now never comes.
		if n == 0 {
			return errNoAnswer
		}
	}
}
