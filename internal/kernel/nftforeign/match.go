package nftforeign

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/netlink"
)

// condition says which packets match a rule and all rules on the way to it.
type condition struct {
	to         netip.Addr          // the destination; not valid: any
	ports      []forward.PortRange // TCP destination ports; empty: any
	iface      string              // the input interface; empty: any
	narrow     bool                // there are conditions that are not read
	impossible bool                // no packet that begins a TCP connection matches
	jumps      []string            // the chains that matching packets go to
}

// withoutJumps returns the condition for the chain that a rule jumps to.
func (c condition) withoutJumps() condition {
	c.jumps = nil
	return c
}

func (c condition) key() string {
	return fmt.Sprint(c.to, c.ports, strconv.Quote(c.iface), c.narrow)
}

// field is a field of the packet that a rule has loaded into a register.
type field uint8

const (
	fieldOther     field = iota
	fieldPort            // TCP's destination port
	fieldTo              // the destination address
	fieldProtocol        // of the transport
	fieldInterface       // the name of the input interface
	fieldFamily          // of the address
	fieldState           // of the connection
)

// matcher reads the matches of one rule, expression by expression.
type matcher struct {
	*reader
	condition
	registers map[uint32]field
	from      uint16 // the first port of a range that is written as two comparisons
}

// conditionOf returns the condition of a rule that packets reach under another condition.
func (r *reader) conditionOf(rule *nftables.Rule, incoming condition) (condition, error) {
	c := matcher{reader: r, condition: incoming, registers: map[uint32]field{}, from: 1}
	for _, e := range rule.Exprs {
		switch e := e.(type) {
		case *expr.Payload:
			c.registers[e.DestRegister] = payloadField(e)
		case *expr.Meta:
			if !e.SourceRegister {
				c.registers[e.Register] = metaField(e.Key)
			}
		case *expr.Ct:
			if !e.SourceRegister {
				c.registers[e.Register] = fieldOther
				if e.Key == expr.CtKeySTATE {
					c.registers[e.Register] = fieldState
				}
			}
		case *expr.Bitwise:
			c.bitwise(e)
		case *expr.Cmp:
			c.compare(c.registers[e.Register], e)
		case *expr.Range:
			c.portRange(e)
		case *expr.Lookup:
			if err := c.lookup(rule.Table, e); err != nil {
				return condition{}, err
			}
		case *expr.Match:
			c.match(e)
		case *expr.Verdict:
			if e.Kind == expr.VerdictJump || e.Kind == expr.VerdictGoto {
				c.jumps = append(c.jumps, e.Chain)
			}
		case *expr.Fib, *expr.Limit, *expr.Connlimit, *expr.Exthdr, *expr.Quota, *expr.Numgen, *expr.Hash:
			c.narrow = true
		}
	}
	return c.condition, nil
}

func payloadField(e *expr.Payload) field {
	switch {
	case e.OperationType != expr.PayloadLoad:
	case e.Base == expr.PayloadBaseTransportHeader && e.Offset == 2 && e.Len == 2:
		return fieldPort
	case e.Base == expr.PayloadBaseNetworkHeader && e.Offset == 16 && e.Len == 4, // of IPv4
		e.Base == expr.PayloadBaseNetworkHeader && e.Offset == 24 && e.Len == 16:
		return fieldTo
	case e.Base == expr.PayloadBaseNetworkHeader && e.Offset == 9 && e.Len == 1: // of IPv4
		return fieldProtocol
	}
	return fieldOther
}

func metaField(key expr.MetaKey) field {
	switch key {
	case expr.MetaKeyL4PROTO:
		return fieldProtocol
	case expr.MetaKeyIIFNAME:
		return fieldInterface
	case expr.MetaKeyNFPROTO:
		return fieldFamily
	}
	return fieldOther
}

// bitwise reads a mask: of connection states, or of an address.
func (c *matcher) bitwise(e *expr.Bitwise) {
	if c.registers[e.SourceRegister] != fieldState || len(e.Mask) != 4 {
		c.registers[e.DestRegister] = fieldOther
		return
	}
	c.registers[e.DestRegister] = fieldState
	c.impossible = c.impossible || binary.NativeEndian.Uint32(e.Mask)&expr.CtStateBitNEW == 0
}

