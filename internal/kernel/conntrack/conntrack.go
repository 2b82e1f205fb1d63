// Package conntrack reads the kernel's table of connections through netlink: flows by name, all flows, and
// events as they happen. It also removes single flows, and calculates from the
// kernel's byte counts how much data TCP carried.
//
// It sees TCP only, in the default conntrack zone. It switches nothing on: counters need the sysctl
// net.netfilter.nf_conntrack_acct before a flow begins, events need net.netfilter.nf_conntrack_events.
//
// Locks: requester.mu, held for one question to the kernel at a time.
package conntrack

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/kernel/netlink"
)

// perRound is how many flows one system call asks for: as many as a mask has bits. The answers take about 1
// KiB each of the socket's buffer, and fit into the buffer that Linux gives to any process.
const perRound = 64

// Conn sends requests to the conntrack of the network namespace that Open was called in. Its methods may be
// called by several goroutines at once.
type Conn struct {
	lookups requester // Get and Delete
	dumps   requester // Dump and Find, which take longer
}

// requester is a socket with the state of the requests over it.
type requester struct {
	mu       sync.Mutex
	socket   *socket
	sequence uint32 // of the last message
	out      netlink.Buffer
	in       []byte
}

// Open connects to the kernel, which asks for CAP_NET_ADMIN with the first request (EPERM). The caller closes
// the connection.
func Open() (*Conn, error) {
	lookups, err := dial(answerBuffer)
	if err != nil {
		return nil, err
	}
	dumps, err := dial(answerBuffer)
	if err != nil {
		lookups.close()
		return nil, err
	}
	return &Conn{
		lookups: requester{socket: lookups, in: make([]byte, readSize)},
		dumps:   requester{socket: dumps, in: make([]byte, readSize)},
	}, nil
}

// Close ends the connection; requests under way fail.
func (c *Conn) Close() error {
	return errors.Join(c.lookups.socket.close(), c.dumps.socket.close())
}

// Get looks flows up by their original tuples, or by those of their answers, and appends one to flows for
// each tuple, in the same order. A flow that is gone is the zero Flow. A flow that has the tuple but another
// ID is a new one. After an error the appended flows have no meaning.
func (c *Conn) Get(flows []netflow.Flow, tuples []netflow.Tuple) ([]netflow.Flow, error) {
	first := len(flows)
	flows = append(flows, make([]netflow.Flow, len(tuples))...)
	found := flows[first:]
	for part := range slices.Chunk(tuples, perRound) {
		missing, err := c.lookups.get(found[:len(part)], part)
		// Ask again, one by one, for the answers that did not fit into the socket's buffer.
		for i := 0; i < len(part) && missing != 0 && err == nil; i++ {
			if missing&(1<<i) == 0 {
				continue
			}
			var still uint64
			if still, err = c.lookups.get(found[i:i+1], part[i:i+1]); err == nil && still != 0 {
				err = unix.ENOBUFS
			}
		}
		if err != nil {
			return flows, fmt.Errorf("conntrack: look flows up: %w", err)
		}
		found = found[len(part):]
	}
	return flows, nil
}

// hasTuple reports whether a flow has a tuple, in either direction: the kernel looks for both.
func hasTuple(f netflow.Flow, t netflow.Tuple) bool { return f.Original == t || f.Reply == t }

// get asks for at most perRound flows with one system call. missing has a bit for each answer that did not
// arrive.
func (r *requester) get(found []netflow.Flow, tuples []netflow.Tuple) (missing uint64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := r.sequence + 1
	r.out = r.out[:0]
	for i, t := range tuples {
		r.sequence++
		if valid(t) { // otherwise there is no such flow
			missing |= 1 << i
			writeGet(&r.out, r.sequence, t)
		}
	}
	if missing == 0 {
		return 0, nil
	}
	if err := r.socket.send(r.out); err != nil {
		return missing, err
	}
	for missing != 0 {
		n, lost, err := r.socket.poll(r.in)
		if err != nil {
			return missing, err
		}
		for h, body := range netlink.Messages(r.in[:n]) {
			i := h.Sequence - first
			if i >= uint32(len(tuples)) { // the answer to an earlier request that was given up
				continue
			}
			missing &^= 1 << i
			switch {
			case h.Type == unix.NLMSG_ERROR:
				if err := errorOf(body); err != nil && !errors.Is(err, unix.ENOENT) {
					return missing, err
				}
			case !parseFlow(body, &found[i], nil) || !hasTuple(found[i], unmapped(tuples[i])):
				found[i] = netflow.Flow{}
			}
		}
		// The kernel answers within send: what is not there now never comes.
		if n == 0 && !lost {
			break
		}
	}
	return missing, nil
}

// Delete removes a flow from the table: the kernel forgets its translation. It is no error if the flow is
// gone, or the tuple belongs to a flow with another ID. Delete does not end the connection: while the sysctl
// net.netfilter.nf_conntrack_tcp_loose is on, which is usual, the next packet makes a new flow, and the rules
// translate it again. If it is off, or a rule refuses new packets other than SYN, the packet reaches the
// gateway itself, which answers with a reset.
func (c *Conn) Delete(original netflow.Tuple, id uint32) error {
	if !valid(original) {
		return nil
	}
	r := &c.lookups
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sequence++
	r.out = r.out[:0]
	writeDelete(&r.out, r.sequence, original, id)
	err := r.socket.send(r.out)
	if err == nil {
		err = r.acknowledged()
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("conntrack: delete the flow from %s to %s: %w", original.From, original.To, err)
	}
	return nil
}

// acknowledged reads the kernel's answer to the last message.
func (r *requester) acknowledged() error {
	for {
		n, lost, err := r.socket.poll(r.in)
		if err != nil {
			return err
		}
		for h, body := range netlink.Messages(r.in[:n]) {
			if h.Sequence == r.sequence && h.Type == unix.NLMSG_ERROR {
				return errorOf(body)
			}
		}
		if n == 0 && !lost {
			return errNoAnswer
		}
	}
}

// errorOf returns the error that an NLMSG_ERROR or NLMSG_DONE message reports, or nil for success.
func errorOf(body []byte) error {
	switch number, ok := netlink.ErrorNumber(body); {
	case !ok:
		return errNoAnswer
	case number != 0:
		return number
	}
	return nil
}
