package nftset

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/ruleset"
	"ftpgate/internal/kernel/netlink"
)

// elementConn is a netlink socket for transactions that add and delete elements, with its buffers. Only one
// goroutine may use it at a time.
type elementConn struct {
	fd       int
	table    string
	maps     [len(versions)][pinholeMaps]string // the names of the maps of pinholes
	sequence uint32                             // of the last message that was sent
	sets     []string                           // the sets of the last transaction's messages, in their order
	out      netlink.Buffer
	in       []byte
}

var versions = [...]ruleset.Version{ruleset.IPv4, ruleset.IPv6}

// openElementConn connects to the network namespace of the calling thread. The table must be one of
// ftpgate's.
func openElementConn(table string) (*elementConn, error) {
	if !ruleset.OwnTable(table) {
		return nil, fmt.Errorf("nftset: table %s is not ftpgate's own", table)
	}
	const raw = unix.SOCK_RAW | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	fd, err := unix.Socket(unix.AF_NETLINK, raw, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("nftset: open netlink: socket: %w", err)
	}
	// A refusal does not repeat the request.
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1); err != nil {
		return nil, errors.Join(fmt.Errorf("nftset: open netlink: setsockopt: %w", err), unix.Close(fd))
	}
	if err := netlink.BindOwn(func(portID uint32) error {
		return unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: portID})
	}); err != nil {
		return nil, errors.Join(fmt.Errorf("nftset: open netlink: bind: %w", err), unix.Close(fd))
	}
	c := newElementConn(table)
	c.fd = fd
	return c, nil
}

// newElementConn returns an elementConn without a socket.
func newElementConn(table string) *elementConn {
	c := &elementConn{fd: -1, table: table, in: make([]byte, 4096)}
	for i, v := range versions {
		c.maps[i] = [...]string{dnatMap: ruleset.PinholeMap(v).Name, snatMap: ruleset.SourceMap(v).Name}
	}
	return c
}

func (c *elementConn) close() error {
	if err := unix.Close(c.fd); err != nil {
		return fmt.Errorf("nftset: close netlink: %w", err)
	}
	return nil
}

// add adds elements in one transaction. They expire after timeout. It replaces elements with the same keys
// that another process has left.
func (c *elementConn) add(timeout time.Duration, elements []element) error {
	err := c.commit(timeout, changesOf(unix.NFT_MSG_NEWSETELEM, elements)...)
	if errors.Is(err, unix.EEXIST) {
		err = c.deleteAndAdd(timeout, elements)
	}
	return err
}

// deleteAndAdd replaces those of the elements that are in the kernel, and adds the others. In between none of
// them is there for a moment.
func (c *elementConn) deleteAndAdd(timeout time.Duration, elements []element) error {
	if err := c.deleteEach(changesOf(unix.NFT_MSG_DELSETELEM, elements)); err != nil {
		return err
	}
	return c.commit(timeout, changesOf(unix.NFT_MSG_NEWSETELEM, elements)...)
}

// commit makes changes in one transaction, in their order. Elements that it adds expire after timeout. The
// error wraps the first errno that the kernel answered, and names the set; nothing has changed then.
func (c *elementConn) commit(timeout time.Duration, changes ...change) error {
	first := c.sequence + 1
	c.encode(timeout, changes)
	for {
		_, err := unix.Write(c.fd, c.out)
		if err == nil {
			return c.receive(first)
		}
		if err != unix.EINTR {
			return fmt.Errorf("send: %w", err)
		}
	}
}

// encode writes a transaction. Consecutive changes of one set share a message. The kernel answers every
// message that it refuses, and the last message with changes.
func (c *elementConn) encode(timeout time.Duration, changes []change) {
	c.out, c.sets = c.out[:0], c.sets[:0]
	c.sequence++
	writeBatchMessage(&c.out, unix.NFNL_MSG_BATCH_BEGIN, c.sequence)
	last := 0
	for len(changes) > 0 {
		n := countSameMessage(changes)
		set := c.setName(changes[0].element.set())
		c.sequence++
		last = len(c.out)
		writeChanges(&c.out, c.sequence, c.table, set, timeout, changes[:n])
		c.sets = append(c.sets, set)
		changes = changes[n:]
	}
	c.out.Acknowledge(last)
	c.sequence++
	writeBatchMessage(&c.out, unix.NFNL_MSG_BATCH_END, c.sequence)
}

// countSameMessage returns how many of the changes fit into one message with the first.
func countSameMessage(changes []change) int {
	set := changes[0].element.set()
	for i, c := range changes {
		if c.element.set() != set || c.operation != changes[0].operation {
			return i
		}
	}
	return len(changes)
}

func (c *elementConn) setName(s setID) string {
	switch s.role {
	case ownSourceMap:
		return ruleset.OwnSourceMap(versions[s.version]).Name
	case passthroughDNATMap:
		return ruleset.PassthroughMap(versions[s.version], s.ports).Name
	case passthroughSNATMap:
		return ruleset.PassthroughSourceMap(versions[s.version], s.ports).Name
	}
	return c.maps[s.version][s.role]
}

// deleteEach deletes elements, each in a transaction of its own. It is no error if an element is gone.
func (c *elementConn) deleteEach(changes []change) error {
	var errs []error
	for _, ch := range changes {
		if err := c.commit(0, ch); !errors.Is(err, unix.ENOENT) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// receive reads the kernel's answers to the transaction whose first message has the sequence number first.
// The kernel answers before write returns (nfnetlink_rcv_batch in net/netfilter/nfnetlink.c), so that receive
// never waits.
func (c *elementConn) receive(first uint32) error {
	var refused error
	last := first + uint32(len(c.sets))
	for {
		n, err := unix.Read(c.fd, c.in)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN && refused != nil: // the kernel refused the whole batch
			return refused
		case err != nil: // EAGAIN, ENOBUFS: answers were lost
			return fmt.Errorf("receive: %w", err)
		}
		for h, body := range netlink.Messages(c.in[:n]) {
			number, ok := netlink.ErrorNumber(body)
			if h.Type != unix.NLMSG_ERROR || !ok || h.Sequence-first > uint32(len(c.sets)) {
				continue // of an earlier transaction whose answers were lost
			}
			if number != 0 && refused == nil {
				refused = c.refusal(int(h.Sequence-first), number)
			}
			if h.Sequence == last {
				return refused
			}
		}
	}
}

// refusal returns the error for an errno that message i of a transaction got.
func (c *elementConn) refusal(i int, number unix.Errno) error {
	if i == 0 { // NFNL_MSG_BATCH_BEGIN
		return number
	}
	switch set := c.sets[i-1]; number {
	case unix.ENFILE:
		return fmt.Errorf("set %s of table %s is full: %w", set, c.table, number)
	case unix.ENOENT:
		return fmt.Errorf("table %s or its set %s is gone: %w", c.table, set, number)
	default:
		return fmt.Errorf("set %s of table %s: %w", set, c.table, number)
	}
}
