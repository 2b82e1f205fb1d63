// Package ruleset turns forwards into the nftables table that publishes them.
//
// It is pure: a Table is a value, and its text is what nft(8) loads. The package never talks to the kernel;
// kernel/nft installs the same value through netlink.
//
// The table is small and does not grow with the forwards: chains hold one rule for each kind of listen
// address in use, and forwards are elements of sets and maps.
//
//	hook         priority        chain        what it does
//	prerouting   mangle - 10     bans         refuses banned clients, while there are bans
//	prerouting   mangle (-150)   helper       attaches the ftp helper to control connections; it must come
//	                                          after conntrack (-200) and before NAT (-100), or the kernel
//	                                          silently ignores it (net/netfilter/nft_ct.c)
//	prerouting   dstnat (-100)   prerouting   translates the destination: pinholes of tracking proxy, each
//	                                          for one connection; passthrough ranges, each for a client's
//	                                          encrypted sessions; listen addresses to servers; logs packets
//	                                          to a passive port that nothing matches
//	forward      security (50)   forward      logs the segments that begin and end connections, after all
//	                                          filters: kernel/conntrack counts bytes with them
//	postrouting  srcnat (100)    postrouting  gives connections through a pinhole or a passthrough range the
//	                                          address that the far end expects; masquerades everything else
//	                                          that prerouting translated, and nothing more
//	sources      srcnat - 10     postrouting  the first part of it, where an end sees the other end's address
//
// A forward with tracking proxy has no element: its control connections end in ftpgate, and its data
// connections come through pinholes and passthrough ranges, which kernel/nftset adds and deletes while the
// table stands. Passthrough ranges have a rule and maps for each range of server_ports.
package ruleset

import (
	"net/netip"

	"ftpgate/internal/core/ban"
	"ftpgate/internal/core/forward"
)

// Family is the nftables family of every table: one table serves IPv4 and IPv6.
const Family = "inet"

// HelperName is the name of the kernel's FTP helper and of the table's object for it.
const HelperName = "ftp"

// Table is a desired nftables table.
type Table struct {
	Name   string
	Helper bool // declare the ct helper object HelperName
	Sets   []Set
	Chains []Chain
}

// Set is a named set, or a map where Value is not empty. Elements are sorted and distinct.
type Set struct {
	Name     string
	Version  Version // of every address in it
	Key      []Column
	Value    []Column
	Interval bool // keys hold prefixes or port ranges
	Timeout  bool // elements are added while the table stands, and expire: Elements is empty
	Expires  bool // elements expire at their own time (Element.Banned)
	Limited  bool // an element matches pinhole.FirstPackets packets: in a chain for NAT, first ones
	Size     int  // how many elements the kernel accepts; 0: any number
	Elements []Element
}

// Element is an element of a set. Only the fields for the set's columns have values. Elements are comparable,
// to find the difference between two versions of a set.
type Element struct {
	Interface string            // ColumnInterface
	Banned    ban.Range         // ColumnBanned
	Client    netip.Prefix      // ColumnClient
	Listen    netip.Addr        // ColumnListen, ColumnDialled
	Server    netip.Addr        // ColumnServer, ColumnSource
	Ports     forward.PortRange // ColumnPort; First and Last are equal unless the set is an interval
	To        netip.Addr        // ColumnTo
	ToPort    uint16            // ColumnToPort
}

// Column is a part of a set's key or value. Its comment says which field of the packet it is compared with.
type Column uint8

// The columns, in the order in which keys name them.
const (
	ColumnInterface  Column = iota // iifname
	ColumnBanned                   // ip saddr, a range of addresses
	ColumnClient                   // ip saddr, a prefix
	ColumnListen                   // ip daddr before translation
	ColumnDialled                  // ct original ip daddr: what the client dialled, as seen after translation
	ColumnServer                   // ip daddr after translation
	ColumnSource                   // ip saddr, one address
	ColumnSourcePort               // tcp sport, of a connection of the gateway's own
	ColumnPort                     // tcp dport
	ColumnTo                       // value: address to translate to
	ColumnToPort                   // value: port to translate to
)

// Chain is a base chain with policy accept.
type Chain struct {
	Name     string
	Type     string // "filter" or "nat"
	Hook     string // "prerouting", "forward" or "postrouting"
	Priority Priority
	Rules    []Rule
}

// Priority is the priority of a chain at its hook.
type Priority struct {
	Name  string // nft's word
	Value int32  // include/uapi/linux/netfilter_ipv4.h, enum nf_ip_hook_priorities
}

// The priorities of the table's chains.
var (
	BeforeMangle = Priority{"mangle - 10", -160}
	Mangle       = Priority{"mangle", -150}
	DstNAT       = Priority{"dstnat", -100}
	Security     = Priority{"security", 50}
	BeforeSrcNAT = Priority{"srcnat - 10", 90}
	SrcNAT       = Priority{"srcnat", 100}
)

// Rule is a list of statements: first matches, then an action.
type Rule []Statement

// Empty reports whether the table does nothing: none of its forwards needs the kernel.
func (t Table) Empty() bool { return len(t.Chains) == 0 }

// Version is one of the two versions of IP.
type Version uint8

// The versions of IP, in the order of their rules.
const (
	IPv4 Version = 4
	IPv6 Version = 6
)

var versions = []Version{IPv4, IPv6}

// is reports whether a is an address of the version.
func (v Version) is(a netip.Addr) bool { return a.IsValid() && a.Is4() == (v == IPv4) }

func (v Version) unspecified() netip.Addr {
	if v == IPv4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// allAddresses returns the prefix of all addresses.
func (v Version) allAddresses() netip.Prefix { return netip.PrefixFrom(v.unspecified(), 0) }

// server returns the server's address of the version. It is not valid if the server has none, or if the
// listen address is of the other version.
func (v Version) server(f forward.Resolved) netip.Addr {
	server := f.Server4
	if v == IPv6 {
		server = f.Server6
	}
	if !v.is(server) || !f.Listen.AcceptsFamily(server) {
		return netip.Addr{}
	}
	return server
}
