package conntrack

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/netflow"
)

// PerRound is how many flows one system call asks for.
const PerRound = perRound

// Create puts an established flow into the table that nothing will ever be sent on.
func (c *Conn) Create(t netflow.Tuple) error {
	const ctaTimeout = 7
	a := &c.request
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seq++
	flags := uint16(unix.NLM_F_REQUEST | unix.NLM_F_ACK | unix.NLM_F_CREATE | unix.NLM_F_EXCL)
	b := appendHeader(a.out[:0], ctNew, flags, a.seq, family(t))
	b = appendTuple(b, ctaTupleOrig, t)
	b = appendTuple(b, ctaTupleReply, netflow.Tuple{From: t.To, To: t.From})
	b = binary.BigEndian.AppendUint32(appendAttr(b, ctaTimeout, 4), 3600)
	b = appendAttr(b, ctaProtoinfo|unix.NLA_F_NESTED, 12)
	b = appendAttr(b, ctaProtoinfoTCP|unix.NLA_F_NESTED, 8)
	b = append(appendAttr(b, ctaProtoinfoTCPState, 1), byte(netflow.TCPEstablished), 0, 0, 0)
	if err := a.socket.send(finish(b, 0)); err != nil {
		return err
	}
	return a.acknowledged()
}

// ShrinkBuffers leaves so many bytes of the request socket's buffer in the kernel, or the least that it allows.
func (c *Conn) ShrinkBuffers(bytes int) error { return c.request.socket.conn.SetReadBuffer(bytes) }

// ShrinkBuffer does the same for a watcher.
func (w *Watcher) ShrinkBuffer(bytes int) error { return w.socket.conn.SetReadBuffer(bytes) }

// Waiting reads what waits for Run, and tells how many messages that is.
func (w *Watcher) Waiting() (count int, err error) {
	n, _, err := w.socket.poll(w.in)
	for range messages(w.in[:n]) {
		count++
	}
	return count, err
}

// Filtered counts the flows that the kernel lists for Find.
func (c *Conn) Filtered(from netip.Addr, to netip.AddrPort) (n int, err error) {
	t := netflow.Tuple{From: netip.AddrPortFrom(from, 0), To: to}
	err = c.list.dump(ctGet, family(t), appendFilter(nil, t), func(typ uint16, _ []byte) { n++ })
	return n, err
}
