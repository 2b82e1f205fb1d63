package nft

import (
	"encoding/binary"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"ftpgate/internal/core/ruleset"
)

// The kernel translates the packets of running connections while there is any chain for NAT, and any rule
// that reads conntrack. When another program flushes the ruleset there is none for a moment, and the gateway
// itself answers the packets of every transfer with a reset. So a second table has one such chain and one
// such rule, which do nothing:
//
//	table inet keep-nat-ftpgate {
//		flags owner
//		chain postrouting {
//			type nat hook postrouting priority srcnat; policy accept;
//			ct status dnat
//		}
//	}
//
// It belongs to a socket of this process: "nft flush ruleset" leaves it out, no other program can remove it,
// and it ends with the socket (nft_flush and nft_rcv_nl_event in net/netfilter/nf_tables_api.c).

// tableOwner is NFT_TABLE_F_OWNER (include/uapi/linux/netfilter/nf_tables.h, since Linux 5.12).
const tableOwner = 1 << 1

// keepNATTable returns the name of the table that keeps NAT for another table.
func keepNATTable(table string) string { return "keep-nat-" + table }

// keepNAT adds the table that keeps NAT. It is no error if the kernel knows no owners: transfers may break
// then when another program flushes the ruleset.
func (c *Conn) keepNAT(table string) {
	b := newBatch()
	b.owner = true
	chain := libChain(keepNATTable(table), ruleset.Chain{Name: "postrouting", Type: "nat",
		Hook:     "postrouting",
		Priority: ruleset.SrcNAT})
	b.enc.AddTable(chain.Table)
	b.operation("add table %s", chain.Table.Name)
	b.enc.AddChain(chain)
	b.operation("add chain postrouting")
	b.enc.AddRule(&nftables.Rule{Table: chain.Table, Chain: chain,
		Exprs: encodeRule(ruleset.Rule{ruleset.Translated{}})})
	b.operation("add rule")
	c.natKept = b.send(c.natOwner) == nil
}

// releaseNAT removes the table that keeps NAT.
func (c *Conn) releaseNAT(table string) error {
	if !c.natKept {
		return nil
	}
	b := newBatch()
	b.enc.DelTable(libTable(keepNATTable(table)))
	b.operation("delete table %s", keepNATTable(table))
	c.natKept = false
	return b.send(c.natOwner)
}

// own makes the table that a message adds one that belongs to the socket.
func own(table []byte) []byte {
	return amend(table, unix.NFTA_TABLE_FLAGS, func([]byte) []byte {
		return binary.BigEndian.AppendUint32(nil, tableOwner)
	})
}
