package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// batch is one transaction in the making. The library is used as an encoder: what it would send
// is captured, so that each message keeps the name of the operation that it carries and the
// kernel's answers can be told apart.
type batch struct {
	enc    *nftables.Conn
	names  []string // of the messages, in their order
	sets   uint32   // set ids given out; the library's own counter is shared and not locked
	sent   []netlink.Message
	errEnc error
}

var errCaptured = errors.New("captured, not sent")

func newBatch() (*batch, error) {
	b := &batch{}
	enc, err := nftables.New(nftables.WithTestDial(func(req []netlink.Message) ([]netlink.Message, error) {
		b.sent = append(b.sent, req...)
		return nil, errCaptured
	}))
	if err != nil {
		return nil, fmt.Errorf("nft: encoder: %w", err)
	}
	b.enc = enc
	return b, nil
}

// did names the message that the call before it has queued.
func (b *batch) did(format string, args ...any) {
	b.names = append(b.names, fmt.Sprintf(format, args...))
}

// check keeps the first error of encoding; the batch is not sent then.
func (b *batch) check(err error) {
	if b.errEnc == nil {
		b.errEnc = err
	}
}

// send runs the transaction on a connection. The error names every operation that the kernel
// refused; then nothing has changed. errors.Is works with the kernel's errno values.
func (b *batch) send(conn *netlink.Conn) error {
	if b.errEnc != nil {
		return fmt.Errorf("nft: encode: %w", b.errEnc)
	}
	if err := b.enc.Flush(); err != nil && !errors.Is(err, errCaptured) {
		return fmt.Errorf("nft: encode: %w", err)
	}
	messages := make([]netlink.Message, len(b.sent))
	acks := 0
	for i, m := range b.sent {
		m.Header.PID, m.Header.Sequence, m.Header.Length = 0, 0, 0 // the connection sets its own
		// An echo of each rule would come between the answers and is not needed.
		m.Header.Flags &^= unix.NLM_F_ECHO
		if m.Header.Flags&netlink.Acknowledge != 0 {
			acks++
		}
		switch m.Header.Type & 0xff {
		case unix.NFT_MSG_NEWRULE:
			m.Data = directCt(m.Data)
		case unix.NFT_MSG_NEWSET:
			m.Data = onePacket(m.Data)
		}
		messages[i] = m
	}
	if acks != len(b.names) {
		panic(fmt.Sprintf("nft: %d operations have %d names", acks, len(b.names)))
	}
	if acks == 0 {
		return nil
	}
	if _, err := conn.SendMessages(messages); err != nil {
		return fmt.Errorf("nft: send: %w", err)
	}
	return b.receive(conn)
}

// answerTime bounds the wait for the kernel's answer to a transaction; ten thousand forwards take a
// twentieth of it on a slow machine.
const answerTime = 10 * time.Second

// batchError is an answer to the batch as a whole: the connection may have more answers under way,
// and is of no further use.
type batchError struct{ err error }

func (e batchError) Error() string { return "nft: " + e.err.Error() }
func (e batchError) Unwrap() error { return e.err }

// receive reads the kernel's answers: one for each operation in its order, or a single one where it
// refuses the whole batch (nfnetlink_rcv_batch in net/netfilter/nfnetlink.c).
func (b *batch) receive(conn *netlink.Conn) error {
	if err := conn.SetReadDeadline(time.Now().Add(answerTime)); err != nil {
		return batchError{err}
	}
	var refused []error
	for _, name := range b.names {
		_, err := conn.Receive()
		switch {
		case err == nil:
		case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM), errors.Is(err, os.ErrDeadlineExceeded):
			return batchError{Errno(err)}
		default:
			refused = append(refused, fmt.Errorf("nft: %s: %w", name, Errno(err)))
		}
	}
	return errors.Join(refused...)
}

// Errno takes the kernel's error number out of the netlink library's wrapping, which says
// "netlink receive" for what is a refused operation.
func Errno(err error) error {
	if number := unix.Errno(0); errors.As(err, &number) {
		return number
	}
	return err
}

// directCt adds to "ct original ip daddr" the direction that the library leaves out
// (expr.Ct sends it for the keys without a family only; the kernel answers EINVAL). The
// message is a rule's, behind its four bytes of nfgenmsg header.
func directCt(rule []byte) []byte {
	// One byte: enum ip_conntrack_dir, IP_CT_DIR_ORIGINAL.
	direction := attribute(unix.NFTA_CT_DIRECTION, []byte{0})
	return append(slices.Clip(rule[:4]), mapAttr(rule[4:], unix.NFTA_RULE_EXPRESSIONS, func(exprs []byte) []byte {
		return mapAttr(exprs, unix.NFTA_LIST_ELEM, func(elem []byte) []byte {
			if string(attr(elem, unix.NFTA_EXPR_NAME)) != "ct\x00" {
				return elem
			}
			return mapAttr(elem, unix.NFTA_EXPR_DATA, func(data []byte) []byte {
				switch key := attr(data, unix.NFTA_CT_KEY); {
				case len(key) != 4:
					return data
				case binary.BigEndian.Uint32(key) != ctKeyDestinationIP && binary.BigEndian.Uint32(key) != ctKeyDestinationIP6:
					return data
				}
				return append(slices.Clip(data), direction...)
			})
		})
	})...)
}

// onePacket turns the counter of a set's elements, the one expression there that the library knows, into
// what ruleset.Set.Once means: limit rate 1/day burst 1 packets. The message is a set's, as in directCt.
func onePacket(set []byte) []byte {
	limit, err := expr.Marshal(unix.NFPROTO_INET, &expr.Limit{Type: expr.LimitTypePkts, Rate: 1, Unit: expr.LimitTimeDay, Burst: 1})
	if err != nil {
		panic(fmt.Sprintf("nft: limit: %v", err)) // a constant
	}
	return append(slices.Clip(set[:4]), mapAttr(set[4:], setExpression, func([]byte) []byte { return limit })...)
}

// mapAttr rewrites the payload of every attribute of one type in a list of netlink attributes.
func mapAttr(list []byte, typ uint16, rewrite func([]byte) []byte) []byte {
	var out []byte
	for ; len(list) >= unix.SizeofNlAttr; list = list[min(align(attrLen(list)), len(list)):] {
		payload := list[unix.SizeofNlAttr:attrLen(list)]
		if attrType(list) == typ {
			payload = rewrite(payload)
		}
		out = append(out, attribute(binary.NativeEndian.Uint16(list[2:]), payload)...)
	}
	return out
}

// attribute encodes one netlink attribute, with its padding.
func attribute(typ uint16, payload []byte) []byte {
	out := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofNlAttr+len(payload)))
	out = binary.NativeEndian.AppendUint16(out, typ)
	return Pad(append(out, payload...))
}

// attr returns the payload of the first attribute of a type, and nil where there is none.
func attr(list []byte, typ uint16) []byte {
	for ; len(list) >= unix.SizeofNlAttr; list = list[min(align(attrLen(list)), len(list)):] {
		if attrType(list) == typ {
			return list[unix.SizeofNlAttr:attrLen(list)]
		}
	}
	return nil
}

func attrLen(list []byte) int {
	return min(max(int(binary.NativeEndian.Uint16(list)), unix.SizeofNlAttr), len(list))
}

func attrType(list []byte) uint16 {
	return binary.NativeEndian.Uint16(list[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
}

func align(n int) int { return (n + unix.NLA_ALIGNTO - 1) &^ (unix.NLA_ALIGNTO - 1) }
