package nft

import (
	"fmt"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"ftpgate/internal/core/pinhole"
	"ftpgate/internal/kernel/netlink"
)

// The functions of this file add to a message what the library cannot express. A message begins with struct
// nfgenmsg.

// addCtDirection adds the direction to "ct original ip daddr". The library sends it only for keys without a
// family, and the kernel answers EINVAL. The message is a rule's.
func addCtDirection(rule []byte) []byte {
	return amend(rule, unix.NFTA_RULE_EXPRESSIONS, addDirections)
}

// addDirections is addCtDirection for a rule's list of expressions.
func addDirections(exprs []byte) []byte {
	return netlink.Rewrite(exprs, unix.NFTA_LIST_ELEM, func(elem []byte) []byte {
		if string(netlink.Text(netlink.Find(elem, unix.NFTA_EXPR_NAME))) != "ct" {
			return elem
		}
		return netlink.Rewrite(elem, unix.NFTA_EXPR_DATA, func(data []byte) []byte {
			switch netlink.Uint32(netlink.Find(data, unix.NFTA_CT_KEY)) {
			case ctKeyDestinationIP, ctKeyDestinationIP6:
				out := netlink.Buffer(slices.Clip(data))
				out.Uint8(unix.NFTA_CT_DIRECTION, directionOriginal)
				return out
			}
			return data
		})
	})
}

// counterToLimit turns the counter of a set's elements, the only expression of elements that the library
// knows, into the limit that ruleset.Set.Limited asks for: limit rate 1/day burst 4 packets. The message is a
// set's.
func counterToLimit(set []byte) []byte {
	limit, err := expr.Marshal(unix.NFPROTO_INET,
		&expr.Limit{Type: expr.LimitTypePkts, Rate: 1, Unit: expr.LimitTimeDay, Burst: pinhole.FirstPackets})
	if err != nil {
		panic(fmt.Sprintf("nft: limit: %v", err)) // a constant
	}
	return amend(set, setExpression, func([]byte) []byte { return limit })
}

// amend rewrites the attributes of one type in a message.
func amend(message []byte, typ uint16, rewrite func([]byte) []byte) []byte {
	header, attributes := message[:netlink.NetfilterLen], message[netlink.NetfilterLen:]
	return append(slices.Clip(header), netlink.Rewrite(attributes, typ, rewrite)...)
}

// Kernel constants that the library lacks (include/uapi/linux/netfilter/nf_tables.h, nf_conntrack_common.h).
const (
	ctKeyDestinationIP  = 20 // NFT_CT_DST_IP
	ctKeyDestinationIP6 = 22 // NFT_CT_DST_IP6
	directionOriginal   = 0  // IP_CT_DIR_ORIGINAL
	setExpression       = 17 // NFTA_SET_EXPR
)
