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
	// headersLen is the longest header of IPv6 and of TCP.
	headersLen = headerIPv6 + 60
	// segmentsAtOnce and segmentsTime are when the kernel hands over what it has gathered.
	segmentsAtOnce = 128
	segmentsTime   = 10 * time.Millisecond
	// segmentsBuffer is what the kernel gathers in, in bytes: more than segmentsAtOnce need.
	segmentsBuffer = 24 << 10
)

// Segments receives the segments that a rule logs, from Listen on.
type Segments struct {
	asking
	group uint16
}

// Listen begins to receive what rules log to a group, in the network namespace that it is called in. The error
// is unix.EPERM where another program listens to the group, too, and EINVAL where the kernel has no log to listen
// to (CONFIG_NETFILTER_NETLINK_LOG). The caller closes it.
func Listen(group uint16) (*Segments, error) {
	s, err := dial(eventBuffer)
	if err != nil {
		return nil, err
	}
	l := &Segments{asking{socket: s, in: make([]byte, readSize), seq: 1}, group}
	if err = s.send(appendBind(nil, l.seq, group)); err == nil {
		err = l.acknowledged()
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("conntrack: listen to log group %d: %w", group, err)
	}
	return l, nil
}

// appendBind appends a message that has the kernel send the packets of a group, gathered, and their headers alone.
func appendBind(b []byte, seq uint32, group uint16) []byte {
	start := len(b)
	b = appendLogConfig(b, seq, group, commandBind)
	number := func(typ uint16, n uint32) {
		b = appendAttr(b, typ, 4)
		b = binary.BigEndian.AppendUint32(b, n)
	}
	b = appendAttr(b, logMode, 6)
	b = append(binary.BigEndian.AppendUint32(b, headersLen), copyPacket, 0, 0, 0)
	number(logBufferSize, segmentsBuffer)
	number(logTimeout, uint32(segmentsTime/(10*time.Millisecond)))
	number(logThreshold, segmentsAtOnce)
	return finish(b, start)
}

// appendLogConfig appends the beginning of a message that says something of a group.
func appendLogConfig(b []byte, seq uint32, group uint16, command byte) []byte {
	b = appendHeader(b, logConfig, unix.NLM_F_REQUEST|unix.NLM_F_ACK, seq, unix.AF_UNSPEC)
	binary.BigEndian.PutUint16(b[len(b)-2:], group)
	return append(appendAttr(b, logCommand, 1), command, 0, 0, 0) // and padding
}

// Close ends it; Run returns.
func (s *Segments) Close() error { return s.socket.close() }

// Run gives each segment to deliver, at most some 10 ms late, until ctx ends; then those that are there already,
// and returns nil. Where there are too many, some are lost: Run calls missed, after what was kept. The error is that of
// what was closed, or of the kernel. Run may be called once.
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
		if lost { // and so is everything until nothing waits (netlink_overrun in net/netlink/af_netlink.c)
			if err := s.drain(deliver); err != nil {
				return fmt.Errorf("conntrack: receive segments: %w", err)
			}
			missed()
		}
	}
}

// rest has the kernel hand over what it has gathered.
func (s *Segments) rest(resume func() error, deliver func(netflow.Segment)) error {
	s.seq++
	err := resume()
	if err == nil {
		err = s.socket.send(finish(appendLogConfig(nil, s.seq, s.group, commandUnbind), 0))
	}
	if err == nil {
		err = s.drain(deliver)
	}
	if err != nil {
		return fmt.Errorf("conntrack: receive the last segments: %w", err)
	}
	return nil
}

// drain delivers what is there.
func (s *Segments) drain(deliver func(netflow.Segment)) (err error) {
	for n := 1; err == nil && n > 0; {
		n, _, err = s.socket.poll(s.in)
		deliverSegments(s.in[:n], deliver)
	}
	return err
}

func deliverSegments(b []byte, deliver func(netflow.Segment)) {
	now := time.Now()
	for h, body := range messages(b) {
		if h.typ != logPacket || len(body) < nfgenLen {
			continue
		}
		if segment, ok := parseSegment(child(body[nfgenLen:], logPayload)); ok {
			segment.At = now
			deliver(segment)
		}
	}
}

// parseSegment reads the headers of a packet. It is false for what is not TCP, or not whole, or has extensions of
// IPv6's header.
func parseSegment(packet []byte) (s netflow.Segment, ok bool) {
	if len(packet) == 0 {
		return s, false
	}
	var from, to netip.Addr
	var total int // without IP's header; less than that of TCP where the packet is too long to say (RFC 2675)
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
		From: netip.AddrPortFrom(from, binary.BigEndian.Uint16(packet)), To: netip.AddrPortFrom(to, binary.BigEndian.Uint16(packet[2:])),
		FIN: flags&1 != 0, SYN: flags&2 != 0, RST: flags&4 != 0, ACK: flags&16 != 0,
		Sequence: binary.BigEndian.Uint32(packet[4:]), Acknowledged: binary.BigEndian.Uint32(packet[8:]), Length: uint32(total),
	}, true
}
