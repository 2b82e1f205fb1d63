package nftset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/ruleset"
)

// line is a socket for transactions of elements, with room to write and to read them. It is not for
// several goroutines at once.
type line struct {
	fd       int
	table    string
	sets     [len(versions)][kinds]string // the names of the sets of pinholes
	sequence uint32                       // of the last message sent
	asked    []string                     // the sets of a transaction's messages, in their order
	out      message
	in       []byte
}

var versions = [...]ruleset.Version{ruleset.IPv4, ruleset.IPv6}

// openLine connects to the network namespace of the calling thread.
func openLine(table string) (*line, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	// A refusal shall not come with a copy of what is refused.
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1); err != nil {
		return nil, errors.Join(fmt.Errorf("setsockopt: %w", err), unix.Close(fd))
	}
	l := newLine(table)
	l.fd = fd
	return l, nil
}

// newLine returns a line that is not connected yet.
func newLine(table string) *line {
	l := &line{fd: -1, table: table, in: make([]byte, 4096)}
	for i, v := range versions {
		l.sets[i] = [kinds]string{ruleset.PinholeMap(v).Name, ruleset.SourceMap(v).Name}
	}
	return l
}

func (l *line) close() error { return unix.Close(l.fd) }

// run makes changes in one transaction, in their order; an element that is put in has a timeout. The error
// wraps the first errno that the kernel answered and names the set; then nothing has changed.
func (l *line) run(timeout time.Duration, changes ...change) error {
	first := l.sequence + 1
	l.encode(timeout, changes)
	for {
		_, err := unix.Write(l.fd, l.out)
		if err == nil {
			return l.answer(first)
		}
		if err != unix.EINTR {
			return fmt.Errorf("send: %w", err)
		}
	}
}

// encode writes a transaction. Changes of one set that follow each other share a message. The kernel
// answers the messages that it refuses, and the last one that has changes.
func (l *line) encode(timeout time.Duration, changes []change) {
	l.out, l.asked = l.out[:0], l.asked[:0]
	l.sequence++
	l.out.envelope(unix.NFNL_MSG_BATCH_BEGIN, l.sequence)
	last := 0
	for len(changes) > 0 {
		n := alike(changes)
		set := l.name(changes[0].element.set())
		l.sequence++
		last = len(l.out)
		l.out.elements(l.sequence, l.table, set, timeout, changes[:n])
		l.asked = append(l.asked, set)
		changes = changes[n:]
	}
	l.out.acknowledge(last)
	l.sequence++
	l.out.envelope(unix.NFNL_MSG_BATCH_END, l.sequence)
}

// alike counts the changes that fit into one message with the first.
func alike(changes []change) int {
	set := changes[0].element.set()
	for i, c := range changes {
		if c.element.set() != set || c.verb != changes[0].verb {
			return i
		}
	}
	return len(changes)
}

func (l *line) name(s setOf) string {
	switch s.kind {
	case passesTo:
		return ruleset.PassageMap(versions[s.version], s.ports).Name
	case passesAs:
		return ruleset.PassageSourceMap(versions[s.version], s.ports).Name
	}
	return l.sets[s.version][s.kind]
}

// removeEach takes elements out, each in a transaction of its own; what is gone is no error.
func (l *line) removeEach(changes []change) error {
	var failed []error
	for _, c := range changes {
		if err := l.run(0, c); !errors.Is(err, unix.ENOENT) {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// answer reads what the kernel says to the messages from first on. It has said it when the messages are sent
// (nfnetlink_rcv_batch in net/netfilter/nfnetlink.c), so that nothing is waited for.
func (l *line) answer(first uint32) error {
	var refused error
	last := first + uint32(len(l.asked))
	for {
		n, err := unix.Read(l.fd, l.in)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN && refused != nil: // of the batch as a whole
			return refused
		case err != nil: // EAGAIN, ENOBUFS: the answers have got lost
			return fmt.Errorf("receive: %w", err)
		}
		sequence, number, ok := refusal(l.in[:n])
		if !ok || sequence-first > uint32(len(l.asked)) {
			continue // to an earlier transaction whose answers have got lost
		}
		if number != 0 && refused == nil {
			refused = l.explain(int(sequence-first), number)
		}
		if sequence == last {
			return refused
		}
	}
}

// explain says what an errno means for the set that message i of a transaction was for.
func (l *line) explain(i int, number unix.Errno) error {
	if i == 0 { // the envelope
		return number
	}
	switch set := l.asked[i-1]; number {
	case unix.ENFILE:
		return fmt.Errorf("set %s of table %s is full: %w", set, l.table, number)
	case unix.ENOENT:
		return fmt.Errorf("table %s or its set %s is gone: %w", l.table, set, number)
	default:
		return fmt.Errorf("set %s of table %s: %w", set, l.table, number)
	}
}

// refusal reads an NLMSG_ERROR: to which message, and the errno; 0 is an acknowledgement.
func refusal(b []byte) (sequence uint32, number unix.Errno, ok bool) {
	if len(b) < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(b[4:]) != unix.NLMSG_ERROR {
		return 0, 0, false
	}
	return binary.NativeEndian.Uint32(b[8:]), unix.Errno(-int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:]))), true
}
