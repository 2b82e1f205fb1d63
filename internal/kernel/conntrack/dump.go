package conntrack

import (
	"fmt"
	"iter"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/netflow"
)

// Dump lists the TCP flows of both families; want nil: all of them. It costs milliseconds however few they
// are, because the kernel walks through the whole hash table, so that it is for a start and after
// dnat.FlowsMissed only. A flow that begins or ends meanwhile may be there or not. An error ends the list.
// The loop's body may call Get and Delete, but not Dump or Expectations, which wait for each other.
func (c *Conn) Dump(want Want) iter.Seq2[netflow.Flow, error] {
	return func(yield func(netflow.Flow, error) bool) {
		var f netflow.Flow
		more := true
		err := c.list.dump(ctGet, unix.AF_UNSPEC, nil, func(typ uint16, body []byte) {
			if more && typ == ctNew && parseFlow(body, &f, want) {
				more = yield(f, nil)
			}
		})
		if err != nil && more {
			yield(netflow.Flow{}, fmt.Errorf("conntrack: list flows: %w", err))
		}
	}
}

// Find returns the flows that began from an address, at any port, and were addressed to a place. It costs as much as a
// Dump of a few: the kernel (5.8 or newer; an older one lists all) still walks through the whole hash table.
func (c *Conn) Find(from netip.Addr, to netip.AddrPort) (found []netflow.Flow, err error) {
	t := unmapped(netflow.Tuple{From: netip.AddrPortFrom(from, 0), To: to})
	if !valid(t) {
		return nil, nil
	}
	meant := func(_ uint32, original, _ netflow.Tuple) bool {
		return original.From.Addr() == t.From.Addr() && original.To == t.To
	}
	var f netflow.Flow
	err = c.list.dump(ctGet, family(t), appendFilter(nil, t), func(typ uint16, body []byte) {
		if typ == ctNew && parseFlow(body, &f, meant) {
			found = append(found, f)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("conntrack: find flows from %s to %s: %w", from, to, err)
	}
	return found, nil
}

// Expectation is a connection that a helper has read of in a control connection and that has not come yet.
type Expectation struct {
	Master   netflow.Tuple // the control connection's original tuple
	Expected netflow.Tuple // before any translation; port 0: any
	Helper   string        // "ftp"
	Left     time.Duration // until it is forgotten, in whole seconds
}

// Expectations lists the expectations of TCP connections that there are now.
func (c *Conn) Expectations() (list []Expectation, err error) {
	err = c.list.dump(expectGet, unix.AF_UNSPEC, nil, func(typ uint16, body []byte) {
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

func parseExpectation(body []byte) (e Expectation, ok bool) {
	if len(body) < nfgenLen {
		return e, false
	}
	var whole int
	for typ, value, rest, more := next(body[nfgenLen:]); more; typ, value, rest, more = next(rest) {
		switch typ {
		case ctaExpectMaster:
			if parseTuple(value, &e.Master) {
				whole |= 1
			}
		case ctaExpectTuple:
			if parseTuple(value, &e.Expected) {
				whole |= 2
			}
		case ctaExpectTimeout:
			e.Left = time.Duration(uint32Of(value)) * time.Second
		case ctaExpectHelpName:
			e.Helper = nameOf(value)
		}
	}
	return e, whole == 3
}

// dump asks for everything of a kind that attributes let through, and gives each message to each. The messages are gone
// when each returns.
func (a *asking) dump(typ uint16, family uint8, attributes []byte, each func(typ uint16, body []byte)) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seq++
	a.out = appendHeader(a.out[:0], typ, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, a.seq, family)
	a.out = finish(append(a.out, attributes...), 0)
	if err := a.socket.send(a.out); err != nil {
		return err
	}
	for {
		n, lost, err := a.socket.poll(a.in)
		if err != nil {
			return err
		}
		for h, body := range messages(a.in[:n]) {
			switch {
			case h.seq != a.seq: // of a dump that was given up
			case h.typ == unix.NLMSG_DONE, h.typ == unix.NLMSG_ERROR:
				return errorOf(body)
			default:
				each(h.typ, body)
			}
		}
		if lost {
			return unix.ENOBUFS
		}
		// The kernel makes each part as the one before it is read: what is not there now never comes.
		if n == 0 {
			return errNoAnswer
		}
	}
}
