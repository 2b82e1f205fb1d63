package conntrack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"ftpgate/internal/core/netflow"
	"ftpgate/internal/kernel/netlink"
)

// Messages and attributes of packets that rules log (include/uapi/linux/netfilter/nfnetlink_log.h).
const (
	logPacket = unix.NFNL_SUBSYS_ULOG << 8
	logConfig = unix.NFNL_SUBSYS_ULOG<<8 | 1

	logPayload = 9 // NFULA_PAYLOAD

	logCommand    = 1 // NFULA_CFG_CMD
	logMode       = 2 // NFULA_CFG_MODE
	logBufferSize = 3 // NFULA_CFG_NLBUFSIZ
	logTimeout    = 4 // NFULA_CFG_TIMEOUT
	logThreshold  = 5 // NFULA_CFG_QTHRESH

	commandBind   = 1 // NFULNL_CFG_CMD_BIND
	commandUnbind = 2 // NFULNL_CFG_CMD_UNBIND
	copyPacket    = 2 // NFULNL_COPY_PACKET
)

const (
	// headersLen is how much of each packet the kernel copies: IPv6's header and the longest one of TCP.
	headersLen = headerIPv6 + 60
	// The kernel hands segments over when it has gathered segmentsAtOnce of them, or after segmentsTime.
	segmentsAtOnce = 128
	segmentsTime   = 10 * time.Millisecond
	// segmentsBuffer is the size of the buffer in which the kernel gathers them, in bytes: more than
	// segmentsAtOnce need.
	segmentsBuffer = 24 << 10
)

// Segments receives the segments that a rule logs, since Listen.
type Segments struct {
	requester
	group uint16
}

// Listen begins to receive the segments that rules log to a group, in the network namespace that it is called
// in. The error wraps unix.EPERM if another program listens to the group, and EINVAL if the kernel has no
// such log (CONFIG_NETFILTER_NETLINK_LOG). The caller closes the Segments.
func Listen(group uint16) (*Segments, error) {
	s, err := dial(eventBuffer)
	if err != nil {
		return nil, err
	}
	l := &Segments{requester{socket: s, in: make([]byte, readSize), sequence: 1}, group}
	writeBind(&l.out, l.sequence, group)
	if err = s.send(l.out); err == nil {
		err = l.acknowledged()
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("conntrack: listen to log group %d: %w", group, err)
	}
	return l, nil
}

// writeBind writes a message that binds the socket to a group: the kernel sends the headers of the group's
// packets, many in one datagram.
func writeBind(b *netlink.Buffer, sequence uint32, group uint16) {
	start := beginLogConfig(b, sequence, group, commandBind)
	mode := b.BeginAttr(logMode)
	*b = append(binary.BigEndian.AppendUint32(*b, headersLen), copyPacket, 0)
	b.EndAttr(mode)
	b.Uint32(logBufferSize, segmentsBuffer)
	b.Uint32(logTimeout, uint32(segmentsTime/(10*time.Millisecond)))
	b.Uint32(logThreshold, segmentsAtOnce)
	b.EndMessage(start)
}

// beginLogConfig begins a message that configures a group, and returns its place for EndMessage.
func beginLogConfig(b *netlink.Buffer, sequence uint32, group uint16, command byte) (start int) {
	h := netlink.Header{Type: logConfig, Flags: unix.NLM_F_REQUEST | unix.NLM_F_ACK, Sequence: sequence}
	start = b.BeginNetfilter(h, unix.AF_UNSPEC, group)
	b.Uint8(logCommand, command)
	return start
}

// Close stops listening; Run returns.
func (s *Segments) Close() error { return s.socket.close() }

