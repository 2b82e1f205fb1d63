package conntrack

import (
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/kernel/netlink"
)

// PerRound is how many flows one system call asks for.
const PerRound = perRound

// Create adds an established flow to the table; no packet ever belongs to it.
func (c *Conn) Create(t netflow.Tuple) error {
	const ctaTimeout = 7
	r := &c.lookups
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sequence++
	b := r.out[:0]
	flags := uint16(unix.NLM_F_REQUEST | unix.NLM_F_ACK | unix.NLM_F_CREATE | unix.NLM_F_EXCL)
	message := b.BeginNetfilter(netlink.Header{Type: ctNew, Flags: flags, Sequence: r.sequence}, family(t), 0)
	writeTuple(&b, nl.CTA_TUPLE_ORIG, t)
	writeTuple(&b, nl.CTA_TUPLE_REPLY, netflow.Tuple{From: t.To, To: t.From})
	b.Uint32(ctaTimeout, 3600)
	protocol := b.BeginNested(nl.CTA_PROTOINFO)
	tcp := b.BeginNested(nl.CTA_PROTOINFO_TCP)
	b.Uint8(nl.CTA_PROTOINFO_TCP_STATE, uint8(netflow.TCPEstablished))
	b.EndAttr(tcp)
	b.EndAttr(protocol)
	b.EndMessage(message)
	if err := r.socket.send(b); err != nil {
		return err
	}
	return r.acknowledged()
}

// ShrinkBuffer limits the buffer in the kernel for answers to Get to this many bytes, or the least that is
// allowed.
func (c *Conn) ShrinkBuffer(bytes int) error { return c.lookups.socket.conn.SetReadBuffer(bytes) }

// ShrinkBuffer does the same for a watcher.
func (w *Watcher) ShrinkBuffer(bytes int) error { return w.socket.conn.SetReadBuffer(bytes) }

// Waiting reads the messages that wait for Run, and counts them.
func (w *Watcher) Waiting() (count int, err error) {
	n, _, err := w.socket.poll(w.in)
	for range netlink.Messages(w.in[:n]) {
		count++
	}
	return count, err
}

// Filtered counts the flows that the kernel lists for Find.
func (c *Conn) Filtered(from netip.Addr, to netip.AddrPort) (n int, err error) {
	t := netflow.Tuple{From: netip.AddrPortFrom(from, 0), To: to}
	var filter netlink.Buffer
	writeFilter(&filter, t)
	err = c.dumps.dump(family(t), filter, func([]byte) { n++ })
	return n, err
}
