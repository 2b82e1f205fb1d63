package nft

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/nftables"
	mdlayher "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"ftpgate/internal/kernel/netlink"
)

// batch is a transaction that is being written. The library only encodes: the batch captures what it would
// send, so that it can give every message a name, and assign the kernel's answers to the messages.
type batch struct {
	enc        *nftables.Conn
	operations []string // what each message does, in their order
	owner      bool     // the tables that are added belong to the socket
	sets       uint32   // the last set id that is in use; the library's own counter is shared without a lock
	captured   []mdlayher.Message
	errEncode  error // the first one
}

var errCaptured = errors.New("captured, not sent")

func newBatch() *batch {
	b := &batch{}
	enc, err := nftables.New(nftables.WithTestDial(func(req []mdlayher.Message) ([]mdlayher.Message, error) {
		b.captured = append(b.captured, req...)
		return nil, errCaptured
	}))
	if err != nil {
		panic(fmt.Sprintf("nft: encoder: %v", err)) // only opening a connection can fail
	}
	b.enc = enc
	return b
}

// operation says what the message does that the call before has queued.
func (b *batch) operation(format string, args ...any) {
	b.operations = append(b.operations, fmt.Sprintf(format, args...))
}

// check remembers the first error of encoding. The batch is not sent after one.
func (b *batch) check(err error) {
	if b.errEncode == nil {
		b.errEncode = err
	}
}

// send sends the transaction and waits for its result. An error names every operation that the kernel
// refused, and wraps the kernel's errno; nothing has changed then.
func (b *batch) send(conn *mdlayher.Conn) error {
	if b.errEncode != nil {
		return fmt.Errorf("nft: encode: %w", b.errEncode)
	}
	if err := b.enc.Flush(); err != nil && !errors.Is(err, errCaptured) {
		return fmt.Errorf("nft: encode: %w", err)
	}
	messages := make([]mdlayher.Message, len(b.captured))
	acks := 0
	for i, m := range b.captured {
		m.Header.PID, m.Header.Sequence, m.Header.Length = 0, 0, 0 // the connection sets its own
		// An echo of each rule would arrive between the answers, and is not needed.
		m.Header.Flags &^= unix.NLM_F_ECHO
		if m.Header.Flags&mdlayher.Acknowledge != 0 {
			acks++
		}
		switch m.Header.Type & 0xff {
		case unix.NFT_MSG_NEWTABLE:
			if b.owner {
				m.Data = own(m.Data)
			}
		case unix.NFT_MSG_NEWRULE:
			m.Data = addCtDirection(m.Data)
		case unix.NFT_MSG_NEWSET:
			m.Data = counterToLimit(m.Data)
		}
		messages[i] = m
	}
	if acks != len(b.operations) {
		panic(fmt.Sprintf("nft: %d messages have %d operations", acks, len(b.operations)))
	}
	if acks == 0 {
		return nil
	}
	if _, err := conn.SendMessages(messages); err != nil {
		return fmt.Errorf("nft: send: %w", err)
	}
	return b.receive(conn)
}

// answerTime bounds the wait for the kernel's answer to a transaction. Ten thousand forwards take a twentieth
// of it on a slow machine.
const answerTime = 10 * time.Second

// batchError is an answer to the whole batch. More answers may be under way, so that the connection cannot be
// used any more.
type batchError struct{ err error }

func (e batchError) Error() string { return "nft: " + e.err.Error() }
func (e batchError) Unwrap() error { return e.err }

// receive reads the kernel's answers: one for each operation, in their order, or a single one if the kernel
// refuses the whole batch (nfnetlink_rcv_batch in net/netfilter/nfnetlink.c).
func (b *batch) receive(conn *mdlayher.Conn) error {
	if err := conn.SetReadDeadline(time.Now().Add(answerTime)); err != nil {
		return batchError{err}
	}
	var refused []error
	for _, operation := range b.operations {
		_, err := conn.Receive()
		switch {
		case err == nil:
		case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM),
			errors.Is(err, os.ErrDeadlineExceeded):
			return batchError{netlink.Errno(err)}
		default:
			refused = append(refused, fmt.Errorf("nft: %s: %w", operation, netlink.Errno(err)))
		}
	}
	return errors.Join(refused...)
}
