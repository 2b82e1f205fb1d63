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
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"ftpgate/internal/core/forward"
	"ftpgate/internal/kernel/nft"
)

// condition is what is known of the packets that come to a place.
type condition struct {
	to     netip.Addr          // not valid: any
	ports  []forward.PortRange // TCP's, to which they go; empty: any
	iface  string              // from which they come; empty: any
	narrow bool                // there is more to it
	never  bool                // none of them begins a TCP connection
	jumps  []string            // where they go from here
}

// passedOn returns the condition as the next chain has it.
func (c condition) passedOn() condition {
	c.jumps = nil
	return c
}

func (c condition) key() string {
	return fmt.Sprint(c.to, c.ports, strconv.Quote(c.iface), c.narrow)
}

// content is what a register holds.
type content uint8

const (
	fieldOther     content = iota
	fieldPort              // TCP's destination port
	fieldTo                // the destination address
	fieldProtocol          // of the transport
	fieldInterface         // the name of the one that the packet came in by
	fieldFamily            // of the address
	fieldState             // of the connection
)

// reading is the reading of one rule.
type reading struct {
	*foreigner
	condition
	registers map[uint32]content
	from      uint16 // of a range of ports that is written as two comparisons
}

// conditionOf reads a rule's matches, on top of those on the way to it.
func (f *foreigner) conditionOf(r *nftables.Rule, came condition) (condition, error) {
	c := reading{foreigner: f, condition: came, registers: map[uint32]content{}, from: 1}
	for _, e := range r.Exprs {
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
			c.between(e)
		case *expr.Lookup:
			if err := c.lookup(r.Table, e); err != nil {
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

func payloadField(e *expr.Payload) content {
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

func metaField(key expr.MetaKey) content {
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

// bitwise takes in a mask: of the states that a rule is for, or of an address.
func (c *reading) bitwise(e *expr.Bitwise) {
	if c.registers[e.SourceRegister] != fieldState || len(e.Mask) != 4 {
		c.registers[e.DestRegister] = fieldOther
		return
	}
	c.registers[e.DestRegister] = fieldState
	c.never = c.never || binary.NativeEndian.Uint32(e.Mask)&expr.CtStateBitNEW == 0
}

// compare takes in one comparison.
func (c *reading) compare(of content, e *expr.Cmp) {
	equal := e.Op == expr.CmpOpEq
	port := uint16(0)
	if of == fieldPort && len(e.Data) == 2 {
		port = binary.BigEndian.Uint16(e.Data)
	}
	switch {
	case of == fieldFamily || of == fieldState:
	case of == fieldProtocol && equal && len(e.Data) > 0:
		c.never = c.never || e.Data[0] != unix.IPPROTO_TCP
	case port != 0 && equal:
		c.ports = []forward.PortRange{{First: port, Last: port}}
	case port != 0 && e.Op == expr.CmpOpGte:
		c.from = port
		c.ports = []forward.PortRange{{First: port, Last: forward.AllPorts.Last}}
	case port != 0 && e.Op == expr.CmpOpLte && c.from <= port:
		c.ports = []forward.PortRange{{First: c.from, Last: port}}
	case of == fieldTo && equal && (len(e.Data) == 4 || len(e.Data) == 16):
		c.to, _ = netip.AddrFromSlice(e.Data)
	case of == fieldInterface && equal && bytes.IndexByte(e.Data, 0) > 0: // without a NUL it is how names begin
		name, _, _ := bytes.Cut(e.Data, []byte{0})
		c.iface = string(name)
	default:
		c.narrow = true
	}
}

// between takes in a range.
func (c *reading) between(e *expr.Range) {
	if c.registers[e.Register] != fieldPort || e.Op != expr.CmpOpEq || len(e.FromData) != 2 || len(e.ToData) != 2 {
		c.narrow = true
		return
	}
	c.ports = []forward.PortRange{{First: binary.BigEndian.Uint16(e.FromData), Last: binary.BigEndian.Uint16(e.ToData)}}
}

// lookup takes in a set of ports, and the chains that a map of verdicts leads to.
func (c *reading) lookup(t *nftables.Table, e *expr.Lookup) error {
	set, err := c.conn.Read.GetSetByName(t, e.SetName)
	if err != nil {
		return fmt.Errorf("nft: list set %s of table %s: %w", e.SetName, t.Name, nft.Errno(err))
	}
	of := c.registers[e.SourceRegister]
	verdicts := e.IsDestRegSet && e.DestRegister == unix.NFT_REG_VERDICT
	if e.Invert || !verdicts && of != fieldState && (of != fieldPort || set.KeyType.Bytes != 2) {
		c.narrow = true
		return nil
	}
	elements, err := c.conn.Read.GetSetElements(set)
	if err != nil {
		return fmt.Errorf("nft: list set %s of table %s: %w", e.SetName, t.Name, nft.Errno(err))
	}
	switch {
	case verdicts: // to which of them a packet goes is not looked at
		c.narrow = true
		for _, el := range elements {
			c.jumps = append(c.jumps, jumpsOf(el.Val)...)
		}
	case of == fieldState:
		c.never = c.never || !slices.ContainsFunc(elements, func(el nftables.SetElement) bool {
			return len(el.Key) == 4 && binary.NativeEndian.Uint32(el.Key) == expr.CtStateBitNEW
		})
	default:
		c.ports = portsOf(elements)
	}
	return nil
}

// jumpsOf returns the chain that a verdict in a map leads to. The library leaves the verdict as the kernel
// sends it: attributes, of which NFTA_VERDICT_CHAIN is there for jumps alone.
func jumpsOf(verdict []byte) (chains []string) {
	attributes, err := netlink.NewAttributeDecoder(verdict)
	if err != nil {
		return nil
	}
	for attributes.Next() {
		if attributes.Type() == unix.NFTA_VERDICT_CHAIN {
			chains = append(chains, attributes.String())
		}
	}
	return chains
}

// portsOf reads the elements of a set of ports. In one with ranges each ends where the next element says so.
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

// match takes in the matches of iptables that are not translated to nftables.
func (c *reading) match(e *expr.Match) {
	switch info := e.Info.(type) {
	case *xt.Comment:
	case *xt.Tcp:
		if info.InvFlags&xt.TcpInvDestPorts != 0 {
			c.narrow = true
		} else if info.DstPorts != [2]uint16{0, 65535} {
			c.ports = []forward.PortRange{{First: info.DstPorts[0], Last: info.DstPorts[1]}}
		}
	case *xt.Udp:
		c.never = true
	default:
		c.narrow = true
	}
}
