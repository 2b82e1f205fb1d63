// Package conntrack reads the kernel's table of connections through netlink: the flows that a caller
// names, all of them, the expectations of helpers, and events as they come. It takes single flows out of
// the table when asked to, and works out from the kernel's byte counts what TCP carried.
//
// It sees TCP only, in the default conntrack zone. It switches nothing on: counters need the sysctl
// net.netfilter.nf_conntrack_acct before a flow begins, events net.netfilter.nf_conntrack_events.
package conntrack

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/netflow"
)

// perRound is how many flows one system call asks for: as many as a mask has bits. The answers, about
// 1 KiB of the socket's buffer each, fit into the buffer that Linux gives to anybody.
const perRound = 64

// Conn is for requests to the conntrack of the network namespace that Open was called in. Its methods may
// be called by several goroutines at once.
type Conn struct {
	request asking // Get and Delete
	list    asking // Dump and Expectations, which last longer
}

// asking is a socket and what a request over it needs.
type asking struct {
	mu     sync.Mutex
	socket *socket
	seq    uint32 // of the message before
	out    []byte
	in     []byte
}

// Open connects to the kernel, which asks for CAP_NET_ADMIN with the first request (EPERM). The caller
// closes the connection.
func Open() (*Conn, error) {
	request, err := dial(answerBuffer)
	if err != nil {
		return nil, err
	}
	list, err := dial(answerBuffer)
	if err != nil {
		request.close()
		return nil, err
	}
	return &Conn{
		request: asking{socket: request, in: make([]byte, readSize)},
		list:    asking{socket: list, in: make([]byte, readSize)},
	}, nil
}

// Close ends the connection; requests under way fail.
func (c *Conn) Close() error {
	return errors.Join(c.request.socket.close(), c.list.socket.close())
}

// Get looks flows up by their original tuples, and appends one to flows for each tuple, in their order. A
// flow that is gone is the zero Flow; one that has the tuple by now and not the ID is another. After an
// error what is appended means nothing.
func (c *Conn) Get(flows []netflow.Flow, tuples []netflow.Tuple) ([]netflow.Flow, error) {
	first := len(flows)
	flows = append(flows, make([]netflow.Flow, len(tuples))...)
	found := flows[first:]
	for part := range slices.Chunk(tuples, perRound) {
		missing, err := c.request.get(found[:len(part)], part)
		// What did not fit into the socket's buffer is asked for again, one by one.
		for i := 0; i < len(part) && missing != 0 && err == nil; i++ {
			if missing&(1<<i) == 0 {
				continue
			}
			var still uint64
			if still, err = c.request.get(found[i:i+1], part[i:i+1]); err == nil && still != 0 {
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

// get asks for at most perRound flows, with one system call, and tells which of the answers have not come.
func (a *asking) get(found []netflow.Flow, tuples []netflow.Tuple) (missing uint64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	first := a.seq + 1
	a.out = a.out[:0]
	for i, t := range tuples {
		a.seq++
		if valid(t) { // else there is no such flow
			missing |= 1 << i
			a.out = appendFlowRequest(a.out, ctGet, unix.NLM_F_REQUEST, a.seq, t)
		}
	}
	if missing == 0 {
		return 0, nil
	}
	if err := a.socket.send(a.out); err != nil {
		return missing, err
	}
	for missing != 0 {
		n, lost, err := a.socket.poll(a.in)
		if err != nil {
			return missing, err
		}
		for h, body := range messages(a.in[:n]) {
			i := h.seq - first
			if i >= uint32(len(tuples)) { // an answer to a request that was given up
				continue
			}
			missing &^= 1 << i
			switch {
			case h.typ == unix.NLMSG_ERROR:
				if err := errorOf(body); err != nil && !errors.Is(err, unix.ENOENT) {
					return missing, err
				}
			case !parseFlow(body, &found[i], nil) || found[i].Original != unmapped(tuples[i]):
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

// Delete takes a flow out of the table: the kernel forgets its translation. One that is gone, or has
// another ID by now, is no error. It does not end the connection: where net.netfilter.nf_conntrack_tcp_loose is
// on, as usual, the next packet makes a new flow, translated by the rules again. Where that is off, or a rule
// refuses what is new and not SYN, the packet meets the gateway itself, which answers with a reset.
func (c *Conn) Delete(original netflow.Tuple, id uint32) error {
	if !valid(original) {
		return nil
	}
	a := &c.request
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seq++
	a.out = appendDelete(a.out[:0], a.seq, original, id)
	err := a.socket.send(a.out)
	if err == nil {
		err = a.acknowledged()
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("conntrack: delete the flow from %s to %s: %w", original.From, original.To, err)
	}
	return nil
}

// acknowledged reads the kernel's answer to the last message.
func (a *asking) acknowledged() error {
	for {
		n, lost, err := a.socket.poll(a.in)
		if err != nil {
			return err
		}
		for h, body := range messages(a.in[:n]) {
			if h.seq == a.seq && h.typ == unix.NLMSG_ERROR {
				return errorOf(body)
			}
		}
		if n == 0 && !lost {
			return errNoAnswer
		}
	}
}