func (c *matcher) compare(of field, e *expr.Cmp) {
	equal := e.Op == expr.CmpOpEq
	port := uint16(0)
	if of == fieldPort && len(e.Data) == 2 {
		port = binary.BigEndian.Uint16(e.Data)
	}
	switch {
	case of == fieldFamily || of == fieldState:
	case of == fieldProtocol && equal && len(e.Data) > 0:
		c.impossible = c.impossible || e.Data[0] != unix.IPPROTO_TCP
	case port != 0 && equal:
		c.ports = []forward.PortRange{{First: port, Last: port}}
	case port != 0 && e.Op == expr.CmpOpGte:
		c.from = port
		c.ports = []forward.PortRange{{First: port, Last: forward.AllPorts.Last}}
	case port != 0 && e.Op == expr.CmpOpLte && c.from <= port:
		c.ports = []forward.PortRange{{First: c.from, Last: port}}
	case of == fieldTo && equal && (len(e.Data) == 4 || len(e.Data) == 16):
		c.to, _ = netip.AddrFromSlice(e.Data)
	case of == fieldInterface && equal && bytes.IndexByte(e.Data, 0) > 0:
		// Without a zero byte it would be the beginning of names.
		c.iface = string(netlink.Text(e.Data))
	default:
		c.narrow = true
	}
}

func (c *matcher) portRange(e *expr.Range) {
	isRange := e.Op == expr.CmpOpEq && len(e.FromData) == 2 && len(e.ToData) == 2
	if c.registers[e.Register] != fieldPort || !isRange {
		c.narrow = true
		return
	}
	first, last := binary.BigEndian.Uint16(e.FromData), binary.BigEndian.Uint16(e.ToData)
	c.ports = []forward.PortRange{{First: first, Last: last}}
}

// lookup reads a set of ports or of states, or the chains that a map of verdicts jumps to.
func (c *matcher) lookup(t *nftables.Table, e *expr.Lookup) error {
	set, err := c.conn.GetSetByName(t, e.SetName)
	if err != nil {
		return fmt.Errorf("nftforeign: list set %s of table %s: %w", e.SetName, t.Name, netlink.Errno(err))
	}
	of := c.registers[e.SourceRegister]
	verdicts := e.IsDestRegSet && e.DestRegister == unix.NFT_REG_VERDICT
	if e.Invert || !verdicts && of != fieldState && (of != fieldPort || set.KeyType.Bytes != 2) {
		c.narrow = true
		return nil
	}
	elements, err := c.conn.GetSetElements(set)
	if err != nil {
		return fmt.Errorf("nftforeign: list set %s of table %s: %w", e.SetName, t.Name, netlink.Errno(err))
	}
	switch {
	case verdicts: // which packet goes to which chain is not read
		c.narrow = true
		for _, el := range elements {
			c.jumps = append(c.jumps, jumpsOf(el.Val)...)
		}
	case of == fieldState:
		c.impossible = c.impossible || !slices.ContainsFunc(elements, func(el nftables.SetElement) bool {
			return len(el.Key) == 4 && binary.NativeEndian.Uint32(el.Key) == expr.CtStateBitNEW
		})
	default:
		c.ports = portsOf(elements)
	}
	return nil
}

// jumpsOf returns the chains that a verdict in a map jumps to: one or none. The library leaves the verdict as
// the kernel sends it: a list of attributes. Only jumps have NFTA_VERDICT_CHAIN.
func jumpsOf(verdict []byte) (chains []string) {
	for typ, value := range netlink.Attributes(verdict) {
		if typ == unix.NFTA_VERDICT_CHAIN {
			chains = append(chains, string(netlink.Text(value)))
		}
	}
	return chains
}

// portsOf reads the elements of a set of ports. In a set with ranges, an element with IntervalEnd follows the
// end of each range.
func portsOf(elements []nftables.SetElement) (ports []forward.PortRange) {
	ends := map[uint16]bool{}
	ranges := false
	for _, e := range elements {
		if len(e.Key) == 2 && e.IntervalEnd {
			ranges, ends[binary.BigEndian.Uint16(e.Key)] = true, true
		}
	}
	for _, e := range elements {
		if len(e.Key) != 2 || e.IntervalEnd {
			continue
		}
		r := forward.PortRange{First: binary.BigEndian.Uint16(e.Key)}
		for r.Last = r.First; ranges && r.Last < forward.AllPorts.Last && !ends[r.Last+1]; {
			r.Last++
		}
		ports = append(ports, r)
	}
	return ports
}

// match reads a match of iptables that nftables has no expression for.
func (c *matcher) match(e *expr.Match) {
	switch info := e.Info.(type) {
	case *xt.Comment:
	case *xt.Tcp:
		if info.InvFlags&xt.TcpInvDestPorts != 0 {
			c.narrow = true
		} else if info.DstPorts != [2]uint16{0, 65535} {
			c.ports = []forward.PortRange{{First: info.DstPorts[0], Last: info.DstPorts[1]}}
		}
	case *xt.Udp:
		c.impossible = true
	default:
		c.narrow = true
	}
}
