package conntrack

import (
	"fmt"
	"iter"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/kernel/netlink"
)

// Dump lists the TCP flows of both families that want accepts; want nil accepts all. A dump takes
// milliseconds however few flows there are, because the kernel walks through its whole hash table: use it at
// start and after netflow.FlowsMissed only. A flow that begins or ends meanwhile may be listed or not. An
// error ends the list. The loop's body may call Get and Delete, but not Dump, Find or Expectations, which
// wait for each other.
func (c *Conn) Dump(want Want) iter.Seq2[netflow.Flow, error] {
	return func(yield func(netflow.Flow, error) bool) {
		var f netflow.Flow
		more := true
		err := c.dumps.dump(ctGet, unix.AF_UNSPEC, nil, func(typ uint16, body []byte) {
			if more && typ == ctNew && parseFlow(body, &f, want) {
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
	matches := func(_ uint32, original, _ netflow.Tuple) bool {
		return original.From.Addr() == t.From.Addr() && original.To == t.To
	}
	var filter netlink.Buffer
	writeFilter(&filter, t)
	var f netflow.Flow
	err = c.dumps.dump(ctGet, family(t), filter, func(typ uint16, body []byte) {
		if typ == ctNew && parseFlow(body, &f, matches) {
			found = append(found, f)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("conntrack: find flows from %s to %s: %w", from, to, err)
	}
	return found, nil
}

// Expectation is a data connection that a helper has seen announced on a control connection and that has not
// begun.
type Expectation struct {
	Master   netflow.Tuple // the control connection's original tuple
	Expected netflow.Tuple // before any translation; port 0 is any port
	Helper   string        // "ftp"
	Left     time.Duration // until the kernel forgets it, in whole seconds
}

// Expectations lists the expectations of TCP connections.
func (c *Conn) Expectations() (list []Expectation, err error) {
	err = c.dumps.dump(expectGet, unix.AF_UNSPEC, nil, func(typ uint16, body []byte) {
		if typ != expectNew {
			return
		}
		if e, ok := parseExpectation(body); ok {
			list = append(list, e)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("conntrack: list expectations: %w", err)
	}
	return list, nil
}

// Attributes of an expectation (enum ctattr_expect).
const (
	ctaExpectMaster   = 1 // CTA_EXPECT_MASTER
	ctaExpectTuple    = 2 // CTA_EXPECT_TUPLE
	ctaExpectTimeout  = 4 // CTA_EXPECT_TIMEOUT
	ctaExpectHelpName = 6 // CTA_EXPECT_HELP_NAME
)

// parseExpectation reads the body of a message. ok is false unless both of its tuples are complete TCP
// tuples.
func parseExpectation(body []byte) (e Expectation, ok bool) {
	if len(body) < netlink.NetfilterLen {
		return e, false
	}
	var master, expected bool
	for typ, value := range netlink.Attributes(body[netlink.NetfilterLen:]) {
		switch typ {
		case ctaExpectMaster:
			master = parseTuple(value, &e.Master) || master
		case ctaExpectTuple:
			expected = parseTuple(value, &e.Expected) || expected
		case ctaExpectTimeout:
			e.Left = time.Duration(netlink.Uint32(value)) * time.Second
		case ctaExpectHelpName:
			e.Helper = helperName(value)
		}
	}
	return e, master && expected
}

// dump requests every object of a type, restricted by filter attributes, and calls each for every message of
// the answer. The message is valid until each returns.
func (r *requester) dump(typ uint16, family uint8, filter []byte, each func(typ uint16, body []byte)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sequence++
	r.out = r.out[:0]
	h := netlink.Header{Type: typ, Flags: unix.NLM_F_REQUEST | unix.NLM_F_DUMP, Sequence: r.sequence}
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
			default:
				each(h.Type, body)
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