// Run calls deliver for each segment, at most about 10 ms late, until ctx ends; then for the segments that
// already wait, and returns nil. If there are too many, the kernel drops some: Run then calls missed, after
// it has delivered the segments that were kept. The error is os.ErrClosed after Close, or the kernel's. Run
// may be called once.
func (s *Segments) Run(ctx context.Context, deliver func(netflow.Segment), missed func()) error {
	resume, stop := s.socket.endWait(ctx)
	defer stop()
	for {
		n, lost, err := s.socket.wait(s.in)
		if ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			return s.rest(resume, deliver)
		}
		if err != nil {
			return fmt.Errorf("conntrack: receive segments: %w", err)
		}
		deliverSegments(s.in[:n], deliver)
		// After a loss the kernel drops everything until its queue is empty (netlink_overrun in
		// net/netlink/af_netlink.c).
		if lost {
			if err := s.drain(deliver); err != nil {
				return fmt.Errorf("conntrack: receive segments: %w", err)
			}
			missed()
		}
	}
}

// rest makes the kernel hand over the segments that it has gathered, and delivers them.
func (s *Segments) rest(resume func() error, deliver func(netflow.Segment)) error {
	s.sequence++
	s.out = s.out[:0]
	s.out.EndMessage(beginLogConfig(&s.out, s.sequence, s.group, commandUnbind))
	err := resume()
	if err == nil {
		err = s.socket.send(s.out)
	}
	if err == nil {
		err = s.drain(deliver)
	}
	if err != nil {
		return fmt.Errorf("conntrack: receive the last segments: %w", err)
	}
	return nil
}

// drain delivers the segments that already wait.
func (s *Segments) drain(deliver func(netflow.Segment)) (err error) {
	return s.socket.drain(s.in, func(b []byte) { deliverSegments(b, deliver) })
}

func deliverSegments(b []byte, deliver func(netflow.Segment)) {
	now := time.Now()
	for h, body := range netlink.Messages(b) {
		if h.Type != logPacket || len(body) < netlink.NetfilterLen {
			continue
		}
		if segment, ok := parseSegment(netlink.Find(body[netlink.NetfilterLen:], logPayload)); ok {
			segment.At = now
			deliver(segment)
		}
	}
}

// parseSegment reads the headers of a packet. ok is false if the packet is not TCP, is incomplete, or has
// extension headers of IPv6.
func parseSegment(packet []byte) (s netflow.Segment, ok bool) {
	if len(packet) == 0 {
		return s, false
	}
	var from, to netip.Addr
	var total int // without IP's header; less than TCP's header if the packet is too long to say (RFC 2675)
	switch header := 0; packet[0] >> 4 {
	case 4:
		header = int(packet[0]&0xf) * 4
		if len(packet) < max(header, headerIPv4) || header < headerIPv4 || packet[9] != unix.IPPROTO_TCP {
			return s, false
		}
		total = int(binary.BigEndian.Uint16(packet[2:])) - header
		from, to = netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:]))
		packet = packet[header:]
	case 6:
		if len(packet) < headerIPv6 || packet[6] != unix.IPPROTO_TCP {
			return s, false
		}
		total = int(binary.BigEndian.Uint16(packet[4:]))
		from, to = netip.AddrFrom16([16]byte(packet[8:])), netip.AddrFrom16([16]byte(packet[24:]))
		packet = packet[headerIPv6:]
	default:
		return s, false
	}
	if len(packet) < headerTCP {
		return s, false
	}
	total -= int(packet[12]>>4) * 4
	if total < 0 {
		return s, false
	}
	flags := packet[13]
	return netflow.Segment{
		From: netip.AddrPortFrom(from, binary.BigEndian.Uint16(packet)),
		To:   netip.AddrPortFrom(to, binary.BigEndian.Uint16(packet[2:])),
		FIN:  flags&1 != 0, SYN: flags&2 != 0, RST: flags&4 != 0, ACK: flags&16 != 0,
		Sequence:     binary.BigEndian.Uint32(packet[4:]),
		Acknowledged: binary.BigEndian.Uint32(packet[8:]),
		Length:       uint32(total),
	}, true
}
